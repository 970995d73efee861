"""Plans: which resources, with which provider, with which parameters."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.domain.resource import LAYERS, Resource, split_key
from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Parameters = dict[str, dict[str, Any]]
"""Options by resource type or resource key; values are scalars with their types kept."""

SUSPENDED = "suspended"


class Plan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a tenant wants protected. Its status has no effect on protecting; only a suspended plan can be changed."""

    id: str
    project_id: str
    name: str
    provider_id: str
    resources: tuple[Resource, ...]
    parameters: Parameters
    created_at: datetime
    description: str | None = None
    status: str = SUSPENDED


def parameters_for(parameters: Mapping[str, Mapping[str, Any]], resource: Resource) -> dict[str, Any]:
    """The options of one resource: those of its type, overridden key by key by those of the resource itself."""
    return {**parameters.get(resource.type, {}), **parameters.get(resource.key, {})}


def check_resources(resources: Collection[Resource], known_types: Collection[str]) -> None:
    """Raise `InvalidInput` where the resources of a plan cannot be protected by anything."""
    if not resources:
        raise InvalidInput("a plan needs at least one resource", field="resources")
    seen: set[str] = set()
    for i, resource in enumerate(resources):
        if resource.type not in known_types:
            allowed = ", ".join(sorted(known_types))
            raise InvalidInput(
                f"unknown resource type {resource.type!r}; allowed: {allowed}", field=f"resources[{i}].type"
            )
        if resource.key in seen:
            raise InvalidInput(f"resource {resource.key} stands twice in the plan", field=f"resources[{i}]")
        if resource.layer and resource.layer not in LAYERS:
            raise InvalidInput(
                f"unknown layer {resource.layer!r}; allowed: {', '.join(LAYERS)}", field=f"resources[{i}].layer"
            )
        seen.add(resource.key)


def check_parameter_keys(parameters: Mapping[str, Any], known_types: Collection[str]) -> None:
    """Raise `InvalidInput` where a key of the parameters is neither a known type nor ``type#id``."""
    for key in parameters:
        kind, _ = split_key(key)
        if kind not in known_types or key.endswith("#") or key.count("#") > 1:
            allowed = ", ".join(sorted(known_types))
            raise InvalidInput(
                f"parameters key {key!r} is not a resource type or type#id; allowed types: {allowed}",
                field=f"parameters.{key}",
            )
