"""The manifest: `/checkpoint.json` of a snapshot, which makes stored bytes a checkpoint that can be restored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from karbor.domain.checkpoint import ResourceState
from karbor.domain.graph import ResourceGraph
from karbor.domain.plan import Parameters
from karbor.domain.resource import Resource
from karbor.errors import BankForeign, Damaged

FORMAT = 1
"""Raised when a reader of the older number could misread; newer ones are refused."""
MAX_MANIFEST = 256 << 20


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a checkpoint was made: a cloud and region, a project and its domain, by id and by name."""

    cloud: str = ""
    region: str = ""
    project_id: str
    project_name: str = ""
    domain_id: str = ""
    domain_name: str = ""
    host: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a restore needs beside the bytes. `trees` are hex ids of the resources' directories by key."""

    format: int = FORMAT
    checkpoint_id: str
    provider_id: str
    plan_id: str
    plan_name: str
    place: Place
    created_at: datetime
    finished_at: datetime
    resources: tuple[Resource, ...]
    """Those of the plan."""
    parameters: Parameters
    graph: ResourceGraph
    states: tuple[ResourceState, ...]
    trees: dict[str, str]
    extra_info: dict[str, Any] = msgspec.field(default_factory=dict)
    survives: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    service: str = ""
    """Version of the service that wrote it."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """`meta.json` beside the data of a resource: its plugin's saved document and what it was."""

    resource: Resource
    plugin: str
    plugin_version: str
    saved: dict[str, Any]


def decode_manifest(raw: bytes, name: str) -> Manifest:
    """A manifest from its JSON; `Damaged` naming the bank object, `BankForeign` where a newer service wrote it."""
    try:
        version = msgspec.json.decode(raw, type=_Versioned).format
        if version > FORMAT:
            raise BankForeign(
                f"{name}: a checkpoint of format {version} needs a newer service; this one reads {FORMAT}"
            )
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damaged(name, f"it holds no manifest ({error})") from None


class _Versioned(msgspec.Struct, frozen=True):
    format: int
