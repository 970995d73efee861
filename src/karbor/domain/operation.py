"""Operations on checkpoints as the user sees them: restores, verifications and the operation log."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from karbor.domain.plan import Parameters

Operation = Literal["protect", "restore", "verify", "delete", "copy"]
OPERATIONS: tuple[Operation, ...] = ("protect", "restore", "verify", "delete", "copy")

Hook = Literal["prepare_begin", "prepare_finish", "main", "complete"]
HOOKS: tuple[Hook, ...] = ("prepare_begin", "prepare_finish", "main", "complete")

IN_PROGRESS = "in_progress"
SUCCESS = "success"
FAIL = "fail"
CANCELLED = "cancelled"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why something ended as it did, in a form that helps at three in the morning."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    resource: str = ""
    step: str = ""
    service: str = ""
    """The foreign service that failed, its `status` and the `request_id` it gave."""
    status: int = 0
    request_id: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is: bytes, steps, and what is being done."""

    done_bytes: int = 0
    total_bytes: int = 0
    done_steps: int = 0
    total_steps: int = 0
    current: str = ""


class Restore(msgspec.Struct, frozen=True, kw_only=True):
    """One restore of a checkpoint, or of a part of it."""

    id: str
    project_id: str
    provider_id: str
    checkpoint_id: str
    parameters: Parameters
    status: str
    created_at: datetime
    restore_target: str | None = None
    resources: tuple[str, ...] = ()
    """Keys of the part to restore; empty for everything."""
    resources_status: dict[str, str] = msgspec.field(default_factory=dict)
    """By the key of the new resource, as v1 has it."""
    resources_reason: dict[str, str] = msgspec.field(default_factory=dict)
    places: tuple[str, ...] = ()
    """What it writes to, as its pre-flight named it: no other restore writes there meanwhile."""
    restored: dict[str, str] = msgspec.field(default_factory=dict)
    """Key of the original → key of the new resource."""
    reason: str = ""
    finished_at: datetime | None = None

    def meets(self, other: Restore) -> str:
        """A place of the other's that is one of this one's, or lies below or above one; empty where there is none."""
        pairs = ((mine, theirs) for mine in self.places for theirs in other.places)
        return next((b for a, b in pairs if a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/")), "")


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """One reading back of a checkpoint."""

    id: str
    project_id: str
    provider_id: str
    checkpoint_id: str
    parameters: Parameters
    status: str
    created_at: datetime
    resources_status: dict[str, str] = msgspec.field(default_factory=dict)
    """By the key of the original resource."""
    resources_reason: dict[str, str] = msgspec.field(default_factory=dict)
    level: str = ""
    reason: str = ""
    finished_at: datetime | None = None


class OperationLog(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the user sees it."""

    id: str
    project_id: str
    operation_type: str
    status: str
    provider_id: str
    checkpoint_id: str | None = None
    plan_id: str | None = None
    restore_id: str | None = None
    verification_id: str | None = None
    scheduled_operation_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error_info: str | None = None
    extra_info: dict[str, Any] = msgspec.field(default_factory=dict)
