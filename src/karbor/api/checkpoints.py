"""Handlers: checkpoints."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from karbor.api import times
from karbor.api.listing import Listing
from karbor.api.preflights import preflight_answer, progress_answer
from karbor.api.route import Nothing
from karbor.domain import checkpoint as states
from karbor.domain.checkpoint import Checkpoint
from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.domain.checkpoint import ResourceState
    from karbor.domain.resource import Resource
    from karbor.protection.service import ProtectionService
    from karbor.wire import administration
    from karbor.wire.requests import CheckpointAction, CheckpointCreate, CheckpointReset

LISTING = Listing(
    filters={"plan_id": "plan_id"},
    sort={"id": "id", "status": "status", "name": "plan_name", "created_at": "created_at"},
)
LISTED = sorted(states.MOVES.keys() - {states.DELETED})
UNDER_WAY = frozenset({states.PROTECTING, states.DELETING, states.WAIT_COPYING, states.COPYING})


def list_checkpoints(service: ProtectionService, call: Call) -> list[answers.Checkpoint]:
    """A page of a provider's checkpoints; deleted ones are left out."""
    provider = service.provider(call.caller, call.path["provider_id"])
    status = [word for word in LISTED if word == call.query.get("status", word)]
    query = LISTING.query(call, {"provider_id": provider.id, "status": status, **_bounds(call.query)})
    return [_checkpoint(one) for one in service.catalogue.list(Checkpoint, query)] if query and status else []


def _bounds(query: dict[str, Any]) -> dict[str, Any]:
    """Both dates are inclusive."""
    bounds: dict[str, Any] = {}
    if "start_date" in query:
        bounds["created_at>="] = _midnight(query["start_date"])
    if "end_date" in query and query["end_date"] < dt.date.max:
        bounds["created_at<"] = _midnight(query["end_date"] + dt.timedelta(days=1))
    return bounds


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def show_checkpoint(service: ProtectionService, call: Call) -> answers.Checkpoint:
    """One checkpoint; deleted ones can be read too."""
    found = _found(service, call)
    if found.status not in UNDER_WAY or found.project_id != call.caller.project_id:  # progress is the project's own
        return _checkpoint(found)
    return _checkpoint(found, progress_answer(service.progress(call.caller, "checkpoint", found.id)))


def create_checkpoint(service: ProtectionService, call: Call) -> answers.Checkpoint:
    """Begin to protect a plan."""
    body: CheckpointCreate = call.body
    return _checkpoint(service.protect(call.caller, call.path["provider_id"], body.plan_id, body.info))


def rules(service: ProtectionService, call: Call) -> tuple[str, ...]:
    """To run the commands of a declared application is a policy rule of its own."""
    runs = service.runs_commands(call.caller, call.body.plan_id)
    return ("provider:checkpoint_commands",) if runs else ()


def preflight_checkpoint(service: ProtectionService, call: Call) -> answers.Preflight:
    """What protecting the plan would read and leave out."""
    body: CheckpointCreate = call.body
    return preflight_answer(service.preflight_protect(call.caller, call.path["provider_id"], body.plan_id))


def delete_checkpoint(service: ProtectionService, call: Call) -> Nothing:
    """Begin to delete a checkpoint."""
    service.delete_checkpoint(call.caller, call.path["provider_id"], call.path["checkpoint_id"])
    return Nothing()


def reset_checkpoint(service: ProtectionService, call: Call) -> Nothing:
    """Set the status by hand."""
    body: CheckpointReset = call.body
    service.reset_checkpoint(call.caller, call.path["provider_id"], call.path["checkpoint_id"], body.state)
    return Nothing()


def act_on_checkpoint(service: ProtectionService, call: Call) -> Nothing:
    """Stop protecting, after which what was stored so far is not a checkpoint; or bring a deleted one back."""
    body: CheckpointAction = call.body
    if body.os_undelete is None:
        service.undelete_checkpoint(call.caller, call.path["provider_id"], call.path["checkpoint_id"])
    else:
        service.cancel(call.caller, "checkpoint", _found(service, call).id)
    return Nothing()


def action_rules(body: CheckpointAction) -> tuple[str, ...]:
    """The rule of what the body asks for."""
    return ("provider:checkpoint_undelete",) if body.os_undelete is None else ("provider:checkpoint_cancel",)


def copy_checkpoints(service: ProtectionService, call: Call) -> administration.Copy:
    """Copy every available checkpoint of a plan."""
    body: administration.CopyCreate = call.body
    return service.copy(call.caller, call.path["provider_id"], body.plan_id)


def checkpoint_progress(service: ProtectionService, call: Call) -> answers.Progress:
    """How far the work on a checkpoint is."""
    return progress_answer(service.progress(call.caller, "checkpoint", _found(service, call).id))


def _found(service: ProtectionService, call: Call) -> Checkpoint:
    return service.checkpoint(call.caller, call.path["provider_id"], call.path["checkpoint_id"])


def _checkpoint(own: Checkpoint, progress: Any = UNSET) -> answers.Checkpoint:
    return answers.Checkpoint(
        id=own.id,
        project_id=own.project_id,
        status=own.status,
        protection_plan=answers.ProtectionPlan(
            id=own.plan_id,
            name=own.plan_name,
            provider_id=own.provider_id,
            resources=[_planned(resource) for resource in own.resources],
        ),
        resource_graph=own.graph.pack() if own.graph else "[{}, []]",
        created_at=times.date(own.created_at),
        extra_info=json.dumps(own.extra_info),
        created_at_precise=times.rfc3339(own.created_at),
        finished_at=times.maybe(own.finished_at),
        resources_status={state.key: state.status for state in own.states},
        resources_reason={state.key: state.reason for state in own.states},
        resources_state={state.key: _state(state) for state in own.states},
        reason=own.reason,
        survives=list(own.survives),
        verify_level=own.verify_level,
        verified_at=times.maybe(own.verified_at),
        logical_bytes=own.logical_bytes,
        added_bytes=own.added_bytes,
        warnings=list(own.warnings),
        parameters=own.parameters,
        progress=progress,
    )


def _planned(own: Resource) -> answers.PlannedResource:
    extra_info = json.dumps(own.extra_info) if own.extra_info else None
    return answers.PlannedResource(id=own.id, type=own.type, name=own.name, extra_info=extra_info)


def _state(own: ResourceState) -> answers.ResourceState:
    return answers.ResourceState(
        data_location=own.data_location,
        consistency=own.consistency,
        logical_bytes=own.logical_bytes,
        read_bytes=own.read_bytes,
        added_bytes=own.added_bytes,
        files=own.files,
        skipped_count=own.skipped_count,
        duration_seconds=own.duration_seconds,
        attempts=own.attempts,
    )
