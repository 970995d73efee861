"""What each step of a run does. The worker calls this with every step that it has claimed.

A run is ``expand`` → the hooks of every resource → (``commit`` of a protect) → ``settle``; after a failure ``settle``
adds undo steps and ``finish``. Every action can be repeated: what it has done is recorded or found again.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from karbor.domain.checkpoint import AVAILABLE, Checkpoint
from karbor.domain.operation import HOOKS
from karbor.errors import KarborError, NotFound, PluginError
from karbor.flow.build import JOIN, Hooks, build
from karbor.flow.model import Done, NewRun, NewStep, Outcome
from karbor.protection.catalogue import Catalogue, Query
from karbor.protection.op import WorkingOp
from karbor.protection.outcome import undo_order
from karbor.protection.run import GRAPH, PREVIOUS, RunContext, Runs, encode, previous_trees
from karbor.sdk.op import Parked
from karbor.sdk.protection import hook_of, written_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from karbor.domain.clock import Clock
    from karbor.domain.operation import Operation
    from karbor.domain.resource import Resource
    from karbor.flow.journal import Journal
    from karbor.flow.worker import Claim
    from karbor.protection.ending import Endings
    from karbor.protection.inventory import Inventory
    from karbor.protection.joblocks import JobLocks
    from karbor.protection.run import RunInput
    from karbor.sdk.protectable import Session

EXPAND, COMMIT, SETTLE, FINISH, BURY, REVIVE = "expand", "commit", "settle", "finish", "bury", "revive"
_WITHOUT_BANK = frozenset({JOIN, SETTLE, FINISH})
"""Steps that must be possible when the bank is not."""


def first_steps(operation: str) -> tuple[NewStep, ...]:
    """The steps with which a run begins."""
    if operation == "protect":
        return (
            NewStep(action=EXPAND),
            NewStep(action=COMMIT, needs=(0,)),
            NewStep(action=SETTLE, needs=(0, 1), always=True),
        )
    first = {"delete": BURY, "undelete": REVIVE}.get(operation, EXPAND)
    return (NewStep(action=first), NewStep(action=SETTLE, needs=(0,), always=True))


_PRIORITY = {"restore": 0, "undelete": 0, "protect": 1, "verify": 2, "delete": 2}


def new_run(ident: str, operation: str, checkpoint: Checkpoint, begun: RunInput, epoch: int) -> NewRun:
    """A run of an operation on a checkpoint, with its first steps."""
    return NewRun(
        id=ident,
        operation=operation,
        project_id=checkpoint.project_id,
        provider_id=checkpoint.provider_id,
        checkpoint_id=checkpoint.id,
        object_id=begun.object_id or checkpoint.id,
        input=encode(begun),
        epoch=epoch,
        priority=_PRIORITY[operation],
        steps=first_steps(operation),
    )


class StepHandler:
    """Runs claimed steps; one instance serves all threads of a worker."""

    def __init__(
        self,
        *,
        runs: Runs,
        journal: Journal,
        catalogue: Catalogue,
        inventory: Inventory,
        endings: Endings,
        session_of: Callable[[RunInput], Session],
        locks: JobLocks,
        upkeep: Mapping[str, Callable[[Claim, RunContext], Outcome]],
        clock: Clock,
        scratch_root: Path,
    ) -> None:
        self._runs, self._journal, self._catalogue = runs, journal, catalogue
        self._inventory, self._endings, self._session_of = inventory, endings, session_of
        self._locks, self._clock, self._scratch_root = locks, clock, scratch_root
        self._own: dict[str, Callable[[Claim, RunContext], Outcome]] = {
            EXPAND: self._expand,
            BURY: self._bury,
            COMMIT: endings.commit,
            REVIVE: endings.revive,
            SETTLE: self._settle,
            FINISH: self._finish,
            JOIN: lambda _claim, _context: Done(),
            **upkeep,
        }

    def __call__(self, claim: Claim) -> Outcome:
        """Run one step; raises what the worker turns into a retry or a failure."""
        context = self._runs.context(claim.step)
        action = claim.step.action
        if action not in _WITHOUT_BANK and (context.operation == "protect" or context.input.snapshot_id):
            self._locks.need(context.repository, claim)
        own = self._own.get(action)
        outcome = own(claim, context) if own else self._hook(claim, context)
        if isinstance(outcome, Done) and outcome.end_run:
            self._locks.release(context.run_id)
        return outcome

    def close(self) -> None:
        """Give up what is held in banks: the worker has ended."""
        self._locks.close()

    # --- the run's own steps

    def _expand(self, claim: Claim, context: RunContext) -> Outcome:
        if context.operation != "protect":
            return Done(add=self._hook_steps(context, context.operation))
        known = context.records.get(GRAPH)
        if known is None:
            session = self._session_of(context.input)
            graph = self._inventory.graph(session, context.input.resources)
            context.provider.check_operation("protect", graph.resources)
            trees = previous_trees(context.repository, self._last(context))
            self._journal.record(claim.worker_id, claim.step, PREVIOUS, encode(trees))
            self._journal.record(claim.worker_id, claim.step, GRAPH, encode(graph))
            del context.records
        return Done(add=self._hook_steps(context, "protect"), effects=self._endings.expanded(context))

    def _last(self, context: RunContext) -> Checkpoint | None:
        """The plan's newest checkpoint in this bank, to read less than everything."""
        own = self._catalogue.get(Checkpoint, context.project_id, context.checkpoint_id)
        query = Query(
            scope=context.project_id,
            filters={"plan_id": own.plan_id, "provider_id": context.provider.id, "status": AVAILABLE},
            limit=1,
        )
        return next(iter(self._catalogue.list(Checkpoint, query)), None)

    def _hook_steps(self, context: RunContext, operation: Operation) -> tuple[NewStep, ...]:
        def hooks_of(resource: Resource) -> Hooks:
            plugin = context.provider.plugin_for(resource.type)
            return Hooks(plugin.name, plugin.version, written_hooks(plugin, operation))

        return build(operation, context.graph, hooks_of)

    def _bury(self, claim: Claim, context: RunContext) -> Outcome:
        """Delete: the tombstone first, then the snapshot, then, when there is no grace, what lies outside."""
        self._endings.bury(claim, context)
        for_good = context.input.purge or context.provider.grace_seconds <= 0
        if not context.input.snapshot_id or not for_good:
            return Done()
        return Done(add=self._hook_steps(context, "delete"))

    def _settle(self, claim: Claim, context: RunContext) -> Outcome:
        rows = self._journal.steps(context.run_id)
        bad = [row for row in rows if row.state in {"failed", "skipped", "cancelled"}]
        if not bad:
            return self._endings.success(claim, context, rows)
        if context.operation == "protect" or context.input.undo or claim.step.cancelled:
            try:
                undo = self._undo_steps(context, undo_order(rows))
            except NotFound:  # the administrator has removed the provider: nobody knows how to undo any more
                undo = ()
            if undo:
                last = NewStep(action=FINISH, needs=(len(undo) - 1,), always=True)
                return Done(add=(*undo, last))
        return self._endings.failure(claim, context, rows)

    def _undo_steps(self, context: RunContext, order: list[int]) -> tuple[NewStep, ...]:
        """One after another, the last begun first; a resource whose undo fails does not keep the others."""
        steps: list[NewStep] = []
        for node in order:
            resource = context.graph.resources[node]
            plugin = context.provider.plugin_for(resource.type)
            if hook_of(plugin, context.operation, "undo") is not None:
                steps.append(
                    NewStep(
                        action=f"{context.operation}_undo",
                        node=node,
                        resource=resource.key,
                        plugin=plugin.name,
                        plugin_version=plugin.version,
                        needs=(len(steps) - 1,) if steps else (),
                        always=True,
                    )
                )
        return tuple(steps)

    def _finish(self, claim: Claim, context: RunContext) -> Outcome:
        return self._endings.failure(claim, context, self._journal.steps(context.run_id))

    # --- hooks of plugins

    def _hook(self, claim: Claim, context: RunContext) -> Outcome:
        step = claim.step
        operation, _, hook = step.action.partition("_")
        plugin = context.provider.plugin_for(context.graph.resources[step.node].type)
        method = hook_of(plugin, context.operation, hook)
        if operation != context.operation or hook not in {*HOOKS, "undo"} or method is None:
            raise PluginError(f"{plugin.name} has no hook {step.action} any more")
        if (plugin.name, plugin.version) != (step.plugin, step.plugin_version):
            raise PluginError(
                f"the step was begun with {step.plugin} {step.plugin_version}; "
                f"{plugin.name} {plugin.version} cannot go on with it"
            )
        with ExitStack() as stack:
            op = WorkingOp(
                context,
                claim,
                self._journal,
                plugin,
                session=self._session_of(context.input),
                clock=self._clock,
                scratch=lambda: self._scratch(stack),
            )
            try:
                method(op)
            except Parked:
                raise
            except KarborError as error:
                if claim.last_try or not error.retryable:
                    op.clean_up()
                raise
            except Exception:
                op.clean_up()
                raise
            op.clean_up()
        return Done()

    def _scratch(self, stack: ExitStack) -> Path:
        self._scratch_root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=self._scratch_root))
        stack.callback(shutil.rmtree, path, ignore_errors=True)
        return path
