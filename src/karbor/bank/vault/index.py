"""The index: which pack holds a blob, and where in it.

In the bank it is a set of sealed JSON files that only grows until prune replaces some. Here it is a set of segments
and a dictionary of what this process has written lately. A blob may be in several packs; every place is found.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from karbor.bank.vault.codec import MAX_BLOB
from karbor.bank.vault.crypto import OVERHEAD
from karbor.bank.vault.pack import Blob, BlobKind
from karbor.bank.vault.segments import PACK_MASK, PackEntry, Place, Segment
from karbor.bank.vault.wireformat import id_of
from karbor.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INDEX_BLOBS = 50_000
"""Blobs in one index file."""

TABLE = np.dtype([("pack", "<i8"), ("offset", "<u4"), ("length", "<u4"), ("size", "<u4")])


class Located(msgspec.Struct, frozen=True):
    """Where many blobs lie. `table` has a row of `TABLE` for each: `pack` is a position in `packs`, -1 where the blob is
    in no pack; the rest is as in `Place`.
    """

    packs: list[bytes]
    table: npt.NDArray[np.void]

    @property
    def missing(self) -> npt.NDArray[np.intp]:
        """The positions of the blobs that are in no pack."""
        return np.flatnonzero(self.table["pack"] < 0)

    @property
    def plain_sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each blob as it was saved; 0 where it is missing."""
        size = self.table["size"].astype(np.int64)
        raw = np.maximum(self.table["length"].astype(np.int64) - OVERHEAD, 0)
        return np.where(size > 0, size, raw)


class _WireBlob(msgspec.Struct, omit_defaults=True, gc=False):
    id: str
    type: BlobKind
    offset: int
    length: int
    uncompressed_length: int = 0


class _WirePack(msgspec.Struct):
    id: str
    blobs: list[_WireBlob]


class _WireIndex(msgspec.Struct):
    packs: list[_WirePack] | None


_decode = msgspec.json.Decoder(_WireIndex).decode


def encode_index(packs: Iterable[PackEntry]) -> bytes:
    """The JSON of an index file."""
    wire = _WireIndex(
        [
            _WirePack(pack.id.hex(), [_WireBlob(b.id.hex(), b.kind, b.offset, b.length, b.size) for b in pack.blobs])
            for pack in packs
        ]
    )
    return msgspec.json.encode(wire)


def decode_index(raw: bytes, name: str) -> Iterator[PackEntry]:
    """The packs of an index file; `Damaged` naming the bank object `name` where it is none."""
    try:
        for pack in _decode(raw).packs or ():
            yield PackEntry(id_of(pack.id), [_blob(blob) for blob in pack.blobs])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damaged(name, f"it holds no index ({error})") from None


def _blob(wire: _WireBlob) -> Blob:
    sane = (
        0 <= wire.offset < 1 << 32 and OVERHEAD < wire.length <= MAX_BLOB and 0 <= wire.uncompressed_length <= MAX_BLOB
    )
    if not sane:
        raise ValueError("a blob has an impossible place")
    return Blob(wire.type, id_of(wire.id), wire.offset, wire.length, wire.uncompressed_length)


class Index:
    """All segments of a repository and what was written since. Reads need no lock; `add` may be called by any thread."""

    def __init__(self) -> None:
        self.segments: tuple[Segment, ...] = ()
        self._recent: tuple[dict[tuple[BlobKind, bytes], Place], ...] = ({},)
        self._recent_sources: set[str] = set()
        self._lock = Lock()

    def add(self, packs: Iterable[PackEntry], source: str) -> None:
        """Make the blobs of newly written packs known; `source` is the index file that lists them."""
        with self._lock:
            self._recent_sources.add(source)
            newest = self._recent[0]
            for pack in packs:
                for blob in pack.blobs:
                    newest[blob.kind, blob.id] = Place(pack.id, blob.offset, blob.length, blob.size)

    @property
    def recent_count(self) -> int:
        """How many blobs lie in the dictionary rather than in a segment."""
        return sum(map(len, self._recent))

    def set_recent_aside(self) -> frozenset[str]:
        """Begin to move what was added into segments; the index files that it came from. `replace` ends it."""
        with self._lock:
            sources = frozenset(self._recent_sources)
            self._recent_sources.clear()
            self._recent = ({}, *self._recent)
        return sources

    def replace(self, segments: Iterable[Segment]) -> None:
        """Change to these segments, which hold whatever is still true of what was set aside."""
        with self._lock:
            self.segments = tuple(segments)
            self._recent = self._recent[:1]

    def places(self, kind: BlobKind, blob_id: bytes) -> Iterator[Place]:
        """Every known place of a blob, the newest first."""
        for recent in self._recent:
            if (found := recent.get((kind, blob_id))) is not None:
                yield found
        for segment in reversed(self.segments):
            yield from segment.find(kind, blob_id)

    def has(self, kind: BlobKind, blob_id: bytes, *, except_in: frozenset[bytes] = frozenset()) -> bool:
        """Whether the blob lies in some pack that is not one of `except_in`."""
        return self.place(kind, blob_id, except_in=except_in) is not None

    def place(self, kind: BlobKind, blob_id: bytes, *, except_in: frozenset[bytes] = frozenset()) -> Place | None:
        """One place of the blob in a pack that is not one of `except_in`."""
        return next((place for place in self.places(kind, blob_id) if place.pack not in except_in), None)

    def locate(self, kind: BlobKind, content: bytes, *, except_in: frozenset[bytes] = frozenset()) -> Located:
        """Where each blob of `content` (ids of 32 bytes each) lies, in one batch; in no pack of `except_in`."""
        ids = np.frombuffer(content, "V32")
        table = np.zeros(len(ids), TABLE)
        table["pack"] = -1
        packs: list[bytes] = []
        for segment in self.segments:
            rest = np.flatnonzero(table["pack"] < 0)
            good, at = segment.match(kind, ids[rest], except_in)
            rows = segment.rows[at]
            used, pack = np.unique(rows["pack"] & PACK_MASK, return_inverse=True)
            chosen = rest[good]
            table["pack"][chosen] = pack + len(packs)
            for field in ("offset", "length", "size"):
                table[field][chosen] = rows[field]
            packs += [segment.packs[number].tobytes() for number in used]
        numbers = {pack: number for number, pack in enumerate(packs)}
        for position in np.flatnonzero(table["pack"] < 0):
            place = self.place(kind, ids[position].tobytes(), except_in=except_in)
            if place is not None:
                if place.pack not in numbers:
                    numbers[place.pack] = len(packs)
                    packs.append(place.pack)
                table[position] = (numbers[place.pack], place.offset, place.length, place.size)
        return Located(packs, table)

    def __len__(self) -> int:
        return sum(map(len, self.segments)) + self.recent_count
