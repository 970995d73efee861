"""Quotas, quota classes, services and copies on the wire."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import force_setattr

from karbor.wire import fields
from karbor.wire.schedules import whole

Limit = Annotated[int | str, Meta(description="A number, or its text; -1 is no limit.")]


class QuotaUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """New limits of a project or a class; what is not given stays, and what v1 does not know is ignored, as v1 does."""

    plans: Limit | UnsetType = UNSET
    checkpoints: Limit | UnsetType = UNSET

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            given = getattr(self, name)
            if given is not UNSET:
                limit = whole(given, name)
                if limit < -1:
                    raise ValueError(f"{name}: a quota limit must be -1 or greater")
                force_setattr(self, name, limit)


class Quota(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Limits; `id` is the project's or the class's, and is left out in the answer to a change."""

    plans: int
    checkpoints: int
    id: str | UnsetType = UNSET


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How much of a limit is used."""

    limit: int
    in_use: int
    reserved: int


class QuotaDetail(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Limits with their use."""

    plans: Usage
    checkpoints: Usage
    id: str


class ServiceUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """Enable or disable a service. Any status but ``disabled`` enables, as v1 has it."""

    status: Any = None
    disabled_reason: fields.Text | None = None

    def __post_init__(self) -> None:
        if self.disabled_reason is not None and self.status != "disabled":
            raise ValueError("disabled_reason: goes with the status disabled only")


class Service(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A process of the service as v1 shows it; `state` is up or down."""

    id: int
    binary: str
    host: str
    status: str
    state: str
    updated_at: str | None
    disabled_reason: str | None


class CopyCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Copy every available checkpoint of a plan."""

    plan_id: fields.Uuid
    parameters: fields.Parameters | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "plan_id", fields.canonical_uuid(self.plan_id))
        force_setattr(self, "parameters", fields.parameters(self.parameters))


class CopiedCheckpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A checkpoint and its copy."""

    checkpoint_protect_id: str
    checkpoint_copy_id: str


class Copy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is being copied."""

    project_id: str
    provider_id: str
    plan_id: str
    checkpoint_id: list[CopiedCheckpoint]
    parameters: dict[str, dict[str, Any]]
