"""How runs end: the commit of a checkpoint to the bank, and what the catalogue and the log say afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from karbor import __version__
from karbor.bank.checkpoints import Prepared, load_manifest, prepare, revived, tombstone
from karbor.bank.manifest import Manifest, Meta, Place
from karbor.bank.vault.structure import require_whole
from karbor.domain import checkpoint as states
from karbor.domain import operation as operations
from karbor.domain.checkpoint import Checkpoint, survives
from karbor.domain.operation import OperationLog, Restore, Verification
from karbor.domain.resource import Resource
from karbor.errors import KarborError
from karbor.flow.model import Done, Outcome
from karbor.protection.op import REGISTERED, SAVED, WARNINGS, SavedRecord
from karbor.protection.outcome import Left, resource_states, summary
from karbor.protection.run import BURIED, RUN_NODE
from karbor.protection.vault import WRITTEN
from karbor.sdk.vault import Written

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from karbor.domain.checkpoint import Loss, ResourceState
    from karbor.domain.clock import Clock
    from karbor.flow.journal import Journal
    from karbor.flow.model import Effects, StepRow
    from karbor.flow.worker import Claim
    from karbor.protection.catalogue import Catalogue
    from karbor.protection.run import RunContext

S = TypeVar("S")

COMMITTED = "committed"
REVIVED = "revived"


class _Commit(msgspec.Struct, frozen=True, kw_only=True):
    """Journalled before the snapshot is put: a replay puts the same bytes."""

    prepared: Prepared
    states: tuple[states.ResourceState, ...]
    survives: tuple[str, ...]
    warnings: tuple[str, ...]
    added_bytes: int


class Endings:
    """The last steps of every operation."""

    def __init__(
        self,
        journal: Journal,
        catalogue: Catalogue,
        clock: Clock,
        *,
        host: str,
        independence: Callable[[RunContext], tuple[frozenset[Loss], tuple[str, ...]]],
    ) -> None:
        self._journal, self._catalogue, self._clock = journal, catalogue, clock
        self._host, self._independence = host, independence

    # --- protect

    def expanded(self, context: RunContext) -> Effects:
        """The catalogue learns the graph."""

        def effects(tx: Any) -> None:
            record = self._checkpoint(context, tx)
            self._catalogue.replace(tx, msgspec.structs.replace(record, graph=context.graph))

        return effects

    def commit(self, claim: Claim, context: RunContext) -> Outcome:
        """The bank gets the manifest and, last, the snapshot: from then on the checkpoint exists. Before that all that
        it needs must be there."""
        done = self._journalled(claim, context, COMMITTED, _Commit, lambda: self._prepare(context))
        require_whole(context.repository, bytes.fromhex(done.prepared.tree))
        claim.lease.check()
        context.repository.put_snapshot(done.prepared.snapshot_id, done.prepared.sealed)
        return Done()

    def _prepare(self, context: RunContext) -> _Commit:
        record = self._catalogue.get(Checkpoint, context.project_id, context.checkpoint_id)
        rows = self._journal.steps(context.run_id)
        found = self._left(context)
        resources = resource_states(context.graph, rows, found)
        bank_survives, notes = self._independence(context)
        caller = context.input.caller
        manifest = Manifest(
            checkpoint_id=record.id,
            provider_id=record.provider_id,
            plan_id=record.plan_id,
            plan_name=record.plan_name,
            place=Place(
                project_id=record.project_id,
                project_name=caller.project_name,
                domain_id=caller.domain_id,
                host=self._host,
            ),
            created_at=record.created_at,
            finished_at=self._clock.now(),
            resources=record.resources,
            parameters=record.parameters,
            graph=context.graph,
            states=resources,
            trees={},
            extra_info=record.extra_info,
            survives=survives(resources, bank_survives),
            warnings=(*notes, *self._warnings(context)),
            service=__version__,
        )
        metas = {resource.key: self._meta(context, i, found) for i, resource in enumerate(context.graph.resources)}
        data = {context.graph.resources[i].key: written.tree for i, written in found.written.items()}
        with context.repository.writer(context.provider.compression) as writer:
            _, prepared = prepare(writer, manifest, metas, data)
            added = writer.added_bytes
        return _Commit(
            prepared=prepared,
            states=resources,
            survives=manifest.survives,
            warnings=manifest.warnings,
            added_bytes=added + sum(state.added_bytes for state in resources),
        )

    def _meta(self, context: RunContext, node: int, found: Left) -> Meta:
        resource = context.graph.resources[node]
        plugin = context.provider.plugin_for(resource.type)
        saved = found.saved.get(node)
        document = saved.document if saved else {}
        return Meta(resource=resource, plugin=plugin.name, plugin_version=plugin.version, saved=document)

    def _left(self, context: RunContext) -> Left:
        def all_of(name: str, kind: Any) -> dict[int, Any]:
            rows = self._journal.all_records(context.run_id, name)
            return {node: msgspec.json.decode(raw, type=kind) for node, raw in rows}

        return Left(saved=all_of(SAVED, SavedRecord), written=all_of(WRITTEN, Written))

    def _warnings(self, context: RunContext) -> tuple[str, ...]:
        rows = sorted(self._journal.all_records(context.run_id, WARNINGS))
        resources = context.graph.resources
        return tuple(f"{resources[node].key}: {line}" for node, raw in rows for line in msgspec.json.decode(raw))

    # --- delete

    def bury(self, claim: Claim, context: RunContext) -> None:
        """Put the tombstone, then forget the checkpoint's snapshot. The tombstone keeps the data until the grace ends."""
        snapshot_id = context.input.snapshot_id
        if not snapshot_id or context.input.purge:
            return
        _ = context.manifest  # read while the snapshot is there: the delete hooks need it
        now = self._clock.now()
        stone = self._journalled(
            claim, context, BURIED, Prepared, lambda: tombstone(context.repository, snapshot_id, now)
        )
        claim.lease.check()
        context.repository.put_snapshot(stone.snapshot_id, stone.sealed)
        context.repository.forget(snapshot_id)

    def revive(self, claim: Claim, context: RunContext) -> Outcome:
        """Undelete: the checkpoint's snapshot again, then the tombstone goes."""
        tombstone_id = context.input.snapshot_id
        again = self._journalled(claim, context, REVIVED, Prepared, lambda: revived(context.repository, tombstone_id))
        claim.lease.check()
        context.repository.put_snapshot(again.snapshot_id, again.sealed)
        load_manifest(context.repository, again.snapshot_id)
        context.repository.forget(tombstone_id)
        return Done()

    def _journalled(self, claim: Claim, context: RunContext, name: str, kind: type[S], make: Callable[[], S]) -> S:
        """What is to be put into the bank, made once and journalled before: a replay puts the same bytes."""
        known = self._recorded(context, name, kind)
        if known is not None:
            return known
        made = make()
        claim.lease.check()
        self._journal.record(claim.worker_id, claim.step, name, msgspec.json.encode(made))
        return made

    def _recorded(self, context: RunContext, name: str, kind: type[S]) -> S | None:
        """What the run's own steps journalled under a name; asked anew, because a context remembers older records."""
        raw = self._journal.records(context.run_id, RUN_NODE).get(name)
        return msgspec.json.decode(raw, type=kind) if raw else None

    # --- how a run ends

    def success(self, claim: Claim, context: RunContext, rows: list[StepRow]) -> Outcome:
        """Everything was done."""
        effects = {
            "protect": self._protected,
            "restore": self._restored,
            "verify": self._verified,
            "delete": self._deleted,
            "undelete": self._undeleted,
        }[context.operation](claim, context, rows)
        return Done(effects=effects, end_run="succeeded")

    def failure(self, claim: Claim, context: RunContext, rows: list[StepRow]) -> Outcome:
        """Something failed or was cancelled; every resource says what became of it."""
        cancelled = claim.step.cancelled
        reason = summary(rows)
        now = self._clock.now()

        def effects(tx: Any) -> None:
            status = {
                "protect": lambda: self._protect_failed(context, rows, cancelled, reason, tx, now),
                "restore": lambda: self._object_failed(Restore, context, rows, cancelled, reason, tx, now),
                "verify": lambda: self._object_failed(Verification, context, rows, cancelled, reason, tx, now),
                "delete": lambda: self._delete_failed(context, reason, tx, now),
                "undelete": lambda: states.DELETED,
            }[context.operation]()
            self._close_log(context, tx, status, now, reason)

        return Done(effects=effects, end_run="cancelled" if cancelled else "failed", reason=reason)

    def _protected(self, _claim: Claim, context: RunContext, _rows: list[StepRow]) -> Effects:
        done = self._recorded(context, COMMITTED, _Commit)
        assert done is not None, "a protect settles well only after its commit"
        now = self._clock.now()

        def effects(tx: Any) -> None:
            record = self._checkpoint(context, tx)
            states.check_move(record.id, record.status, states.AVAILABLE)
            new = msgspec.structs.replace(
                record,
                status=states.AVAILABLE,
                states=done.states,
                snapshot_id=done.prepared.snapshot_id,
                finished_at=now,
                logical_bytes=sum(state.logical_bytes for state in done.states),
                added_bytes=done.added_bytes,
                survives=done.survives,
                warnings=done.warnings,
                verify_level="structure",
            )
            self._catalogue.replace(tx, new, expected_status=record.status)
            self._close_log(context, tx, states.AVAILABLE, now, "")

        return effects

    def _restored(self, _claim: Claim, context: RunContext, _rows: list[StepRow]) -> Effects:
        made = self._registered(context)
        now = self._clock.now()

        def effects(tx: Any) -> None:
            record = self._catalogue.get(Restore, context.project_id, context.input.object_id, tx=tx)
            new = msgspec.structs.replace(
                record,
                status=operations.SUCCESS,
                restored=made,
                resources_status=dict.fromkeys(made.values(), states.AVAILABLE),
                resources_reason=dict.fromkeys(made.values(), ""),
                finished_at=now,
            )
            self._catalogue.replace(tx, new, expected_status=operations.IN_PROGRESS)
            self._close_log(context, tx, operations.SUCCESS, now, "")

        return effects

    def _registered(self, context: RunContext) -> dict[str, str]:
        rows = dict(self._journal.all_records(context.run_id, REGISTERED))
        return {
            resource.key: msgspec.json.decode(rows[i], type=Resource).key if i in rows else resource.key
            for i, resource in enumerate(context.graph.resources)
        }

    def _verified(self, _claim: Claim, context: RunContext, _rows: list[StepRow]) -> Effects:
        keys = [resource.key for resource in context.graph.resources]
        now = self._clock.now()

        def effects(tx: Any) -> None:
            record = self._catalogue.get(Verification, context.project_id, context.input.object_id, tx=tx)
            new = msgspec.structs.replace(
                record,
                status=operations.SUCCESS,
                level="data",
                resources_status=dict.fromkeys(keys, states.AVAILABLE),
                resources_reason=dict.fromkeys(keys, ""),
                finished_at=now,
            )
            self._catalogue.replace(tx, new, expected_status=operations.IN_PROGRESS)
            checkpoint = self._checkpoint(context, tx)
            proved = msgspec.structs.replace(checkpoint, verify_level="data", verified_at=now)
            self._catalogue.replace(tx, proved)
            self._close_log(context, tx, operations.SUCCESS, now, "")

        return effects

    def _deleted(self, claim: Claim, context: RunContext, _rows: list[StepRow]) -> Effects:
        purge = context.input.purge
        buried = self._recorded(context, BURIED, Prepared)
        stone = context.input.snapshot_id if purge else buried.snapshot_id if buried else ""
        if stone and (purge or context.provider.grace_seconds <= 0):
            claim.lease.check()
            context.repository.forget(stone)
            stone = ""
        now = self._clock.now()

        def effects(tx: Any) -> None:
            record = self._checkpoint(context, tx)
            new = msgspec.structs.replace(record, status=states.DELETED, snapshot_id=stone, finished_at=now)
            self._catalogue.replace(tx, new, expected_status=states.DELETED if purge else states.DELETING)
            self._close_log(context, tx, states.DELETED, now, "")

        return effects

    def _undeleted(self, _claim: Claim, context: RunContext, _rows: list[StepRow]) -> Effects:
        again = self._recorded(context, REVIVED, Prepared)
        assert again is not None, "an undelete settles well only after the snapshot is back"
        now = self._clock.now()

        def effects(tx: Any) -> None:
            record = self._checkpoint(context, tx)
            states.check_move(record.id, record.status, states.AVAILABLE)
            new = msgspec.structs.replace(
                record, status=states.AVAILABLE, snapshot_id=again.snapshot_id, finished_at=now
            )
            self._catalogue.replace(tx, new, expected_status=states.DELETED)
            self._close_log(context, tx, states.AVAILABLE, now, "")

        return effects

    def _protect_failed(
        self, context: RunContext, rows: list[StepRow], cancelled: bool, reason: str, tx: Any, now: datetime
    ) -> str:
        record = self._checkpoint(context, tx)
        status = states.CANCELLED if cancelled else states.ERROR
        states.check_move(record.id, record.status, status)
        new = msgspec.structs.replace(
            record, status=status, reason=reason, states=self._states(context, rows), finished_at=now
        )
        self._catalogue.replace(tx, new, expected_status=record.status)
        return status

    def _object_failed(
        self,
        kind: type[Restore | Verification],
        context: RunContext,
        rows: list[StepRow],
        cancelled: bool,
        reason: str,
        tx: Any,
        now: datetime,
    ) -> str:
        scope, ident = context.project_id, context.input.object_id
        record = (
            self._catalogue.get(Restore, scope, ident, tx=tx)
            if kind is Restore
            else self._catalogue.get(Verification, scope, ident, tx=tx)
        )
        ended = self._states(context, rows)
        status = operations.CANCELLED if cancelled else operations.FAIL
        new = msgspec.structs.replace(
            record,
            status=status,
            reason=reason,
            resources_status={state.key: state.status for state in ended},
            resources_reason={state.key: state.reason for state in ended},
            finished_at=now,
        )
        self._catalogue.replace(tx, new, expected_status=operations.IN_PROGRESS)
        return status

    def _delete_failed(self, context: RunContext, reason: str, tx: Any, now: datetime) -> str:
        record = self._checkpoint(context, tx)
        if context.input.purge:  # it stays deleted for everybody; the next upkeep tries again
            self._catalogue.replace(tx, msgspec.structs.replace(record, reason=reason))
            return states.ERROR_DELETING
        buried = self._recorded(context, BURIED, Prepared)
        left = buried.snapshot_id if buried else record.snapshot_id
        new = msgspec.structs.replace(
            record, status=states.ERROR_DELETING, reason=reason, finished_at=now, snapshot_id=left
        )
        self._catalogue.replace(tx, new, expected_status=states.DELETING)
        return states.ERROR_DELETING

    def _states(self, context: RunContext, rows: list[StepRow]) -> tuple[ResourceState, ...]:
        if not any(row.node >= 0 for row in rows):
            return ()  # it failed before the graph was known
        try:
            return resource_states(context.graph, rows, self._left(context))
        except KarborError:  # the provider or the bank is gone: the run must end all the same
            return ()

    def _checkpoint(self, context: RunContext, tx: Any) -> Checkpoint:
        return self._catalogue.get(Checkpoint, context.project_id, context.checkpoint_id, tx=tx)

    def _close_log(self, context: RunContext, tx: Any, status: str, now: datetime, reason: str) -> None:
        log = self._catalogue.get(OperationLog, context.project_id, context.input.log_id, tx=tx)
        ended = msgspec.structs.replace(log, status=status, ended_at=now, error_info=reason or None)
        self._catalogue.replace(tx, ended)
