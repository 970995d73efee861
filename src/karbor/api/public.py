"""Handlers: what needs no project: versions and health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.domain.plan import Plan
from karbor.protection.catalogue import Query
from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.protection.service import ProtectionService


def list_versions(service: ProtectionService, call: Call) -> list[answers.Version]:
    """The versions of the API that this service speaks."""
    return [show_version(service, call)]


def show_version(service: ProtectionService, call: Call) -> answers.Version:
    """The version whose root was asked for."""
    del service  # the same whatever the service holds
    return answers.Version(id="v1.0", status="CURRENT", links=[answers.Link(rel="self", href=f"{call.url}/v1/")])


def show_health(service: ProtectionService, call: Call) -> answers.Health:
    """That the service answers and reaches its database; what the catalogue raises is the answer otherwise."""
    del call  # the same for every caller
    service.catalogue.list(Plan, Query(scope="", limit=1))
    return answers.Health(status="ok")
