"""How far the bank stands apart from what it protects: a copy on the same device is lost with the original."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from karbor.domain.checkpoint import Loss
    from karbor.protection.run import RunContext


def independence(context: RunContext) -> tuple[frozenset[Loss], tuple[str, ...]]:
    """What losses the bank survives for this run, and the warnings that go with it."""
    bank = context.provider.bank
    if bank.kind != "filesystem":
        return context.provider.survives, ()
    device = Path(bank.location).stat().st_dev
    shared = [
        resource.name or resource.id
        for resource in context.graph.resources
        if _device_of(context, resource.type, resource) == device
    ]
    if not shared:
        return context.provider.survives, ()
    more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
    return frozenset(), (f"the bank lies on the same device as {shared[0]}{more}: losing it loses both",)


def _device_of(context: RunContext, kind: str, resource: object) -> int | None:
    look = getattr(context.provider.plugin_for(kind), "device_of", None)
    return look(resource) if look is not None else None
