"""Handlers: plans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from karbor.api import times
from karbor.api.listing import Listing, shown_scope
from karbor.domain.plan import Plan
from karbor.domain.resource import Resource
from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.protection.service import ProtectionService
    from karbor.wire.requests import PlanCreate, PlanUpdate, ResourceRequest

LISTING = Listing(
    filters={"status": "status", "name": "name~", "description": "description~"},
    sort={name: name for name in ("id", "status", "name", "created_at")},
)


def list_plans(service: ProtectionService, call: Call) -> list[answers.Plan]:
    """A page of plans."""
    query = LISTING.query(call)
    return [_plan(plan) for plan in service.catalogue.list(Plan, query)] if query else []


def show_plan(service: ProtectionService, call: Call) -> answers.Plan:
    """One plan."""
    return _plan(service.catalogue.get(Plan, shown_scope(call.caller), call.path["plan_id"]))


def create_plan(service: ProtectionService, call: Call) -> answers.Plan:
    """A new plan, suspended as every new one."""
    body: PlanCreate = call.body
    plan = service.create_plan(
        call.caller,
        name=body.name,
        description=body.description,
        provider_id=body.provider_id,
        resources=[_resource(resource) for resource in body.resources],
        parameters=body.parameters,
    )
    return _plan(plan)


def update_plan(service: ProtectionService, call: Call) -> answers.Plan:
    """Change what was given, and nothing else."""
    body: PlanUpdate = call.body
    given: dict[str, Any] = {"description": body.description}
    if body.name is not UNSET:
        given["name"] = body.name
    if body.status is not UNSET:
        given["status"] = body.status
    if body.resources is not UNSET:
        given["resources"] = [_resource(resource) for resource in body.resources]
    return _plan(service.update_plan(call.caller, call.path["plan_id"], **given))


def delete_plan(service: ProtectionService, call: Call) -> None:
    """Delete a plan; its checkpoints stay."""
    service.delete_plan(call.caller, call.path["plan_id"])


def _resource(given: ResourceRequest) -> Resource:
    return Resource(type=given.type, id=given.id, name=given.name or "", extra_info=given.extra_info, layer=given.layer)


def _plan(plan: Plan) -> answers.Plan:
    return answers.Plan(
        id=plan.id,
        name=plan.name,
        description=plan.description,
        provider_id=plan.provider_id,
        status=plan.status,
        resources=[_answer(resource) for resource in plan.resources],
        parameters=plan.parameters,
        created_at=times.rfc3339(plan.created_at),
    )


def _answer(own: Resource) -> answers.Resource:
    return answers.Resource(
        id=own.id, type=own.type, name=own.name, extra_info=own.extra_info or UNSET, layer=own.layer or UNSET
    )
