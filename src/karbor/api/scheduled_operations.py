"""Handlers: scheduled operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from karbor.api.listing import Listing, shown_scope
from karbor.domain.schedule import ScheduledOperation
from karbor.wire import schedules as wire

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.schedule.service import ScheduleService

LISTING = Listing(
    filters={
        "name": "name~",
        "operation_type": "operation_type",
        "trigger_id": "trigger_id",
        "operation_definition": "definition_text~",
    },
    sort={name: name for name in ("id", "name", "operation_type", "created_at")},
)


def list_scheduled_operations(service: ScheduleService, call: Call) -> list[wire.ScheduledOperation]:
    """A page of standing orders."""
    query = LISTING.query(call)
    return [_operation(one) for one in service.catalogue.list(ScheduledOperation, query)] if query else []


def show_scheduled_operation(service: ScheduleService, call: Call) -> wire.ScheduledOperation:
    """One standing order."""
    ident = call.path["scheduled_operation_id"]
    return _operation(service.catalogue.get(ScheduledOperation, shown_scope(call.caller), ident))


def create_scheduled_operation(service: ScheduleService, call: Call) -> wire.ScheduledOperation:
    """A new standing order."""
    body: wire.ScheduledOperationCreate = call.body
    made = service.create_operation(
        call.caller,
        name=body.name,
        description=body.description,
        operation_type=body.operation_type,
        trigger_id=body.trigger_id,
        definition=cast("dict[str, str]", body.operation_definition),
        enabled=body.enabled,
    )
    return _operation(made)


def delete_scheduled_operation(service: ScheduleService, call: Call) -> None:
    """Delete a standing order; the checkpoints it made stay."""
    service.delete_operation(call.caller, call.path["scheduled_operation_id"])


def _operation(own: ScheduledOperation) -> wire.ScheduledOperation:
    return wire.ScheduledOperation(
        id=own.id,
        name=own.name,
        description=own.description,
        operation_type=own.operation_type,
        trigger_id=own.trigger_id,
        operation_definition=own.definition,
        enabled=own.enabled,
    )
