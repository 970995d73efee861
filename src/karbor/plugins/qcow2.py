"""A disk's bytes as a qcow2 file, written in one go (QEMU's docs/interop/qcow2.txt, version 2).

Why: from a raw image, Ceph makes copy-on-write clones, and then the image cannot be deleted while the volume or server
made from it lives. A qcow2 image is copied by every back end, so that it can be temporary.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_BITS = 16
_CLUSTER = 1 << _BITS
_PER_TABLE = _CLUSTER // 8
"""Entries of 8 bytes in one cluster: of the L1, L2 and refcount tables."""
_PER_BLOCK = _CLUSTER // 2
"""Refcounts of 2 bytes in one cluster."""
_COPIED = 1 << 63
_STEP = 64
"""Clusters that are read at once: 4 MiB."""
_HEADER = ">4sIQIIQIIQQIIQ"


class Qcow2:
    """The layout of a disk of `size` bytes with data at `extents`, (offset, length): header, refcounts, L1, L2, and then
    the clusters with data in order.
    """

    def __init__(self, size: int, extents: Iterable[tuple[int, int]]) -> None:
        self.virtual = size
        self._used = bytearray(_ceil(size, _CLUSTER))
        for offset, length in extents:
            first, last = offset >> _BITS, _ceil(offset + length, _CLUSTER)
            self._used[first:last] = b"\1" * (last - first)
        self._data = self._used.count(1)
        self._l2 = max(_ceil(len(self._used), _PER_TABLE), 1)
        self._l1 = _ceil(self._l2, _PER_TABLE)
        self._blocks = self._table = 1
        while self._blocks < _ceil(self._clusters, _PER_BLOCK):
            self._blocks = _ceil(self._clusters, _PER_BLOCK)
            self._table = _ceil(self._blocks, _PER_TABLE)

    @property
    def _first_data(self) -> int:
        return 1 + self._table + self._blocks + self._l1 + self._l2

    @property
    def _clusters(self) -> int:
        return self._first_data + self._data

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._clusters * _CLUSTER

    def file(self, read: Callable[[int, int], bytes]) -> Iterator[bytes]:
        """The file; `read(offset, length)` gives the disk's bytes."""
        yield from self._head()
        at = 0
        while (start := self._used.find(1, at)) >= 0:
            end = self._used.find(0, start)
            at = min(end if end >= 0 else len(self._used), start + _STEP)
            data = read(start * _CLUSTER, (at - start) * _CLUSTER)
            yield data + bytes((at - start) * _CLUSTER - len(data))

    def _head(self) -> Iterator[bytes]:
        l1_at = 1 + self._table + self._blocks
        where = (l1_at * _CLUSTER, _CLUSTER, self._table)
        yield _padded(struct.pack(_HEADER, b"QFI\xfb", 2, 0, 0, _BITS, self.virtual, 0, self._l2, *where, 0, 0))
        yield _entries(range(1 + self._table, l1_at), 0, self._table)
        for block in range(self._blocks):
            used = min(max(self._clusters - block * _PER_BLOCK, 0), _PER_BLOCK)
            yield _padded(b"\0\1" * used)
        yield _entries(range(l1_at + self._l1, self._first_data), _COPIED, self._l1)
        position = self._first_data
        for table in range(self._l2):
            flags = self._used[table * _PER_TABLE : (table + 1) * _PER_TABLE]
            numbers = [position + i if flag else 0 for flag, i in zip(flags, _ranks(flags), strict=True)]
            position += flags.count(1)
            yield _entries(numbers, _COPIED, 1)


def _ranks(used: bytearray) -> Iterator[int]:
    """For each cluster how many with data stand before it."""
    return accumulate(used[:-1], initial=0)


def _entries(clusters: Sequence[int], flag: int, room: int) -> bytes:
    """A table of offsets in so many clusters; 0 stands for none."""
    packed = struct.pack(f">{len(clusters)}Q", *(cluster * _CLUSTER | flag if cluster else 0 for cluster in clusters))
    return packed + bytes(room * _CLUSTER - len(packed))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _CLUSTER)


def _ceil(number: int, unit: int) -> int:
    return -(-number // unit)
