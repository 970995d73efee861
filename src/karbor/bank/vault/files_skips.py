"""What a protect or restore of a file tree left out: counted by reason, and listed as far as a document can hold it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from karbor.sdk.vault import MAX_LISTED, Skipped

if TYPE_CHECKING:
    from karbor.sdk.vault import SkipReason


def shown(path: str) -> str:
    """A path for people and JSON: bytes that are not UTF-8 stand as a backslash, x and two digits."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Skips:
    """Collects; `counts` has all of them, `listed` the first `MAX_LISTED`."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._listed: list[Skipped] = []

    def add(self, path: str, reason: SkipReason, detail: str = "") -> None:
        """`path` is relative to the resource, with surrogate escapes."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(self._listed) < MAX_LISTED:
            self._listed.append(Skipped(shown(path), reason, detail))

    @property
    def listed(self) -> tuple[Skipped, ...]:
        """The first ones, in the order in which they were met."""
        return tuple(self._listed)
