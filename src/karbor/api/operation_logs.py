"""Handlers: the operation log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from karbor.api import times
from karbor.api.listing import Listing, shown_scope
from karbor.domain.operation import OperationLog
from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.protection.service import ProtectionService

LISTING = Listing(
    filters={name: name for name in ("checkpoint_id", "plan_id", "restore_id", "status")},
    admin_filters={name: name for name in ("operation_type", "provider_id")},
    sort={name: name for name in ("id", "status", "created_at")},
    unknown_is_empty=True,
)


def list_operation_logs(service: ProtectionService, call: Call) -> list[answers.OperationLog]:
    """A page of what was done, newest first where no order is asked for."""
    query = LISTING.query(call)
    return [_log(log) for log in service.catalogue.list(OperationLog, query)] if query else []


def show_operation_log(service: ProtectionService, call: Call) -> answers.OperationLog:
    """One run of an operation."""
    return _log(service.catalogue.get(OperationLog, shown_scope(call.caller), call.path["operation_log_id"]))


def _log(own: OperationLog) -> answers.OperationLog:
    return answers.OperationLog(
        id=own.id,
        operation_type=own.operation_type,
        status=own.status,
        provider_id=own.provider_id,
        checkpoint_id=own.checkpoint_id,
        plan_id=own.plan_id,
        restore_id=own.restore_id,
        scheduled_operation_id=own.scheduled_operation_id,
        started_at=times.zoneless(own.started_at),
        ended_at=times.zoneless(own.ended_at),
        error_info=own.error_info,
        extra_info=json.dumps(own.extra_info) if own.extra_info else None,
        verification_id=own.verification_id,
    )
