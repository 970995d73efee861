"""Handlers: restores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.api import times
from karbor.api.listing import Listing, shown_scope
from karbor.api.preflights import preflight_answer, progress_answer
from karbor.api.route import Nothing
from karbor.domain.operation import Restore
from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.protection.service import ProtectionService
    from karbor.wire.requests import RestoreCreate

LISTING = Listing(
    filters={"status": "status"},
    admin_filters={"checkpoint_id": "checkpoint_id", "provider_id": "provider_id"},
    sort={name: name for name in ("id", "status", "created_at")},
    unknown_is_empty=True,
)


def list_restores(service: ProtectionService, call: Call) -> list[answers.Restore]:
    """A page of restores."""
    query = LISTING.query(call)
    return [_restore(restore) for restore in service.catalogue.list(Restore, query)] if query else []


def show_restore(service: ProtectionService, call: Call) -> answers.Restore:
    """One restore."""
    return _restore(_found(service, call))


def create_restore(service: ProtectionService, call: Call) -> answers.Restore:
    """Begin to restore a checkpoint or a part of it."""
    return _restore(service.restore(call.caller, **_arguments(call.body)))


def preflight_restore(service: ProtectionService, call: Call) -> answers.Preflight:
    """What the restore would create, overwrite, skip or refuse."""
    return preflight_answer(service.preflight_restore(call.caller, **_arguments(call.body)))


def cancel_restore(service: ProtectionService, call: Call) -> Nothing:
    """Stop a restore."""
    service.cancel(call.caller, "restore", _found(service, call).id)
    return Nothing()


def restore_progress(service: ProtectionService, call: Call) -> answers.Progress:
    """How far a restore is."""
    return progress_answer(service.progress(call.caller, "restore", _found(service, call).id))


def rules(body: RestoreCreate) -> tuple[str, ...]:
    """To replace what exists is a policy rule of its own."""
    asked = (str(options.get("overwrite", "")).lower() for options in body.parameters.values())
    return ("restore:overwrite",) if any(word in _TRUE for word in asked) else ()


_TRUE = frozenset({"true", "yes", "on", "1"})


def _arguments(body: RestoreCreate) -> dict[str, Any]:
    return {
        "provider_id": body.provider_id,
        "checkpoint_id": body.checkpoint_id,
        "parameters": body.parameters,
        "restore_target": body.restore_target,
        "restore_auth": body.restore_auth,
        "resources": body.resources,
        "undo": body.undo,
    }


def _found(service: ProtectionService, call: Call) -> Restore:
    return service.catalogue.get(Restore, shown_scope(call.caller), call.path["restore_id"])


def _restore(own: Restore) -> answers.Restore:
    return answers.Restore(
        id=own.id,
        project_id=own.project_id,
        provider_id=own.provider_id,
        checkpoint_id=own.checkpoint_id,
        restore_target=own.restore_target,
        parameters=own.parameters,
        status=own.status,
        resources_status=own.resources_status,
        resources_reason=own.resources_reason,
        created_at_precise=times.rfc3339(own.created_at),
        finished_at=times.maybe(own.finished_at),
        resources=list(own.resources),
        restored=own.restored,
        reason=own.reason,
    )
