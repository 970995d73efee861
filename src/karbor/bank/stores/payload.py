"""What banks behind HTTP have in common: the body of a put, the meaning of a status, the checks of what comes back."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from karbor.errors import BankError, BankForeign, BankFull, Damaged, ObjectExists, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from karbor.sdk.bank import Buffer

CONNECT_SECONDS = 10.0
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Payload:
    """The bytes of one put: length and MD5 are known before the first byte leaves, and they can be sent again."""

    def __init__(self, parts: Sequence[Buffer]) -> None:
        self._parts = [memoryview(part).cast("B") for part in parts]
        self._size = sum(part.nbytes for part in self._parts)
        # The checksum that both protocols know: it guards the way to the store, not what lies there.
        self.md5 = hashlib.md5(usedforsecurity=False)
        for part in self._parts:
            self.md5.update(part)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[memoryview]:
        return iter(self._parts)


def option(options: Mapping[str, str], *names: str, default: str = "") -> str:
    """The first of the names that is given: ours stands before v1's."""
    return next((options[name] for name in names if options.get(name)), default)


def is_true(text: str) -> bool:
    """A boolean as configuration files have it."""
    return text.strip().lower() in {"true", "1", "yes", "on"}


def refusal(status: int, doing: str, key: str, reason: str) -> BankError:
    """What an HTTP status means for one object."""
    if status == 404:
        return ObjectMissing(key)
    if status == 412:
        return ObjectExists(key)
    message = f"{doing} {key}: the bank answered {status}: {reason}"
    if status in (413, 507):
        return BankFull(message)
    return BankForeign(message) if status == 403 else BankError(message)


def check_limit(key: str, size: int, limit: int) -> None:
    """Raise `Damaged` where an object is larger than expected."""
    if size > limit:
        raise Damaged(key, f"it has {size} bytes, {limit} at most are expected")


def check_range(key: str, content_range: str, offset: int, length: int) -> None:
    """Raise `Damaged` where the bytes that an answer announces are fewer than were asked for."""
    found = _CONTENT_RANGE.fullmatch(content_range)
    if found is None or int(found[1]) != offset:
        raise BankError(f"reading {key}: the bank does not give the bytes from {offset}, but {content_range!r}")
    if int(found[2]) - offset + 1 != length:
        raise Damaged(key, f"it has {found[3]} bytes, {offset + length} at least are expected")


def whole(key: str, content: bytes, size: int) -> bytes:
    """The content, if all of it came."""
    if len(content) != size:
        raise BankError(f"reading {key}: the answer ended after {len(content)} of {size} bytes")
    return content
