"""Bodies that clients send, without their envelopes; what v1 tolerates is normalised here and nowhere else.

The attribute `null` of a required field is never a value: where v1 distinguishes "not given" from null, the type is a
union with `msgspec.UnsetType`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import force_setattr

from karbor.wire import fields


class ResourceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of a plan. Keys that v1 does not know are dropped, as v1 does. `layer` is an addition to v1."""

    id: fields.ResourceId
    type: fields.ResourceId
    name: fields.Text | None
    extra_info: Any = None
    layer: Literal["", "web", "application", "database"] = ""

    def __post_init__(self) -> None:
        force_setattr(self, "extra_info", fields.extra_info(self.extra_info))


class PlanCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new plan."""

    name: fields.Name
    provider_id: fields.Uuid
    resources: list[ResourceRequest]
    parameters: fields.Parameters
    description: fields.Text | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "provider_id", fields.canonical_uuid(self.provider_id))
        force_setattr(self, "parameters", fields.parameters(self.parameters))


class PlanUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may change in a suspended plan; `resources` replaces the whole list."""

    name: fields.Name | UnsetType = UNSET
    description: fields.Text | UnsetType | None = UNSET
    status: fields.Text | UnsetType | None = UNSET
    resources: list[ResourceRequest] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if all(getattr(self, name) is UNSET for name in self.__struct_fields__):
            raise ValueError("expected at least one of name, description, status, resources")


class CheckpointCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new checkpoint of a plan. Clients spell the free information with a hyphen, the documents with an underscore:
    both are taken; `info` is what was meant.
    """

    plan_id: fields.Uuid
    extra_info: fields.Metadata | None = None
    hyphened: fields.Metadata | None = msgspec.field(name="extra-info", default=None)

    def __post_init__(self) -> None:
        force_setattr(self, "plan_id", fields.canonical_uuid(self.plan_id))
        force_setattr(self, "extra_info", fields.metadata(self.extra_info, "extra_info"))
        force_setattr(self, "hyphened", fields.metadata(self.hyphened, "extra-info"))

    @property
    def info(self) -> dict[str, Any]:
        """The free information under either name."""
        return {**(self.extra_info or {}), **(self.hyphened or {})}


class CheckpointReset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The state that a checkpoint is set to by hand."""

    state: Literal["available", "error"]


class Cancel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"os_cancel": "os-cancel"}):
    """Stop what is under way on a restore or verification. An addition to v1."""

    os_cancel: None


class CheckpointAction(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"os_cancel": "os-cancel", "os_undelete": "os-undelete"},
):
    """Stop what is under way on a checkpoint, or bring a deleted one back: one of both. An addition to v1."""

    os_cancel: UnsetType | None = UNSET
    os_undelete: UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if (self.os_cancel is UNSET) is (self.os_undelete is UNSET):
            raise ValueError("expected one of os-cancel, os-undelete")


class RestoreCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new restore. `resources` and `undo` are additions to v1: keys of a part, and whether a failure takes back
    what was made.
    """

    provider_id: fields.Uuid
    checkpoint_id: fields.Uuid
    parameters: fields.Parameters
    restore_target: fields.Text | None = None
    restore_auth: fields.Metadata | None = None
    resources: list[str] = []
    undo: bool = False

    def __post_init__(self) -> None:
        force_setattr(self, "provider_id", fields.canonical_uuid(self.provider_id))
        force_setattr(self, "checkpoint_id", fields.canonical_uuid(self.checkpoint_id))
        force_setattr(self, "parameters", fields.parameters(self.parameters))
        force_setattr(self, "restore_auth", fields.metadata(self.restore_auth, "restore_auth"))


class VerificationCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new verification."""

    provider_id: fields.Uuid
    checkpoint_id: fields.Uuid
    parameters: fields.Parameters | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "provider_id", fields.canonical_uuid(self.provider_id))
        force_setattr(self, "checkpoint_id", fields.canonical_uuid(self.checkpoint_id))
        force_setattr(self, "parameters", fields.parameters(self.parameters))
