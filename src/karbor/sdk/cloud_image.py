"""Images of a cloud as sources for `op.vault.write_image`: one download, read by several threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from karbor.errors import KarborError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BEHIND = 16 << 20
"""Bytes kept behind the furthest reading: how far apart the readers may be."""
_AHEAD = 32 << 20
"""A jump further than this begins a new download."""


class Download:
    """Implements `karbor.sdk.vault.ImageSource` over a stream that `open_at` begins at any offset.

    Readers come in about ascending order: the stream is read once, and what was read last is kept for those behind.
    """

    def __init__(self, open_at: Callable[[int], Iterator[bytes]], size: int) -> None:
        self.size = size
        self._open_at = open_at
        self._lock = threading.Lock()
        self._stream: Iterator[bytes] | None = None
        self._start = 0
        self._kept = bytearray()

    def extents(self) -> Iterator[tuple[int, int]]:
        """All of it: a download does not tell where holes are."""
        yield 0, self.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; `Unavailable` where the stream ends too early."""
        with self._lock:
            end = self._start + len(self._kept)
            if self._stream is None or not self._start <= offset <= end + _AHEAD:
                self._stream, self._start = self._open_at(offset), offset
                self._kept.clear()
            self._fill(offset + length)
            at = offset - self._start
            return bytes(self._kept[at : at + length])

    def _fill(self, end: int) -> None:
        assert self._stream is not None
        while self._start + len(self._kept) < end:
            try:
                block = next(self._stream, None)
                if block is None:
                    ended = self._start + len(self._kept)
                    raise Unavailable(f"the download ended after {ended} of {self.size} bytes")
            except KarborError:
                self._stream = None
                raise
            self._kept += block
            if len(self._kept) > 2 * _BEHIND:
                self._trim(end)

    def _trim(self, end: int) -> None:
        spare = min(len(self._kept), end - self._start) - _BEHIND
        if spare > 0:
            del self._kept[:spare]
            self._start += spare
