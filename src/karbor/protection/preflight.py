"""Pre-flights: what an operation would do, asked of every plugin concerned; nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.bank.checkpoints import load_manifest, load_meta
from karbor.domain.plan import parameters_for
from karbor.domain.preflight import Preflight, PreflightItem, joined
from karbor.errors import UnsupportedOperation
from karbor.protection.op import parsed_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from karbor.domain.checkpoint import Checkpoint
    from karbor.domain.clock import Clock
    from karbor.domain.context import Caller
    from karbor.domain.operation import Operation
    from karbor.domain.plan import Parameters, Plan
    from karbor.domain.resource import Resource
    from karbor.protection.inventory import Inventory
    from karbor.protection.vaults import Vaults
    from karbor.providers import Provider
    from karbor.sdk.protectable import Session


class Looking:
    """Implements `karbor.sdk.op.Look`."""

    def __init__(
        self,
        resource: Resource,
        children: tuple[Resource, ...],
        options: Mapping[str, Any],
        saved: Mapping[str, Any],
        session: Session,
        clock: Clock,
    ) -> None:
        self.resource, self.children = resource, children
        self.options, self.saved = options, saved
        self.session, self.clock = session, clock
        self.project_id = session.project_id


class Preflights:
    """Asks plugins; `session_of` gives the caller's own connection."""

    def __init__(
        self, inventory: Inventory, vaults: Vaults, session_of: Callable[[Caller], Session], clock: Clock
    ) -> None:
        self.session_of = session_of
        self._inventory, self._vaults, self._clock = inventory, vaults, clock

    def protect(self, caller: Caller, provider: Provider, plan: Plan) -> Preflight:
        """What a protect of the plan would read and make."""
        session = self.session_of(caller)
        graph = self._inventory.graph(session, plan.resources)
        provider.check_operation("protect", graph.resources)
        parts: list[tuple[PreflightItem, ...]] = []
        for i, resource in enumerate(graph.resources):
            children = tuple(graph.resources[child] for child in graph.children[i])
            look = self._look(provider, "protect", resource, children, plan.parameters, {}, session)
            parts.append(tuple(provider.plugin_for(resource.type).preflight_protect(look)))
        return joined(parts)

    def restore(
        self,
        caller: Caller,
        provider: Provider,
        checkpoint: Checkpoint,
        parameters: Parameters,
        selected: tuple[str, ...],
    ) -> Preflight:
        """What a restore of the checkpoint, or of the selected part, would do. Bad parameters raise `InvalidInput`."""
        session = self.session_of(caller)
        repository = self._vaults.open(provider, checkpoint.project_id)
        manifest = load_manifest(repository, checkpoint.snapshot_id)
        graph = manifest.graph.closure(selected) if selected else manifest.graph
        provider.check_operation("restore", graph.resources)
        parts: list[tuple[PreflightItem, ...]] = []
        for i, resource in enumerate(graph.resources):
            children = tuple(graph.resources[child] for child in graph.children[i])
            saved = load_meta(repository, manifest, resource.key).saved
            look = self._look(provider, "restore", resource, children, parameters, saved, session)
            try:
                parts.append(tuple(provider.plugin_for(resource.type).preflight_restore(look)))
            except UnsupportedOperation as error:
                parts.append((_refused(resource, error.message),))
        return joined(parts)

    def _look(
        self,
        provider: Provider,
        operation: Operation,
        resource: Resource,
        children: tuple[Resource, ...],
        parameters: Parameters,
        saved: Mapping[str, Any],
        session: Session,
    ) -> Looking:
        given = parameters_for(parameters, resource)
        options = parsed_options(provider.plugin_for(resource.type), operation, given)
        return Looking(resource, children, options, saved, session, self._clock)


def _refused(resource: Resource, reason: str) -> PreflightItem:
    return PreflightItem(resource=resource.key, action="refuse", what=resource.name or resource.id, reason=reason)
