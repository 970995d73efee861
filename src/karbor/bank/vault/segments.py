"""Segments: sorted, immutable parts of the index, 56 bytes per blob, in memory or in a mapped cache file.

They are looked up by the first eight bytes of a blob's id, which is a hash and so spread evenly: one by one with bisect,
many at once with numpy. They are merged like the levels of a log-structured tree, in bounded memory.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from karbor.bank.vault.crypto import OVERHEAD
from karbor.bank.vault.pack import Blob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from karbor.bank.vault.pack import BlobKind

KEY = np.dtype("<u8")
PACK_ID = np.dtype("V32")
ROW = np.dtype([("id", "V32"), ("pack", "<u4"), ("offset", "<u4"), ("length", "<u4"), ("size", "<u4")])
_TREE = 1 << 31
TREE_BIT = np.uint32(_TREE)
"""Set in `pack` of a row whose blob is a tree; the rest is the pack's number in its segment."""
PACK_MASK = ~TREE_BIT
_PLACE = struct.Struct("<IIII")
_PACK = struct.Struct("<I")


_MERGED_AT_ONCE = 1 << 20
"""Rows that are in memory while segments are merged."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a blob lies: the id of the pack, `length` sealed bytes from `offset`; `size` plain bytes, 0 if not compressed."""

    pack: bytes
    offset: int
    length: int
    size: int

    @property
    def plain_size(self) -> int:
        """Bytes of the blob as it was saved."""
        return self.size or self.length - OVERHEAD


class PackEntry(msgspec.Struct, frozen=True):
    """A pack and its blobs, as an index file lists them."""

    id: bytes
    blobs: list[Blob]


class Segment:
    """A sorted, immutable part of the index. `sources` are the names of the index files that it was made of."""

    def __init__(
        self,
        keys: npt.NDArray[np.uint64],
        rows: npt.NDArray[np.void],
        packs: npt.NDArray[np.void],
        sources: frozenset[str],
    ) -> None:
        self.keys, self.rows, self.packs, self.sources = keys, rows, packs, sources
        # Single look-ups by bisect over plain memory take 2 µs, numpy's way 10 µs.
        self._keys = keys.data
        self._rows = rows.view(np.uint8).data

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, kind: BlobKind, blob_id: bytes) -> Iterator[Place]:
        """Every place of one blob."""
        for row in self.find_rows(kind, blob_id):
            pack, offset, length, size = _PLACE.unpack_from(self._rows, row * ROW.itemsize + 32)
            yield Place(self.packs[pack & ~_TREE].tobytes(), offset, length, size)

    def find_rows(self, kind: BlobKind, blob_id: bytes) -> Iterator[int]:
        """The numbers of the rows of one blob."""
        key = int.from_bytes(blob_id[:8], "big")
        row = bisect_left(self._keys, key)
        while row < len(self._keys) and self._keys[row] == key:
            start = row * ROW.itemsize
            (pack,) = _PACK.unpack_from(self._rows, start + 32)
            if self._rows[start : start + 32] == blob_id and bool(pack & _TREE) == (kind == "tree"):
                yield row
            row += 1

    def match(
        self, kind: BlobKind, ids: npt.NDArray[np.void], except_in: frozenset[bytes]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
        """Which ids are surely in a pack that is not one of `except_in`, and the numbers of their rows. Of equal keys
        only the first is looked at.
        """
        if not len(self.rows):
            return np.zeros(len(ids), np.bool_), np.zeros(0, np.intp)
        at = np.minimum(np.searchsorted(self.keys, keys_of(ids)), len(self.rows) - 1)
        found = self.rows[at]
        good = (found["id"] == ids) & ((found["pack"] & TREE_BIT != 0) == (kind == "tree"))
        if except_in:
            good &= ~self.is_in(except_in)[found["pack"] & PACK_MASK]
        return good, at[good]

    def is_in(self, packs: frozenset[bytes]) -> npt.NDArray[np.bool_]:
        """For each pack of the segment, whether it is one of `packs`."""
        return np.isin(self.packs, np.frombuffer(b"".join(packs), PACK_ID))


def keys_of(ids: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each id as a number that sorts as the ids do."""
    return np.ascontiguousarray(ids).view(np.uint8).reshape(-1, 32)[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)


def build_segment(packs: Iterable[PackEntry], sources: frozenset[str]) -> Segment:
    """A segment in memory of what index files list."""
    pack_ids = bytearray()
    raw = bytearray()
    for number, pack in enumerate(packs):
        pack_ids += pack.id
        for blob in pack.blobs:
            flag = _TREE if blob.kind == "tree" else 0
            raw += blob.id + _PLACE.pack(number | flag, blob.offset, blob.length, blob.size)
    return sorted_segment(np.frombuffer(bytes(raw), ROW), np.frombuffer(bytes(pack_ids), "V32"), sources)


def sorted_segment(rows: npt.NDArray[np.void], packs: npt.NDArray[np.void], sources: frozenset[str]) -> Segment:
    """A segment of rows in any order."""
    keys = keys_of(rows["id"])
    order = np.argsort(keys, kind="stable")
    return Segment(keys[order], rows[order], packs, sources)


def in_memory(rows: int, packs: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.void], npt.NDArray[np.void]]:
    """Empty arrays for the keys, rows and packs of a segment."""
    return np.empty(rows, KEY), np.empty(rows, ROW), np.empty(packs, PACK_ID)


def merge(
    parts: Sequence[Segment],
    arrays: tuple[npt.NDArray[np.uint64], npt.NDArray[np.void], npt.NDArray[np.void]],
) -> Segment:
    """One segment of several, written into `arrays`, which have room for all their rows and packs."""
    keys, rows, packs = arrays
    bases = np.cumsum([0, *(len(part.packs) for part in parts)])
    for part, base in zip(parts, bases[:-1], strict=True):
        packs[base : base + len(part.packs)] = part.packs
    steps = -(-len(rows) // _MERGED_AT_ONCE)
    cuts = [np.searchsorted(part.keys, [(step << 64) // steps for step in range(1, steps)]) for part in parts]
    edges = [[0, *cut.tolist(), len(part)] for cut, part in zip(cuts, parts, strict=True)]
    done = 0
    for step in range(steps):
        slices = []
        for part, edge, base in zip(parts, edges, bases[:-1], strict=True):
            piece = part.rows[edge[step] : edge[step + 1]].copy()
            piece["pack"] += np.uint32(base)  # the bit of a tree stays: pack numbers are below it
            slices.append(piece)
        piece = np.concatenate(slices)
        piece_keys = keys_of(piece["id"])
        order = np.argsort(piece_keys, kind="stable")
        keys[done : done + len(piece)] = piece_keys[order]
        rows[done : done + len(piece)] = piece[order]
        done += len(piece)
    return Segment(keys, rows, packs, frozenset().union(*(part.sources for part in parts)))


def tiers(segments: Iterable[Segment]) -> tuple[list[Segment], list[Segment]]:
    """(to keep, to merge): a segment is merged with the smaller ones when together they are half as large as it is, so
    that there are few segments and each row is copied few times."""
    merging: list[Segment] = []
    rows = 0
    ordered = sorted(segments, key=len)
    while ordered and (not merging or len(ordered[0]) <= 2 * rows):
        merging.append(ordered.pop(0))
        rows += len(merging[-1])
    return ordered, merging
