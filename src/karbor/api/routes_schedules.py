"""Rows of the route table: triggers and scheduled operations."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from karbor.api import scheduled_operations, triggers
from karbor.api.route import PAGE, TENANTS, Route
from karbor.wire import schedules as wire
from karbor.wire.fields import Text

_FILTERS = {**PAGE, **TENANTS, "name": Text}
_COUNT = Annotated[int, Meta(ge=1, le=100, description="How many; 10 where nothing is said.")]

TRIGGERS = (
    Route(
        method="GET",
        path="/triggers",
        handler=triggers.list_triggers,
        service="schedules",
        summary="List triggers",
        rule="trigger:list",
        key="triggers",
        reply=wire.Trigger,
        page=True,
        query={**_FILTERS, "type": Text, "properties": Text},
    ),
    Route(
        method="POST",
        path="/triggers",
        handler=triggers.create_trigger,
        service="schedules",
        summary="Create a trigger",
        rule="trigger:create",
        key="trigger_info",
        reply=wire.Trigger,
        body=wire.TriggerCreate,
        body_key="trigger_info",
    ),
    Route(
        method="GET",
        path="/triggers/{trigger_id}",
        handler=triggers.show_trigger,
        service="schedules",
        summary="Show a trigger",
        rule="trigger:get",
        key="trigger_info",
        reply=wire.Trigger,
    ),
    Route(
        method="PUT",
        path="/triggers/{trigger_id}",
        handler=triggers.update_trigger,
        service="schedules",
        summary="Change a trigger",
        rule="trigger:update",
        key="trigger_info",
        reply=wire.Trigger,
        body=wire.TriggerUpdate,
        body_key="trigger_info",
    ),
    Route(
        method="DELETE",
        path="/triggers/{trigger_id}",
        handler=triggers.delete_trigger,
        service="schedules",
        summary="Delete a trigger that nothing uses",
        rule="trigger:delete",
        faults=(424,),
    ),
    Route(
        method="GET",
        path="/triggers/{trigger_id}/fire_times",
        handler=triggers.show_fire_times,
        service="schedules",
        summary="Show when a trigger fires next",
        rule="trigger:get",
        key="fire_times",
        reply=list[str],
        query={"count": _COUNT},
        since="v2",
    ),
)

SCHEDULED_OPERATIONS = (
    Route(
        method="GET",
        path="/scheduled_operations",
        handler=scheduled_operations.list_scheduled_operations,
        service="schedules",
        summary="List scheduled operations",
        rule="scheduled_operation:list",
        key="operations",
        reply=wire.ScheduledOperation,
        page=True,
        query={**_FILTERS, "operation_type": Text, "trigger_id": Text, "operation_definition": Text},
    ),
    Route(
        method="POST",
        path="/scheduled_operations",
        handler=scheduled_operations.create_scheduled_operation,
        service="schedules",
        summary="Schedule an operation",
        rule="scheduled_operation:create",
        key="scheduled_operation",
        reply=wire.ScheduledOperation,
        body=wire.ScheduledOperationCreate,
        body_key="scheduled_operation",
    ),
    Route(
        method="GET",
        path="/scheduled_operations/{scheduled_operation_id}",
        handler=scheduled_operations.show_scheduled_operation,
        service="schedules",
        summary="Show a scheduled operation",
        rule="scheduled_operation:get",
        key="scheduled_operation",
        reply=wire.ScheduledOperation,
    ),
    Route(
        method="DELETE",
        path="/scheduled_operations/{scheduled_operation_id}",
        handler=scheduled_operations.delete_scheduled_operation,
        service="schedules",
        summary="Delete a scheduled operation",
        rule="scheduled_operation:delete",
    ),
)
