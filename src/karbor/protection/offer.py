"""What a provider offers, as tenants see it, and whether a plan asks for no more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from karbor.domain.plan import check_parameter_keys, check_resources
from karbor.domain.resource import V1_TYPES, split_key
from karbor.protection.op import parsed_options

if TYPE_CHECKING:
    from collections.abc import Collection

    from karbor.domain.plan import Parameters
    from karbor.domain.resource import Resource
    from karbor.providers import Provider


class ProviderView(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as a tenant sees it."""

    id: str
    name: str
    description: str
    options_schema: dict[str, Any]
    restore_schema: dict[str, Any]
    saved_info_schema: dict[str, Any]
    verify_schema: dict[str, Any]
    bank: dict[str, Any]
    problems: tuple[str, ...] = ()


def view(provider: Provider) -> ProviderView:
    """The provider without what only administrators need."""
    return ProviderView(
        id=provider.id,
        name=provider.name,
        description=provider.description,
        bank={"encrypted": True, "survives": sorted(provider.survives)},
        problems=tuple(provider.problems),
        **provider.schemas(),
    )


def check_plan(
    provider: Provider, known_types: Collection[str], resources: Collection[Resource], parameters: Parameters
) -> None:
    """Raise `InvalidInput`, naming the field, where the provider cannot protect the resources with the parameters."""
    check_resources(resources, known_types)
    check_parameter_keys(parameters, {*known_types, *V1_TYPES})
    provider.check_operation("protect", resources)
    for key, given in parameters.items():
        kind, _ = split_key(key)
        if kind in provider.types:
            parsed_options(provider.plugin_for(kind), "protect", given)
