"""Quotas: how many plans and checkpoints a project may have. Usage is always counted, never kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from karbor.errors import OverLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

Counted = Literal["plans", "checkpoints"]
COUNTED: tuple[Counted, ...] = get_args(Counted)
UNLIMITED = -1
DEFAULT_CLASS = "default"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most there may be of each; -1 is no limit."""

    plans: int = 50
    checkpoints: int = UNLIMITED

    def of(self, resource: Counted) -> int:
        """The limit of one resource."""
        limit: int = getattr(self, resource)
        return limit

    def over(self, overrides: Mapping[str, int]) -> Limits:
        """These limits, with those that are overridden."""
        return msgspec.structs.replace(self, **overrides)


def check_room(resource: Counted, limit: int, in_use: int) -> None:
    """Raise `OverLimit` where one more would be too many."""
    if limit != UNLIMITED and in_use >= limit:
        raise OverLimit(
            f"Quota exceeded for resources: {resource}. {in_use} of {limit} are in use.",
            hint=f"delete some {resource}, or ask an administrator for a higher quota",
        )
