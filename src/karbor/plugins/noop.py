"""Protects any type by doing nothing: for trying out a service, and for measuring what the service itself costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import V1_TYPES
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.sdk.op import Look, Op


class Noop(Protection):
    """Every hook succeeds and stores nothing. The option ``types``, separated by commas, says for which types."""

    name = "karbor-noop-protection-plugin"
    types: tuple[str, ...] = V1_TYPES
    schemaless = True
    """Its schemas are empty, as v1 shows them, and it takes any option."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        named = tuple(kind.strip() for kind in str(options.get("types", "")).split(",") if kind.strip())
        self.types = named or V1_TYPES

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """Nothing is read."""
        return [PreflightItem(resource=op.resource.key, action="skip", what=op.resource.name, reason="no-op plugin")]

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """Nothing is made."""
        return [PreflightItem(resource=op.resource.key, action="reuse", what=op.resource.name, reason="no-op plugin")]

    def protect_main(self, op: Op) -> None:
        """Store nothing."""

    def restore_main(self, op: Op) -> None:
        """Leave the resource as it is."""

    def verify_main(self, op: Op) -> None:
        """Find nothing amiss."""

    def delete_main(self, op: Op) -> None:
        """Remove nothing."""
