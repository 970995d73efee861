"""The inventory: what there is to protect, and what it depends on.

One listing per type and run, joined in memory; a listing that fails fails the whole, it never drops resources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from karbor.domain.graph import build
from karbor.domain.resource import Resource
from karbor.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from karbor.domain.graph import ResourceGraph
    from karbor.sdk.protectable import Protectable, Session


class Instance(msgspec.Struct, frozen=True):
    """A resource with its direct dependents."""

    resource: Resource
    dependents: tuple[Resource, ...]


class Inventory:
    """Protectables by resource type."""

    def __init__(self, protectables: Mapping[str, Protectable], problems: Mapping[str, str]) -> None:
        self._protectables = dict(sorted(protectables.items()))
        self.problems = dict(problems)

    def types(self) -> list[str]:
        """Resource types that can be listed."""
        return list(self._protectables)

    def dependent_types(self, kind: str) -> list[str]:
        """Types whose resources a resource of this type may depend on directly."""
        self._plugin(kind)
        return [other for other, plugin in self._protectables.items() if kind in plugin.parents]

    def instances(self, session: Session, kind: str) -> list[Instance]:
        """Every resource of a type with its direct dependents, by one listing per type."""
        resources = list(self._plugin(kind).list(session))
        below = self._below(session, resources)
        return [Instance(resource, tuple(below.get(resource.key, ()))) for resource in resources]

    def instance(self, session: Session, kind: str, ident: str) -> Instance:
        """One resource with its direct dependents; `NotFound` where there is none."""
        resource = self._plugin(kind).show(session, ident)
        if resource is None:
            raise NotFound(f"The resource {ident} of type {kind} could not be found.")
        return Instance(resource, tuple(self._below(session, [resource]).get(resource.key, ())))

    def graph(self, session: Session, roots: Sequence[Resource]) -> ResourceGraph:
        """The graph of a plan's resources as they are now: level by level, one listing per type and level."""
        below: dict[str, list[Resource]] = {}
        level = list(roots)
        while level:
            found = self._below(session, level)
            below.update({resource.key: found.get(resource.key, []) for resource in level})
            fresh = {child.key: child for row in found.values() for child in row if child.key not in below}
            level = list(fresh.values())
        layers = {resource.key: resource.layer for resource in roots if resource.layer}

        def dependents(resource: Resource) -> list[Resource]:
            """As listed, in the layer that the plan gives them where it names them too."""
            return [
                msgspec.structs.replace(child, layer=layers[child.key]) if child.key in layers else child
                for child in below[resource.key]
            ]

        return build(roots, dependents)

    def _below(self, session: Session, parents: Iterable[Resource]) -> dict[str, list[Resource]]:
        by_type: dict[str, list[Resource]] = {}
        for parent in parents:
            by_type.setdefault(parent.type, []).append(parent)
        found: dict[str, list[Resource]] = {}
        for plugin in self._protectables.values():
            mine = [parent for kind in plugin.parents for parent in by_type.get(kind, ())]
            if mine:
                for key, children in plugin.dependents(session, mine).items():
                    found.setdefault(key, []).extend(children)
        return found

    def _plugin(self, kind: str) -> Protectable:
        plugin = self._protectables.get(kind)
        if plugin is None:
            hint = self.problems.get(kind, "")
            raise InvalidInput("Invalid input received: Invalid protectable type provided.", field="type", hint=hint)
        return plugin
