"""Handlers: triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from karbor.api import times
from karbor.api.listing import Listing, shown_scope
from karbor.domain.trigger import Trigger
from karbor.wire import schedules as wire

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.schedule.service import ScheduleService

LISTING = Listing(
    filters={"name": "name~", "type": "type", "properties": "properties_text~"},
    sort={name: name for name in ("id", "name", "type", "created_at")},
)


def list_triggers(service: ScheduleService, call: Call) -> list[wire.Trigger]:
    """A page of triggers."""
    query = LISTING.query(call)
    return [_trigger(one) for one in service.catalogue.list(Trigger, query)] if query else []


def show_trigger(service: ScheduleService, call: Call) -> wire.Trigger:
    """One trigger."""
    return _trigger(_found(service, call))


def show_fire_times(service: ScheduleService, call: Call) -> list[str]:
    """When it fires next."""
    return [times.rfc3339(each) for each in service.fire_times(_found(service, call), call.query.get("count", 10))]


def create_trigger(service: ScheduleService, call: Call) -> wire.Trigger:
    """A new trigger."""
    body: wire.TriggerCreate = call.body
    return _trigger(
        service.create_trigger(call.caller, name=body.name, kind=body.type, properties=_texts(body.properties))
    )


def update_trigger(service: ScheduleService, call: Call) -> wire.Trigger:
    """Change what was given."""
    body: wire.TriggerUpdate = call.body
    name = None if body.name is UNSET else body.name
    properties = {} if body.properties is UNSET else _texts(body.properties)
    return _trigger(service.update_trigger(call.caller, call.path["trigger_id"], name=name, properties=properties))


def delete_trigger(service: ScheduleService, call: Call) -> None:
    """Delete a trigger that nothing uses."""
    service.delete_trigger(call.caller, call.path["trigger_id"])


def _found(service: ScheduleService, call: Call) -> Trigger:
    return service.catalogue.get(Trigger, shown_scope(call.caller), call.path["trigger_id"])


def _texts(given: wire.Properties) -> dict[str, str]:
    return {name: str(value) for name, value in given.given.items()}


def _trigger(own: Trigger) -> wire.Trigger:
    return wire.Trigger(id=own.id, name=own.name, type=own.type, properties=own.properties)
