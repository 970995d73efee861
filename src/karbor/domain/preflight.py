"""What an operation would do, item by item, with reasons: the answer of a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

Action = Literal["read", "create", "reuse", "overwrite", "skip", "refuse"]


class PreflightItem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would happen to one resource. `estimated_bytes` is what would be read or written."""

    resource: str
    """The resource key."""
    action: Action
    what: str
    """The thing concerned, for people: a path, a volume name."""
    reason: str = ""
    estimated_bytes: int = 0


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer. An operation may begin when nothing is refused."""

    items: tuple[PreflightItem, ...]

    @property
    def refusals(self) -> tuple[PreflightItem, ...]:
        """The items that keep the operation from beginning."""
        return tuple(item for item in self.items if item.action == "refuse")

    @property
    def estimated_bytes(self) -> int:
        """Bytes that would be read or written in all."""
        return sum(item.estimated_bytes for item in self.items)


def joined(parts: Iterable[Iterable[PreflightItem]]) -> Preflight:
    """One answer from those of several plugins, in order."""
    return Preflight(items=tuple(item for part in parts for item in part))
