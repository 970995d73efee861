"""Checkpoints: their states, what each resource of one states, and what a checkpoint survives."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from karbor.domain.graph import ResourceGraph
from karbor.domain.plan import Parameters
from karbor.domain.resource import Resource
from karbor.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable

PROTECTING = "protecting"
AVAILABLE = "available"
ERROR = "error"
CANCELLED = "cancelled"
DELETING = "deleting"
DELETED = "deleted"
ERROR_DELETING = "error-deleting"
WAIT_COPYING = "wait_copying"
COPYING = "copying"

MOVES: dict[str, frozenset[str]] = {
    PROTECTING: frozenset({AVAILABLE, ERROR, CANCELLED}),
    WAIT_COPYING: frozenset({COPYING, ERROR, CANCELLED}),
    COPYING: frozenset({AVAILABLE, ERROR, CANCELLED}),
    AVAILABLE: frozenset({DELETING, ERROR}),
    ERROR: frozenset({DELETING, AVAILABLE}),
    CANCELLED: frozenset({DELETING}),
    DELETING: frozenset({DELETED, ERROR_DELETING}),
    ERROR_DELETING: frozenset({DELETING, ERROR}),
    DELETED: frozenset({AVAILABLE}),
}
"""The allowed moves. `deleted` → `available` is undelete, within the grace period."""

DataLocation = Literal["none", "bank", "cloud backup", "cloud snapshot", "freezer container"]
Consistency = Literal["none", "crash", "group", "file system", "application"]
VerifyLevel = Literal["", "committed", "structure", "data", "drilled"]
Loss = Literal["resource", "project", "back end", "cloud"]

_SURVIVES: dict[str, frozenset[Loss]] = {
    "none": frozenset({"resource", "project", "back end", "cloud"}),  # nothing was stored, so nothing can be lost
    "bank": frozenset({"resource", "project", "back end", "cloud"}),
    "cloud backup": frozenset({"resource", "back end"}),
    "cloud snapshot": frozenset({"resource"}),
    "freezer container": frozenset({"resource", "back end"}),
}
LOSSES: tuple[Loss, ...] = ("resource", "project", "back end", "cloud")


class ResourceState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a checkpoint states of one resource."""

    key: str
    status: str
    reason: str = ""
    data_location: DataLocation = "none"
    consistency: Consistency = "none"
    logical_bytes: int = 0
    read_bytes: int = 0
    added_bytes: int = 0
    files: int = 0
    skipped_count: dict[str, int] = msgspec.field(default_factory=dict)
    duration_seconds: float = 0.0
    attempts: int = 0


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The catalogue's record of a checkpoint; the manifest in the bank is the truth."""

    id: str
    project_id: str
    provider_id: str
    plan_id: str
    plan_name: str
    status: str
    created_at: datetime
    resources: tuple[Resource, ...]
    """Those of the plan, as it was when the checkpoint was begun."""
    parameters: Parameters = msgspec.field(default_factory=dict)
    extra_info: dict[str, Any] = msgspec.field(default_factory=dict)
    graph: ResourceGraph | None = None
    states: tuple[ResourceState, ...] = ()
    reason: str = ""
    finished_at: datetime | None = None
    snapshot_id: str = ""
    logical_bytes: int = 0
    added_bytes: int = 0
    verify_level: VerifyLevel = ""
    verified_at: datetime | None = None
    survives: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_move(checkpoint_id: str, current: str, wanted: str) -> None:
    """Raise `Conflict` where a checkpoint may not go from one status to the other."""
    if wanted not in MOVES.get(current, frozenset()):
        raise Conflict(f"checkpoint {checkpoint_id} is {current}: it cannot become {wanted}")


def survives(states: Iterable[ResourceState], bank_survives: frozenset[Loss]) -> tuple[Loss, ...]:
    """Which losses leave the whole checkpoint restorable: what every one of its resources survives.

    `bank_survives` says from which losses the bank itself stands apart: empty where it shares a device
    with what it protects.
    """
    common = frozenset(LOSSES)
    for state in states:
        own = _SURVIVES[state.data_location]
        common &= own & bank_survives if state.data_location == "bank" else own
    return tuple(loss for loss in LOSSES if loss in common)
