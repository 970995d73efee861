"""The operation log: what was asked for, by whom, and what it was about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.domain.operation import OperationLog

if TYPE_CHECKING:
    from datetime import datetime

    from karbor.domain.checkpoint import Checkpoint
    from karbor.domain.context import Caller


def new_log(
    ident: str,
    now: datetime,
    caller: Caller,
    operation: str,
    status: str,
    checkpoint: Checkpoint,
    *,
    restore_id: str | None = None,
    verification_id: str | None = None,
    reason: str = "",
) -> OperationLog:
    """The log of an operation that begins now. It belongs to the checkpoint's project, whoever the caller is."""
    why = {"reason": reason} if reason else {}
    return OperationLog(
        id=ident,
        project_id=checkpoint.project_id,
        operation_type=operation,
        status=status,
        provider_id=checkpoint.provider_id,
        checkpoint_id=checkpoint.id,
        plan_id=checkpoint.plan_id,
        restore_id=restore_id,
        verification_id=verification_id,
        started_at=now,
        extra_info={"user_id": caller.user_id, "request_id": caller.request_id, **why},
    )
