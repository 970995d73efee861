"""Values that the service answers with, without their envelopes. Fields that v1 does not have come after its own.

Values hold no cycles, so none is tracked by the garbage collector: it would cost more than the answer.
Times are RFC 3339 in UTC unless said otherwise. Clients may decode with these types: unknown fields are ignored.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

Parameters = dict[str, dict[str, Any]]


class Resource(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A resource of a plan; what is empty is left out, as v1 does."""

    id: str
    type: str
    name: str | None
    extra_info: dict[str, Any] | UnsetType = UNSET
    layer: str | UnsetType = UNSET


class Plan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A plan; `created_at` is an addition to v1."""

    id: str
    name: str
    description: str | None
    provider_id: str
    status: str
    resources: list[Resource]
    parameters: Parameters
    created_at: str = ""


class PlannedResource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resource as a checkpoint's plan shows it: `extra_info` is a JSON string."""

    id: str
    type: str
    name: str | None
    extra_info: str | None = None


class ProtectionPlan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The plan as it was when the checkpoint was begun."""

    id: str
    name: str
    provider_id: str
    resources: list[PlannedResource]


class Progress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far an operation is; a total of 0 is unknown yet."""

    done_bytes: int = 0
    total_bytes: int = 0
    done_steps: int = 0
    total_steps: int = 0
    current: str = ""


class ResourceState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a checkpoint states of one resource, by its key in `Checkpoint.resources_state`."""

    data_location: str
    consistency: str
    logical_bytes: int
    read_bytes: int
    added_bytes: int
    files: int
    skipped_count: dict[str, int]
    duration_seconds: float
    attempts: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A checkpoint. `created_at` is a date, `resource_graph` and `extra_info` are JSON strings.

    From `created_at_precise` on the fields are additions to v1.
    """

    id: str
    project_id: str
    status: str
    protection_plan: ProtectionPlan
    resource_graph: str
    created_at: str
    extra_info: str
    created_at_precise: str = ""
    finished_at: str | None = None
    resources_status: dict[str, str] = msgspec.field(default_factory=dict)
    resources_reason: dict[str, str] = msgspec.field(default_factory=dict)
    resources_state: dict[str, ResourceState] = msgspec.field(default_factory=dict)
    reason: str = ""
    survives: list[str] = msgspec.field(default_factory=list)
    """Losses that leave the whole checkpoint restorable."""
    verify_level: str = ""
    verified_at: str | None = None
    logical_bytes: int = 0
    added_bytes: int = 0
    warnings: list[str] = msgspec.field(default_factory=list)
    parameters: Parameters = msgspec.field(default_factory=dict)
    progress: Progress | UnsetType = UNSET
    """While work is under way, in the answer for one checkpoint."""


class Restore(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A restore. From `created_at_precise` on the fields are additions to v1."""

    id: str
    project_id: str
    provider_id: str
    checkpoint_id: str
    restore_target: str | None
    parameters: Parameters
    status: str
    resources_status: dict[str, str]
    """By the key of the new resource."""
    resources_reason: dict[str, str]
    created_at_precise: str = ""
    finished_at: str | None = None
    resources: list[str] = msgspec.field(default_factory=list)
    """Keys of the part that was asked for; empty for everything."""
    restored: dict[str, str] = msgspec.field(default_factory=dict)
    """Key of the original → key of the new resource."""
    reason: str = ""


class Verification(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A verification. From `created_at_precise` on the fields are additions to v1."""

    id: str
    project_id: str
    provider_id: str
    checkpoint_id: str
    parameters: Parameters
    status: str
    resources_status: dict[str, str]
    """By the key of the original resource."""
    resources_reason: dict[str, str]
    created_at_precise: str = ""
    finished_at: str | None = None
    level: str = ""
    reason: str = ""


class OperationLog(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One run of an operation; times are UTC without a zone. `verification_id` is an addition to v1."""

    id: str
    operation_type: str
    status: str
    provider_id: str
    checkpoint_id: str | None
    plan_id: str | None
    restore_id: str | None
    scheduled_operation_id: str | None
    started_at: str | None
    ended_at: str | None
    error_info: str | None
    extra_info: str | None
    verification_id: str | None = None


class ProtectableType(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resource type and the types of the resources it directly depends on."""

    name: str
    dependent_types: list[str]


class Dependent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resource that an instance directly depends on."""

    id: str
    type: str
    name: str | None
    extra_info: dict[str, Any] | None = None


class Instance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resource that can be protected."""

    id: str
    type: str
    name: str | None
    extra_info: dict[str, Any] | None = None
    dependent_resources: list[Dependent]


class Schemas(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The forms of a provider's options by resource type; `verify_schema` is an addition to v1."""

    options_schema: dict[str, Any]
    restore_schema: dict[str, Any]
    saved_info_schema: dict[str, Any]
    verify_schema: dict[str, Any] = msgspec.field(default_factory=dict)


class Provider(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A provider; its bank and what is wrong with it are additions to v1."""

    id: str
    name: str
    description: str
    extended_info_schema: Schemas
    bank: dict[str, Any] = msgspec.field(default_factory=dict)
    problems: list[str] = msgspec.field(default_factory=list)


class PreflightItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that would happen; `resource` is a key, `action` one of read, create, reuse, overwrite, skip, refuse."""

    resource: str
    action: str
    what: str
    reason: str = ""
    estimated_bytes: int = 0


class Preflight(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an operation would do. It may begin when nothing is refused."""

    items: list[PreflightItem]
    estimated_bytes: int
    refused: bool


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A file, directory or other node in a checkpoint. A name that is not UTF-8 is shown with replacement
    characters; `quoted` is then its percent-encoded form for the query parameter `path`.
    """

    name: str
    type: str
    size: int = 0
    mode: int = 0
    modified: str = ""
    target: str = ""
    quoted: str = ""


class Link(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A link to the next page."""

    rel: str
    href: str


class Version(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One version of the API."""

    id: str
    status: str
    links: list[Link]


class Health(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """That the service answers and reaches its database."""

    status: str
