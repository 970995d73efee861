"""Handlers: quotas and quota classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from karbor.errors import Forbidden, InvalidInput
from karbor.wire import administration as wire
from karbor.wire.fields import is_uuid

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.domain.quota import Limits
    from karbor.protection.quotas import Quotas


def show_quota(quotas: Quotas, call: Call) -> wire.Quota:
    """The limits of a project, the caller's own unless he is an administrator."""
    project = _own(call)
    return _quota(quotas.limits(project), project)


def show_quota_detail(quotas: Quotas, call: Call) -> wire.QuotaDetail:
    """The limits of a project with what is in use; nothing is ever reserved."""
    project = _own(call)
    limits, used = quotas.limits(project), quotas.in_use(project)
    return wire.QuotaDetail(
        id=project,
        plans=wire.Usage(limit=limits.plans, in_use=used["plans"], reserved=0),
        checkpoints=wire.Usage(limit=limits.checkpoints, in_use=used["checkpoints"], reserved=0),
    )


def show_quota_defaults(quotas: Quotas, call: Call) -> wire.Quota:
    """The limits of a project that has none of its own."""
    return _quota(quotas.defaults(), _project(call))


def update_quota(quotas: Quotas, call: Call) -> wire.Quota:
    """Give a project limits of its own."""
    return _quota(quotas.set_limits(_project(call), _given(call.body)))


def delete_quota(quotas: Quotas, call: Call) -> None:
    """Let the defaults hold for a project again."""
    quotas.forget_limits(_project(call))


def show_quota_class(quotas: Quotas, call: Call) -> wire.Quota:
    """The limits of a class."""
    name = _name(call)
    return _quota(quotas.of_class(name), name)


def update_quota_class(quotas: Quotas, call: Call) -> wire.Quota:
    """Change the limits of a class."""
    return _quota(quotas.set_class(_name(call), _given(call.body)))


def _own(call: Call) -> str:
    project = _project(call)
    if project != call.caller.project_id and not call.caller.is_admin:
        raise Forbidden("Access was denied to this resource.")
    return project


def _project(call: Call) -> str:
    project = call.path["project"]
    if not is_uuid(project):
        raise InvalidInput("Invalid project id provided.", field="project")
    return project


def _name(call: Call) -> str:
    name = call.path["name"]
    if len(name) > 255 or not name.isprintable():
        raise InvalidInput("the name of a quota class has at most 255 printable characters", field="name")
    return name


def _given(body: wire.QuotaUpdate) -> dict[str, int]:
    return {name: limit for name, limit in msgspec.structs.asdict(body).items() if limit is not UNSET}


def _quota(limits: Limits, ident: str | msgspec.UnsetType = UNSET) -> wire.Quota:
    return wire.Quota(plans=limits.plans, checkpoints=limits.checkpoints, id=ident)
