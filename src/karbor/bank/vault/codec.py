"""Compression of blobs and documents by zstd, with a cap on everything that is unpacked.

A compressor must not be shared by threads, so every user makes its own; a `Decompressor` keeps one per thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import zstandard

from karbor.errors import Damaged

if TYPE_CHECKING:
    from karbor.sdk.bank import Buffer

MAX_BLOB = 256 << 20
"""The largest plain blob that is accepted, in bytes: data is cut to 8 MiB, a tree of 2 TiB images takes 18 MiB."""
MAX_DOCUMENT = 256 << 20
"""The largest plain index, snapshot or lock that is accepted, in bytes."""
_KEEP_RAW = 0.97
"""A blob that compression shrinks to more than this share is kept as it is: reading it back is then free."""
_ZSTD_DOCUMENT = b"\x02"


class Compressor:
    """Compresses at one level; for one thread at a time. Level 0 keeps everything raw."""

    def __init__(self, level: int) -> None:
        self.level = level
        self._zstd = zstandard.ZstdCompressor(level=level) if level else None

    def blob(self, plain: Buffer) -> bytes | None:
        """The compressed bytes, or None where the blob is better kept raw."""
        if self._zstd is None or not plain:
            return None
        packed = self._zstd.compress(plain)
        return packed if len(packed) < len(plain) * _KEEP_RAW else None

    def document(self, plain: bytes) -> bytes:
        """An index, snapshot or lock as it is sealed: a version byte and one zstd frame."""
        return _ZSTD_DOCUMENT + (self._zstd or zstandard.ZstdCompressor()).compress(plain)


class Decompressor:
    """Unpacks, in any thread, never more than what the caller allows."""

    def __init__(self) -> None:
        self._local = threading.local()

    def _zstd(self) -> zstandard.ZstdDecompressor:
        try:
            found: zstandard.ZstdDecompressor = self._local.zstd
        except AttributeError:
            found = self._local.zstd = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return found

    def blob(self, packed: Buffer, size: int, name: str) -> bytes:
        """The plain blob of exactly `size` bytes; `Damaged` naming the bank object `name` otherwise."""
        if size > MAX_BLOB:
            raise Damaged(name, f"a blob of {size} bytes is larger than any that is written")
        plain = self._unpack(packed, size, name)
        if len(plain) != size:
            raise Damaged(name, f"a blob has {len(plain)} bytes in place of {size}")
        return plain

    def document(self, raw: bytes, name: str) -> bytes:
        """The JSON of an opened index, snapshot or lock, compressed or (as old writers left it) not."""
        if raw[:1] in (b"{", b"["):
            return raw
        if raw[:1] != _ZSTD_DOCUMENT:
            raise Damaged(name, "its encoding is not known")
        return self._unpack(memoryview(raw)[1:], MAX_DOCUMENT, name)

    def _unpack(self, packed: Buffer, cap: int, name: str) -> bytes:
        try:
            # A frame that states its size is unpacked to that size whatever max_output_size says.
            stated = zstandard.frame_content_size(packed)
            if stated > cap:
                raise Damaged(name, f"its frame unpacks to {stated} bytes where {cap} are allowed")
            if stated >= 0:
                return self._zstd().decompress(packed, max_output_size=cap)
            return self._unpack_streamed(packed, cap, name)
        except zstandard.ZstdError as error:
            raise Damaged(name, f"its zstd frame is broken ({error})") from None

    def _unpack_streamed(self, packed: Buffer, cap: int, name: str) -> bytes:
        """A frame of unstated size, piece by piece, so that a lie costs no more memory than `cap`."""
        out = bytearray()
        with self._zstd().stream_reader(packed) as reader:
            while piece := reader.read(1 << 20):
                out += piece
                if len(out) > cap:
                    raise Damaged(name, f"its frame unpacks to more than {cap} bytes")
        return bytes(out)
