"""Copies of checkpoints: refused by name, before anything is recorded, where no plugin makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from karbor.domain import checkpoint as states
from karbor.domain.checkpoint import Checkpoint
from karbor.errors import InvalidInput, NotOffered
from karbor.protection.catalogue import Query

if TYPE_CHECKING:
    from karbor.domain.plan import Plan
    from karbor.protection.catalogue import Catalogue
    from karbor.providers import Provider


def refuse_copy(catalogue: Catalogue, provider: Provider, plan: Plan) -> NoReturn:
    """Say why the checkpoints of a plan cannot be copied: always raises, and leaves nothing behind."""
    of_plan = {"plan_id": plan.id, "status": states.AVAILABLE}
    if not catalogue.list(Checkpoint, Query(scope=plan.project_id, filters=of_plan, limit=1)):
        raise InvalidInput("Invalid input received: The plan has not been protected.", field="copy.plan_id")
    provider.check_operation("copy", plan.resources)
    raise NotOffered(f"provider {provider.name}: copying checkpoints is not offered")
