"""Delegations: the right to act for a user later, one per user, project and set of roles."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from karbor.domain.context import Caller

PENDING = "pending"
"""Recorded before it is asked for, so that a crash in between leaves nothing that nobody knows of."""
ACTIVE = "active"

_NAMESPACE = uuid.UUID("0f6f2a5e-90f4-4d3c-9a9e-6a3a7e0c1f55")


class Delegation(msgspec.Struct, frozen=True, kw_only=True):
    """One right. `reference` names it in the cloud (the id of a trust); it is of use to the service alone."""

    id: str
    project_id: str
    user_id: str
    roles: tuple[str, ...]
    status: str
    created_at: datetime
    reference: str = ""
    project_name: str = ""


def delegation_id(caller: Caller) -> str:
    """The same for the same user, project and roles."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join((caller.user_id, caller.project_id, *sorted(caller.roles)))))
