"""Scheduled operations: what is done whenever a trigger fires."""

from __future__ import annotations

import json
from datetime import datetime

import msgspec

from karbor.domain.context import Caller

PROTECT, RETENTION_PROTECT = "protect", "retention_protect"
OPERATION_TYPES = (PROTECT, RETENTION_PROTECT)


class ScheduledOperation(msgspec.Struct, frozen=True, kw_only=True):
    """A standing order. It is carried out in the name of `caller`, by the right of `delegation_id`."""

    id: str
    project_id: str
    name: str
    operation_type: str
    trigger_id: str
    definition: dict[str, str]
    """provider_id and plan_id; for retention max_backups and retention_duration (days), where 0 and less is no limit."""
    caller: Caller
    created_at: datetime
    description: str | None = None
    enabled: bool = True
    delegation_id: str = ""

    @property
    def provider_id(self) -> str:
        """The provider that it protects with."""
        return self.definition["provider_id"]

    @property
    def plan_id(self) -> str:
        """The plan that it protects."""
        return self.definition["plan_id"]

    @property
    def definition_text(self) -> str:
        """The definition as v1 stores it, for its filter."""
        return json.dumps(self.definition)
