"""Packs: bank objects of many sealed blobs and, at the end, a sealed header that names them.

``blob … blob || sealed(header) || u32le(length of the sealed header)``. A pack holds data or trees, never both.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from karbor.bank.vault.codec import MAX_BLOB, Compressor
from karbor.bank.vault.crypto import OVERHEAD, SealKey
from karbor.errors import Damaged, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from karbor.sdk.bank import Buffer

BlobKind = Literal["data", "tree"]
PACK_TARGET = 16 << 20
"""A pack is finished when its blobs have this many sealed bytes."""
_MAX_PACK_BLOBS = 10_000
_MAX_HEADER = 16 << 20
_ROOM = 1 << 20  # beside the target: headers, and the sealing of an average last blob
_ENTRY_RAW = struct.Struct("<BI32s")
_ENTRY_ZSTD = struct.Struct("<BII32s")


class Blob(msgspec.Struct, frozen=True, gc=False):
    """Where a blob lies in its pack: `length` sealed bytes from `offset`; `size` plain bytes, 0 where it is not compressed."""

    kind: BlobKind
    id: bytes
    offset: int
    length: int
    size: int = 0

    @property
    def plain_size(self) -> int:
        """Bytes of the blob as it was saved."""
        return self.size or self.length - OVERHEAD


class PackBuilder:
    """Fills one pack after another in the same buffer; for one thread at a time."""

    def __init__(self, kind: BlobKind, key: SealKey, level: int) -> None:
        self.kind = kind
        self._key = key
        self._compressor = Compressor(level)
        self._buffer = _room(PACK_TARGET + _ROOM)
        self._end = 0
        self._blobs: list[Blob] = []

    @property
    def full(self) -> bool:
        """Whether it is time to take the pack."""
        return self._end >= PACK_TARGET or len(self._blobs) >= _MAX_PACK_BLOBS

    def add(self, blob_id: bytes, plain: Buffer) -> int:
        """Compress and seal one blob into the pack; its sealed length."""
        if not 0 < len(plain) <= MAX_BLOB:
            raise InvalidInput(f"a blob of {len(plain)} bytes cannot be stored")
        packed = self._compressor.blob(plain)
        stored = plain if packed is None else packed
        if not self._blobs and len(self._buffer) > PACK_TARGET + _ROOM:  # grown for one big tree
            self._buffer = _room(PACK_TARGET + _ROOM)
        self._reserve(len(stored) + OVERHEAD + 16)
        length = self._key.seal_into(stored, self._buffer[self._end :])
        self._blobs.append(Blob(self.kind, blob_id, self._end, length, 0 if packed is None else len(plain)))
        self._end += length
        return length

    def _reserve(self, room: int) -> None:
        if self._end + room > len(self._buffer):
            larger = _room(self._end + room)
            larger[: self._end] = self._buffer[: self._end]
            self._buffer = larger

    def take(self) -> tuple[bytes, memoryview, list[Blob]] | None:
        """The finished pack: its id, its bytes (until the next `add`) and its blobs; None where it is empty."""
        if not self._blobs:
            return None
        header = encode_header(self._blobs)
        self._reserve(len(header) + OVERHEAD + 20)
        length = self._key.seal_into(header, self._buffer[self._end :])
        end = self._end + length + 4
        self._buffer[end - 4 : end] = struct.pack("<I", length)
        whole = self._buffer[:end]
        blobs, self._blobs, self._end = self._blobs, [], 0
        return hashlib.sha256(whole).digest(), whole, blobs


def _room(size: int) -> memoryview:
    """Memory that is not touched before it is used: most packs of small resources stay small."""
    return np.empty(size, np.uint8).data


def encode_header(blobs: Sequence[Blob]) -> bytes:
    """The plain header of a pack; the blobs must lie one after another from its start."""
    out = bytearray()
    for blob in blobs:
        code = int(blob.kind == "tree")
        if blob.size:
            out += _ENTRY_ZSTD.pack(code + 2, blob.length, blob.size, blob.id)
        else:
            out += _ENTRY_RAW.pack(code, blob.length, blob.id)
    return bytes(out)


def decode_header(raw: bytes, name: str) -> list[Blob]:
    """The blobs of a plain header; `Damaged` naming the pack `name` where it is no header."""
    blobs: list[Blob] = []
    at = offset = 0
    try:
        while at < len(raw):
            entry = _ENTRY_ZSTD if raw[at] & 2 else _ENTRY_RAW
            code, length, *size, blob_id = entry.unpack_from(raw, at)
            if code > 3 or length <= OVERHEAD:
                raise Damaged(name, "its header has an impossible entry")
            blobs.append(Blob("tree" if code & 1 else "data", blob_id, offset, length, *size))
            offset += length
            at += entry.size
    except struct.error:
        raise Damaged(name, "its header is cut") from None
    return blobs


def header_length(tail: Buffer, pack_size: int, name: str) -> int:
    """The sealed header's length from the last four bytes of a pack of `pack_size` bytes, checked against it."""
    length = int.from_bytes(tail[-4:], "little")
    if len(tail) < 4 or not OVERHEAD < length <= min(_MAX_HEADER, pack_size - 4):
        raise Damaged(name, f"its header cannot have {length} bytes")
    return length
