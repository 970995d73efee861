"""A writer: turns blobs into packs and packs into index files. What it wrote exists once `flush` returned."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Self

from karbor.bank.vault.index import INDEX_BLOBS, encode_index
from karbor.bank.vault.nodes import encode_tree
from karbor.bank.vault.pack import PackBuilder
from karbor.bank.vault.segments import PackEntry
from karbor.errors import BankError, KarborError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from karbor.bank.vault.index import Located
    from karbor.bank.vault.nodes import Node
    from karbor.bank.vault.pack import BlobKind
    from karbor.bank.vault.repository import Repository
    from karbor.sdk.bank import Buffer

_INDEX_EVERY = 300.0
_RECENT = 250_000
"""Blobs of this run that lie in a dictionary, 200 bytes each, before they go into a segment."""


class _Slot:
    """A pack that is being filled, by whichever thread holds the lock."""

    def __init__(self, builder: PackBuilder) -> None:
        self.lock = Lock()
        self.builder = builder


class Writer:
    """Saves blobs, each once. Every method may be called from many threads; each thread fills a pack of its own.

    As a context manager it flushes at the end, unless an error ends it: then what was not flushed is left to prune.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        level: int,
        throttle: Callable[[int], None] | None,
        dead: frozenset[bytes],
    ) -> None:
        self.repository = repository
        self.added_bytes = 0
        """Bytes sent to the bank so far: packs and index files."""
        self._level, self._throttle, self._dead = level, throttle, dead
        self._slots: dict[BlobKind, list[_Slot]] = {"data": [], "tree": []}
        self._claimed: dict[BlobKind, set[bytes]] = {"data": set(), "tree": set()}
        self._packs: list[PackEntry] = []
        self._indexed = repository.clock.monotonic()
        self._lock = Lock()
        self._index_lock = Lock()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
        self.close()

    def save(self, kind: BlobKind, data: Buffer) -> bytes:
        """Store a blob unless it is there already; its id. It is durable after the next `flush`."""
        return self.store(kind, data)[0]

    def store(self, kind: BlobKind, data: Buffer) -> tuple[bytes, int]:
        """As `save`: the id, and the sealed bytes that were added (0 where it was there already)."""
        blob_id = hashlib.sha256(data).digest()
        if self.has(kind, blob_id) or not self._claim(kind, blob_id):
            return blob_id, 0
        with self._slot(kind) as slot:
            added = slot.builder.add(blob_id, data)
            if slot.builder.full:
                self._send(slot)
        return blob_id, added

    def save_tree(self, nodes: Iterable[Node]) -> bytes:
        """Store a directory; its id. Nodes come strictly ascending by name."""
        return self.save("tree", encode_tree(nodes))

    def has(self, kind: BlobKind, blob_id: bytes) -> bool:
        """Whether the blob is in the repository or claimed by this writer, so that `save` would do nothing."""
        return blob_id in self._claimed[kind] or self.repository.index.has(kind, blob_id, except_in=self._dead)

    def locate(self, kind: BlobKind, content: bytes) -> Located:
        """Where the blobs of `content` (ids of 32 bytes each) lie, in one batch. What a file or an image inherits from
        its predecessor must not be among the `missing`.
        """
        return self.repository.index.locate(kind, content, except_in=self._dead)

    def flush(self) -> None:
        """Send every pack and the index of what was sent. What was saved before the call is durable when it returns."""
        for slot in (*self._slots["data"], *self._slots["tree"]):
            with slot.lock:
                self._send(slot)
        self._write_index()
        self._check()

    def close(self) -> None:
        """Forget what was not flushed."""
        self._slots = {"data": [], "tree": []}
        self._failure = self._failure or BankError("the writer was closed")

    def _claim(self, kind: BlobKind, blob_id: bytes) -> bool:
        with self._lock:
            self._check()
            claimed = self._claimed[kind]
            before = len(claimed)
            claimed.add(blob_id)
            return len(claimed) > before

    @contextmanager
    def _slot(self, kind: BlobKind) -> Iterator[_Slot]:
        """A pack that nobody else is filling; the first free one, so that as few as possible are open."""
        slots = self._slots[kind]
        slot = next((slot for slot in slots if slot.lock.acquire(blocking=False)), None)
        if slot is None:
            slot = _Slot(PackBuilder(kind, self.repository.key, self._level))
            slot.lock.acquire()
            slots.append(slot)
        try:
            with self._failing():
                yield slot
        finally:
            slot.lock.release()

    def _send(self, slot: _Slot) -> None:
        taken = slot.builder.take()
        if taken is None:
            return
        pack_id, whole, blobs = taken
        self._put(self.repository.pack_path(pack_id), whole)
        with self._lock:
            self._packs.append(PackEntry(pack_id, blobs))
            count = sum(len(pack.blobs) for pack in self._packs)
        if count >= INDEX_BLOBS or self.repository.clock.monotonic() - self._indexed > _INDEX_EVERY:
            self._write_index()

    def _put(self, key: str, data: Buffer) -> None:
        self._check()
        with self._failing():
            if self._throttle is not None:
                self._throttle(len(data))
            self.repository.bank.put(key, [data])
        with self._lock:
            self.added_bytes += len(data)

    def _check(self) -> None:
        if isinstance(self._failure, KarborError):
            raise self._failure
        if self._failure is not None:
            raise BankError("the writer has failed; what it saved is not complete") from self._failure

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """An error ends the writer: others may rely on what was claimed and is now lost. They are told the first one."""
        try:
            yield
        except BaseException as error:
            self._failure = self._failure or error
            raise

    def _write_index(self) -> None:
        """One after another: `flush` must not return while another thread still sends an index file."""
        with self._index_lock, self._failing():
            with self._lock:
                packs, self._packs = self._packs, []
            self._indexed = self.repository.clock.monotonic()
            if not packs:
                return
            name, sealed = self.repository.documents.seal(encode_index(packs))
            self._put(self.repository.documents.path("index", name), sealed)
            self.repository.index.add(packs, name)
            with self._lock:
                for blob in (blob for pack in packs for blob in pack.blobs):
                    self._claimed[blob.kind].discard(blob.id)
            if self.repository.index.recent_count > _RECENT:
                self.repository.refresh_index()
