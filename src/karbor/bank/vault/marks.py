"""Which blobs are reachable: a mark for every row of the index, in bounded memory at any size of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from karbor.bank.vault.segments import PACK_MASK

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from karbor.bank.vault.index import Index
    from karbor.bank.vault.pack import BlobKind

_BLOCK = 1 << 20
"""Rows that are looked at together."""


class Marks:
    """Marks rows of the segments that `index` has now. Of a blob with several copies one is marked: one outside the packs
    of `avoided` where there is one.
    """

    def __init__(self, index: Index, *, avoided: frozenset[bytes] = frozenset()) -> None:
        self._segments = index.segments
        self._avoided = avoided
        self._used = [np.zeros(len(segment), np.bool_) for segment in self._segments]

    def mark(self, kind: BlobKind, ids: bytes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
        """Mark the blobs that `ids` names, 32 bytes each: which of them had no mark before, and the positions of those
        that no pack holds."""
        wanted = np.frombuffer(ids, "V32")
        fresh = np.zeros(len(wanted), np.bool_)
        rest = np.arange(len(wanted))
        for avoided in (self._avoided, frozenset[bytes]()) if self._avoided else (frozenset[bytes](),):
            for segment, used in zip(self._segments, self._used, strict=True):
                good, rows = segment.match(kind, wanted[rest], avoided)
                fresh[rest[good]] = ~used[rows]
                used[rows] = True
                rest = rest[~good]
            slow = (at for at in rest.tolist() if not self._mark_one(kind, wanted[at].tobytes(), avoided, fresh, at))
            rest = np.fromiter(slow, np.intp)
        return fresh, rest

    def _mark_one(
        self, kind: BlobKind, blob_id: bytes, avoided: frozenset[bytes], fresh: npt.NDArray[np.bool_], at: int
    ) -> bool:
        """The slow way, for the few whose row is not the first with its key."""
        for segment, used in zip(self._segments, self._used, strict=True):
            for row in segment.find_rows(kind, blob_id):
                pack = segment.packs[segment.rows["pack"][row] & PACK_MASK].tobytes()
                if pack not in avoided:
                    fresh[at] = not used[row]
                    used[row] = True
                    return True
        return False

    def usage(self) -> Iterator[tuple[bytes, int, int]]:
        """(pack, marked bytes, all bytes) of every pack, once for each segment that lists it."""
        for segment, used in zip(self._segments, self._used, strict=True):
            marked, whole = np.zeros(len(segment.packs)), np.zeros(len(segment.packs))
            for start in range(0, len(segment), _BLOCK):
                rows = segment.rows[start : start + _BLOCK]
                packs = (rows["pack"] & PACK_MASK).astype(np.intp)
                lengths = rows["length"].astype(np.float64)
                whole += np.bincount(packs, lengths, len(whole))
                marked += np.bincount(packs, lengths * used[start : start + _BLOCK], len(whole))
            for number, pack in enumerate(segment.packs):
                yield pack.tobytes(), int(marked[number]), int(whole[number])

    def marked(self, packs: frozenset[bytes]) -> Iterator[tuple[BlobKind, bytes]]:
        """(kind, id) of the marked blobs in `packs`."""
        for segment, used in zip(self._segments, self._used, strict=True):
            chosen = segment.is_in(packs)
            for start in range(0, len(segment), _BLOCK):
                rows = segment.rows[start : start + _BLOCK]
                hit = rows[used[start : start + _BLOCK] & chosen[rows["pack"] & PACK_MASK]]
                for row in hit:
                    yield ("tree" if row["pack"] & ~PACK_MASK else "data"), row["id"].tobytes()
