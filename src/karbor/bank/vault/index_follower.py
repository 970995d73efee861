"""Keeping the index in step with the index files in the bank, by way of the local cache."""

from __future__ import annotations

from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING

from karbor.bank.vault.index import decode_index
from karbor.bank.vault.segments import build_segment, in_memory, merge, tiers
from karbor.errors import BankError, Damaged, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from karbor.bank.vault.documents import Documents
    from karbor.bank.vault.index import Index
    from karbor.bank.vault.index_cache import IndexCache
    from karbor.bank.vault.segments import PackEntry, Segment

FOLDER = "index"
_FILES_AT_ONCE = 4
"""Index files that are in memory at once and become one segment: 200,000 blobs, 60 MiB."""
_ATTEMPTS = 5


class IndexFollower:
    """Brings `index` up to date with the bank; without a `cache` the segments stay in memory.

    A damaged index file does not keep anybody from reading what the others name: it is left out, and stands in `damage`.
    """

    def __init__(self, documents: Documents, index: Index, cache: IndexCache | None) -> None:
        self._documents, self._index, self._cache = documents, index, cache
        self.damage: tuple[Damaged, ...] = ()
        self._own: frozenset[str] = frozenset()
        self._loaded = False
        self._lock = Lock()

    def refresh(self) -> bool:
        """Read the index files that are new and drop what vanished ones held; whether anything changed."""
        with self._lock:
            for _ in range(_ATTEMPTS):
                live = self._live()
                kept = self._kept(live)
                fresh = sorted(live.difference(*(segment.sources for segment in kept)))
                damage: list[Damaged] = []
                try:
                    segments = self._extended(kept, fresh, damage)
                except ObjectMissing:  # replaced between the listing and the reading
                    continue
                changed = segments != list(self._index.segments)
                self.damage = tuple(damage)
                self._index.replace(segments)
                self._own, self._loaded = frozenset(), True
                return changed
        raise BankError(f"the index below {self._documents.prefix} changes faster than it can be read")

    def _live(self) -> frozenset[str]:
        """The index files that exist. A listing may lag behind: files of our own that it lacks are asked for."""
        self._own |= self._index.set_recent_aside()
        listed = frozenset(self._documents.names(FOLDER))
        return listed | {name for name in self._own - listed if self._exists(name)}

    def _exists(self, name: str) -> bool:
        try:
            self._documents.bank.stat(self._documents.path(FOLDER, name))
        except ObjectMissing:
            return False
        return True

    def _kept(self, live: frozenset[str]) -> list[Segment]:
        if self._cache is not None and not self._loaded:
            return self._cache.load(live)
        return [segment for segment in self._index.segments if segment.sources <= live]

    def _extended(self, kept: list[Segment], fresh: Sequence[str], damage: list[Damaged]) -> list[Segment]:
        segments = list(kept)
        for start in range(0, len(fresh), _FILES_AT_ONCE):
            files = {name: self._read(name, damage) for name in fresh[start : start + _FILES_AT_ONCE]}
            sound = {name: packs for name, packs in files.items() if packs is not None}
            if sound:
                built = build_segment(chain.from_iterable(sound.values()), frozenset(sound))
                segments.append(self._merged([built]) if len(fresh) > _FILES_AT_ONCE else built)
        keeping, merging = tiers(segments)
        if len(segments) > len(kept):
            merging = [self._merged(merging)]
        return keeping + merging

    def _merged(self, parts: list[Segment]) -> Segment:
        if self._cache is not None:
            return self._cache.store(parts)
        if len(parts) == 1:
            return parts[0]
        return merge(parts, in_memory(sum(map(len, parts)), sum(len(part.packs) for part in parts)))

    def _read(self, name: str, damage: list[Damaged]) -> list[PackEntry] | None:
        try:
            return list(decode_index(self._documents.get(FOLDER, name), self._documents.path(FOLDER, name)))
        except Damaged as error:
            damage.append(error)
            return None
