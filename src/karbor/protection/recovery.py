"""The catalogue from the bank: after the database was lost, every checkpoint is listed, shown and restored again.

The bank is the truth: a checkpoint is there when its snapshot is. What only the database knew is not made up: a plan
comes back as the bank's history has it, or as its newest checkpoint does; what the history tells of restores,
verifications, logs and of checkpoints that failed comes back too, and what was under way then has ended with a reason.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.bank.checkpoints import held, load_manifest
from karbor.bank.history import entries, newest
from karbor.domain import checkpoint as states
from karbor.domain.checkpoint import Checkpoint
from karbor.domain.operation import FAIL, IN_PROGRESS, OperationLog, Restore, Verification
from karbor.domain.plan import Plan
from karbor.errors import BankForeign, Damaged, NotFound, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from karbor.bank.checkpoints import Held
    from karbor.bank.history import Change
    from karbor.bank.manifest import Manifest
    from karbor.bank.vault.repository import Repository
    from karbor.protection.catalogue import Catalogue, Record

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Plan, Checkpoint, Restore, Verification, OperationLog)}
_LOST = "the database was lost while it was under way"
_BATCH = 200
"""Records in one transaction."""


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What a recovery of one repository added, what was there already, and what it could not read and why."""

    checkpoints: int
    deleted: int
    """Of the checkpoints, those that are deleted and whose grace has not ended."""
    plans: int
    present: int
    history: int
    """Number of the newest entry of the bank's history that was found."""
    unreadable: tuple[str, ...]


def recover(catalogue: Catalogue, repository: Repository) -> Recovered:
    """Add to the catalogue what the repository holds and the catalogue lacks. Nothing that is there is changed, so
    that it may be repeated; nothing is written to the bank.
    """
    found: list[Checkpoint] = []
    unreadable: list[str] = []
    present = 0
    for each in held(repository):
        if _known(catalogue, Checkpoint, each.project_id, each.checkpoint_id):
            present += 1
            continue
        try:
            found.append(_checkpoint(each, load_manifest(repository, each.snapshot_id)))
        except (Damaged, ObjectMissing, BankForeign) as error:
            unreadable.append(f"checkpoint {each.checkpoint_id}: {error.message}")
    kept = _one_each(found)
    told, number = _told(repository, unreadable)
    plans = {plan.id: plan for plan in _plans(kept)} | {each.id: each for each in told if isinstance(each, Plan)}
    new = [plan for plan in plans.values() if not _known(catalogue, Plan, plan.project_id, plan.id)]
    held_ids = {record.id for record in kept}
    rest = [each for each in told if not isinstance(each, Plan) and each.id not in held_ids]
    rest = [each for each in rest if not _known(catalogue, type(each), each.project_id, each.id)]
    records: tuple[Record, ...] = (*new, *kept, *rest)
    for first in range(0, len(records), _BATCH):
        catalogue.transact(partial(_insert, catalogue, records[first : first + _BATCH]))
    return Recovered(
        checkpoints=len(kept),
        deleted=sum(record.status == states.DELETED for record in kept),
        plans=len(new),
        present=present,
        history=number,
        unreadable=tuple(unreadable),
    )


def _told(repository: Repository, unreadable: list[str]) -> tuple[list[Any], int]:
    """The records that the bank's history tells of, as they were last, and the number of its newest entry."""
    changes: list[Change] = []
    number = 0
    try:
        for entry in entries(repository):
            changes.extend(entry.changes)
            number = entry.number
    except (Damaged, ObjectMissing) as error:
        unreadable.append(f"history after entry {number}: {error.message}")
    told = [_ended(msgspec.convert(change.record, _KINDS[change.kind])) for change in newest(changes)]
    return told, number


def _ended(record: Any) -> Any:
    """What was under way when the database was lost is under way no longer."""
    ending = {
        states.PROTECTING: states.ERROR,
        states.DELETING: states.ERROR_DELETING,
        states.AVAILABLE: states.ERROR if isinstance(record, Checkpoint) else states.AVAILABLE,
        IN_PROGRESS: FAIL,
    }.get(record.status)
    if ending is None or ending == record.status:
        return record
    if isinstance(record, OperationLog):
        return msgspec.structs.replace(record, status=ending, error_info=_LOST)
    lost = isinstance(record, Checkpoint) and record.status == states.AVAILABLE
    reason = "its snapshot is not in the bank" if lost else _LOST
    return msgspec.structs.replace(record, status=ending, reason=reason)


def _insert(catalogue: Catalogue, records: Iterable[Record], tx: Any) -> None:
    for record in records:
        catalogue.insert(tx, record)


def _known(catalogue: Catalogue, kind: Any, project_id: str, ident: str) -> bool:
    try:
        catalogue.get(kind, project_id, ident)
    except NotFound:
        return False
    return True


def _checkpoint(each: Held, manifest: Manifest) -> Checkpoint:
    return Checkpoint(
        id=manifest.checkpoint_id,
        project_id=manifest.place.project_id,
        provider_id=manifest.provider_id,
        plan_id=manifest.plan_id,
        plan_name=manifest.plan_name,
        status=states.DELETED if each.deleted else states.AVAILABLE,
        created_at=manifest.created_at,
        finished_at=manifest.finished_at,
        resources=manifest.resources,
        parameters=manifest.parameters,
        extra_info=manifest.extra_info,
        graph=manifest.graph,
        states=manifest.states,
        snapshot_id=each.snapshot_id,
        logical_bytes=sum(state.logical_bytes for state in manifest.states),
        added_bytes=sum(state.added_bytes for state in manifest.states),
        verify_level="committed",
        survives=manifest.survives,
        warnings=manifest.warnings,
    )


def _one_each(found: Iterable[Checkpoint]) -> list[Checkpoint]:
    """One record for each checkpoint. A deletion that was cut off between its two writes leaves a tombstone beside the
    snapshot: the checkpoint was not deleted yet, and is not lost.
    """
    kept: dict[str, Checkpoint] = {}
    for record in found:
        if record.id not in kept or record.status == states.AVAILABLE:
            kept[record.id] = record
    return sorted(kept.values(), key=lambda record: (record.created_at, record.id))


def _plans(checkpoints: Iterable[Checkpoint]) -> list[Plan]:
    """The plans of checkpoints that come oldest first, each as its newest has it."""
    plans: dict[str, Plan] = {}
    for record in checkpoints:
        first = plans.get(record.plan_id)
        plans[record.plan_id] = Plan(
            id=record.plan_id,
            project_id=record.project_id,
            name=record.plan_name,
            provider_id=record.provider_id,
            resources=record.resources,
            parameters=record.parameters,
            created_at=first.created_at if first else record.created_at,
        )
    return list(plans.values())
