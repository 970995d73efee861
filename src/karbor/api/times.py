"""Times as v1 writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def date(moment: datetime) -> str:
    """``YYYY-MM-DD``."""
    return moment.date().isoformat()


def rfc3339(moment: datetime) -> str:
    """With microseconds and ``Z``; the moment must be in UTC."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def zoneless(moment: datetime | None) -> str | None:
    """``YYYY-MM-DDTHH:MM:SS.ffffff``, as the operation log has it."""
    return moment.isoformat(timespec="microseconds")[:26] if moment else None


def maybe(moment: datetime | None) -> str | None:
    """`rfc3339`, or None where there is no time yet."""
    return rfc3339(moment) if moment else None
