"""Handlers: verifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.api import times
from karbor.api.listing import Listing, shown_scope
from karbor.api.preflights import progress_answer
from karbor.api.route import Nothing
from karbor.domain.operation import Verification
from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.protection.service import ProtectionService
    from karbor.wire.requests import VerificationCreate

LISTING = Listing(
    filters={"status": "status"},
    admin_filters={"checkpoint_id": "checkpoint_id", "provider_id": "provider_id"},
    sort={name: name for name in ("id", "status", "created_at")},
    unknown_is_empty=True,
)


def list_verifications(service: ProtectionService, call: Call) -> list[answers.Verification]:
    """A page of verifications."""
    query = LISTING.query(call)
    return [_verification(one) for one in service.catalogue.list(Verification, query)] if query else []


def show_verification(service: ProtectionService, call: Call) -> answers.Verification:
    """One verification."""
    return _verification(_found(service, call))


def create_verification(service: ProtectionService, call: Call) -> answers.Verification:
    """Begin to read a checkpoint back."""
    body: VerificationCreate = call.body
    one = service.verify(
        call.caller,
        provider_id=body.provider_id,
        checkpoint_id=body.checkpoint_id,
        parameters=body.parameters or {},
    )
    return _verification(one)


def cancel_verification(service: ProtectionService, call: Call) -> Nothing:
    """Stop a verification."""
    service.cancel(call.caller, "verification", _found(service, call).id)
    return Nothing()


def verification_progress(service: ProtectionService, call: Call) -> answers.Progress:
    """How far a verification is."""
    return progress_answer(service.progress(call.caller, "verification", _found(service, call).id))


def _found(service: ProtectionService, call: Call) -> Verification:
    return service.catalogue.get(Verification, shown_scope(call.caller), call.path["verification_id"])


def _verification(own: Verification) -> answers.Verification:
    return answers.Verification(
        id=own.id,
        project_id=own.project_id,
        provider_id=own.provider_id,
        checkpoint_id=own.checkpoint_id,
        parameters=own.parameters,
        status=own.status,
        resources_status=own.resources_status,
        resources_reason=own.resources_reason,
        created_at_precise=times.rfc3339(own.created_at),
        finished_at=times.maybe(own.finished_at),
        level=own.level,
        reason=own.reason,
    )
