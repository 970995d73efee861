"""Checking a repository: its structure, and by rotation its data. Findings name the object and what it affects.

The structure: every document opens and has its name's hash; every pack that the index names is there with the size
that its blobs make; every tree that a snapshot refers to opens; every blob is in the index. The data: every byte of the
packs of one part of `parts` is read, and every blob in them opened and hashed. A pack belongs to a part by its name, so
that as many checks as there are parts have read everything.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from karbor.bank.vault.affected import Affected, affected_by
from karbor.bank.vault.codec import MAX_BLOB
from karbor.bank.vault.crypto import OVERHEAD
from karbor.bank.vault.index import decode_index
from karbor.bank.vault.locks import FOLDER as LOCKS
from karbor.bank.vault.locks import decode_lock
from karbor.bank.vault.marks import Marks
from karbor.bank.vault.pack import PACK_TARGET, Blob, BlobKind, decode_header, header_length
from karbor.bank.vault.reach import Lost, Reach, reason_of
from karbor.bank.vault.segments import Place
from karbor.bank.vault.workers import Tally, share
from karbor.errors import Damaged, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from karbor.bank.vault.repository import Repository
    from karbor.bank.vault.segments import PackEntry
    from karbor.bank.vault.snapshot import Snapshot

_NAMES = re.compile(
    r"config|karbor/.*|data/(?P<two>[0-9a-f]{2})/(?P<pack>(?P=two)[0-9a-f]{62})"
    r"|(?P<folder>index|keys|locks|snapshots)/(?P<name>[0-9a-f]{64})"
)
_MAX_PACK = MAX_BLOB + PACK_TARGET + (32 << 20)


class Finding(msgspec.Struct, frozen=True):
    """Something wrong: with which bank object, what, and what it affects."""

    key: str
    problem: str
    affected: tuple[Affected, ...] = ()


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found and how much it looked at. `unused` are packs that no index file names: left by writers that
    died, or being written at this moment; harmless."""

    findings: tuple[Finding, ...]
    snapshots: int
    packs: int
    read_packs: int
    read_bytes: int
    unused: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


class Rotation(msgspec.Struct, frozen=True):
    """Part `part` (from 1) of `parts` of the data."""

    part: int
    parts: int

    def takes(self, pack: bytes) -> bool:
        """Whether a pack belongs to this part."""
        return int.from_bytes(pack[:8], "big") % self.parts == self.part - 1


EVERYTHING = Rotation(1, 1)


def check(
    repository: Repository,
    *,
    snapshots: Collection[str] | None = None,
    rotation: Rotation | None = None,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Check the structure and, with a `rotation`, that part of the data.

    `snapshots` are the ids that the catalogue knows: one that is missing is a finding, and so is one that is there and
    not among them (put back, or planted). `progress` is called with bytes read and 0, and may raise to stop.
    """
    return _Check(repository.reopened(), rotation, threads, progress).run(snapshots)


class _Check:
    def __init__(
        self,
        repository: Repository,
        rotation: Rotation | None,
        threads: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._repository, self._rotation, self._threads = repository, rotation, threads
        self._documents = repository.documents
        self._found: dict[str, str] = {}
        self._lost: dict[tuple[BlobKind, bytes], Lost] = {}
        self._bad: set[tuple[bytes, bytes]] = set()
        self._read = Tally(0, progress)
        self._read_packs = Tally(0, None)

    def run(self, expected: Collection[str] | None) -> CheckReport:
        snapshots = dict(self._snapshots(expected))
        self._repository.refresh_index()  # after the snapshots, so that it has all that they need
        sizes = dict(self._stored_packs())
        indexed: set[bytes] = set()
        share(self._doubtful_packs(sizes, indexed), self._read_pack, threads=self._threads)
        self._check_reach(snapshots)
        unused = sorted(sizes.keys() - indexed)
        self._blame_unused(unused)
        return CheckReport(
            findings=tuple(self._findings(snapshots)),
            snapshots=len(snapshots),
            packs=len(sizes),
            read_packs=self._read_packs.done,
            read_bytes=self._read.done,
            unused=tuple(self._repository.pack_path(pack) for pack in unused),
        )

    def _findings(self, snapshots: dict[str, Snapshot]) -> Iterator[Finding]:
        problems = {lost.key: lost.reason for lost in self._lost.values()} | self._found
        affected = affected_by(self._repository, snapshots, self._lost.values()) if self._lost else {}
        committed = self._documents.path("snapshots", "")
        for key, problem in sorted(problems.items()):
            hit = affected.get(key, [])
            if key.startswith(committed):
                hit = [Affected(key.removeprefix(committed), "", "/")]
            yield Finding(key, problem, tuple(hit))

    def _find(self, key: str, problem: str) -> None:
        self._found.setdefault(key, problem)

    def _blame(self, error: Damaged | ObjectMissing) -> None:
        self._find(error.key, reason_of(error))

    # --- documents and names

    def _snapshots(self, expected: Collection[str] | None) -> Iterator[tuple[str, Snapshot]]:
        listed = set(self._documents.names("snapshots"))
        for name in sorted(listed.union(expected or ())):
            if expected is not None and name not in expected:
                self._find(self._documents.path("snapshots", name), "the catalogue does not know it")
            try:
                yield name, self._repository.snapshot(name)
            except (Damaged, ObjectMissing) as error:
                self._blame(error)

    def _stored_packs(self) -> Iterator[tuple[bytes, int]]:
        """(pack, size) of every pack; on the way everything else below the prefix is looked at."""
        for stat in self._repository.bank.list(self._repository.prefix):
            match = _NAMES.fullmatch(stat.key.removeprefix(self._repository.prefix))
            if match is None:
                self._find(stat.key, "nothing of this name belongs to a repository")
            elif match["pack"]:
                yield bytes.fromhex(match["pack"]), stat.size
            elif match["folder"] == "keys":
                self._try(partial(self._repository.key_info, match["name"]))
            elif match["folder"] == LOCKS:
                self._try(partial(self._open_lock, match["name"]))

    def _open_lock(self, name: str) -> None:
        decode_lock(self._documents.get(LOCKS, name), self._documents.path(LOCKS, name))

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except ObjectMissing:  # keys and locks come and go
            return
        except Damaged as error:
            self._blame(error)

    def _index_files(self) -> Iterator[PackEntry]:
        for name in self._documents.names("index"):
            path = self._documents.path("index", name)
            try:
                yield from decode_index(self._documents.get("index", name), path)
            except ObjectMissing:  # replaced meanwhile
                continue
            except Damaged as error:
                self._blame(error)

    # --- packs

    def _doubtful_packs(self, sizes: dict[bytes, int], indexed: set[bytes]) -> Iterator[PackEntry]:
        """Compare the packs with the index and note in `indexed` those that it names; the packs that must be read."""
        for pack in self._index_files():
            path = self._repository.pack_path(pack.id)
            size = sizes.get(pack.id) or self._stored_size(path)
            wanted = pack_size(pack.blobs)
            if size is None:
                self._lose(pack.id, pack.blobs, "it is missing")
            elif wanted not in (0, size):
                self._find(path, f"it has {size} bytes in place of {wanted}")
                yield pack
            elif self._rotation is not None and self._rotation.takes(pack.id) and pack.id not in indexed:
                yield pack
            indexed.add(pack.id)

    def _stored_size(self, path: str) -> int | None:
        """A listing may lag behind, and packs are written while it goes on: what is missing is asked for."""
        try:
            return self._repository.bank.stat(path).size
        except ObjectMissing:
            return None

    def _lose(self, pack: bytes, blobs: Iterable[Blob], reason: str) -> None:
        """A pack is bad, and so are these blobs of it, but those of which another pack has a good copy."""
        path = self._repository.pack_path(pack)
        self._find(path, reason)
        for blob in blobs:
            self._bad.add((pack, blob.id))
            places = self._repository.index.places(blob.kind, blob.id)
            if all((place.pack, blob.id) in self._bad for place in places):
                self._lost.setdefault((blob.kind, blob.id), Lost(blob.kind, blob.id, path, reason))

    def _read_pack(self, pack: PackEntry) -> None:
        path = self._repository.pack_path(pack.id)
        try:
            raw = memoryview(self._repository.bank.get(path, limit=_MAX_PACK))
        except (Damaged, ObjectMissing) as error:
            self._lose(pack.id, pack.blobs, reason_of(error))
            return
        self._read_packs.add(1)
        self._read.add(len(raw))
        for blob in pack.blobs:
            place = Place(pack.id, blob.offset, blob.length, blob.size)
            try:
                self._repository.open_blob(blob.id, place, raw[blob.offset : blob.offset + blob.length])
            except Damaged as error:
                self._lose(pack.id, [blob], error.reason)
        if hashlib.sha256(raw).digest() != pack.id:
            self._find(path, "its hash is not its name")
        else:
            self._check_header(pack, path, raw)

    def _check_header(self, pack: PackEntry, path: str, raw: memoryview) -> None:
        try:
            length = header_length(raw[-4:], len(raw), path)
            blobs = decode_header(self._repository.key.open(raw[-4 - length : -4], path), path)
        except Damaged as error:
            self._blame(error)
            return
        if not {_place(blob) for blob in pack.blobs} <= {_place(blob) for blob in blobs}:
            self._find(path, "the index names blobs that its header does not")

    def _blame_unused(self, unused: Iterable[bytes]) -> None:
        """Where blobs are in no index file, a pack that no index file names may have them: then an index file is gone."""
        for pack in unused if self._lost else ():
            try:
                blobs = self._repository.pack_header(pack)
            except (Damaged, ObjectMissing):
                continue
            if any((blob.kind, blob.id) in self._lost for blob in blobs):
                path = self._repository.pack_path(pack)
                self._find(path, "it holds blobs that are needed, and the index file that named it is gone")

    # --- what snapshots refer to

    def _check_reach(self, snapshots: dict[str, Snapshot]) -> None:
        def lost(blob: Lost) -> None:
            self._lost.setdefault((blob.kind, blob.id), blob)

        reach = Reach(self._repository, Marks(self._repository.index), lost)
        reach.add(snapshot.tree for snapshot in snapshots.values())


def _place(blob: Blob) -> tuple[str, bytes, int, int]:
    return blob.kind, blob.id, blob.offset, blob.length


def pack_size(blobs: Collection[Blob]) -> int:
    """Bytes of the pack that holds exactly these blobs; 0 where they leave gaps, so that it must hold others too."""
    end = 0
    for blob in sorted(blobs, key=lambda blob: blob.offset):
        if blob.offset != end:
            return 0
        end += blob.length
    return end + sum(41 if blob.size else 37 for blob in blobs) + OVERHEAD + 4
