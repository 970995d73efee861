"""A repository: create, open, its keys, its snapshots, and reading of blobs. `Writer` writes them."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

import msgspec

from karbor.bank.vault.ballast import refill
from karbor.bank.vault.codec import Decompressor
from karbor.bank.vault.crypto import (
    HUMAN_KDF,
    MACHINE_KDF,
    MAX_KEY_FILE,
    KdfParams,
    SealKey,
    make_key_file,
    parse_key_file,
    unlock,
)
from karbor.bank.vault.documents import Documents
from karbor.bank.vault.index import Index
from karbor.bank.vault.index_cache import IndexCache
from karbor.bank.vault.index_follower import IndexFollower
from karbor.bank.vault.nodes import Node, decode_tree
from karbor.bank.vault.pack import decode_header, header_length
from karbor.bank.vault.polynomial import irreducible_polynomial
from karbor.bank.vault.prune_mark import read_mark
from karbor.bank.vault.snapshot import Snapshot, decode_snapshot, encode_snapshot, unix_ns
from karbor.bank.vault.wireformat import go_time
from karbor.bank.vault.writer import Writer
from karbor.errors import BankForeign, Damaged, InvalidInput, ObjectExists, ObjectMissing
from karbor.sdk.bank import FEATURE_IF_ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from karbor.bank.vault.crypto import KeyFile
    from karbor.bank.vault.pack import Blob, BlobKind
    from karbor.bank.vault.segments import Place
    from karbor.domain.clock import Clock
    from karbor.sdk.bank import Bank

_VERSION = 2
_ID = re.compile("[0-9a-f]{64}")
_MAX_CONFIG = 64 << 10
_MAX_KEYS = 20
"""As many key files are tried as restic tries."""


class Config(msgspec.Struct, frozen=True):
    """The `config` object; `chunker_polynomial` is restic's, we do not use it."""

    version: int
    id: str
    chunker_polynomial: str


class KeyInfo(msgspec.Struct, frozen=True):
    """A key file, without its secret."""

    id: str
    created: str
    owner: str


class Repository:
    """An open repository below `prefix` of a bank. Every method may be called from many threads."""

    def __init__(
        self,
        bank: Bank,
        prefix: str,
        key: SealKey,
        config: Config,
        *,
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
        cache_dir: Path | None = None,
    ) -> None:
        if not _ID.fullmatch(config.id):
            raise Damaged(f"{prefix}config", "its id is none")
        self.bank, self.prefix, self.key, self.config = bank, prefix, key, config
        self.clock, self.random, self._cache_dir = clock, random, cache_dir
        self.documents = Documents(bank, prefix, key)
        self.index = Index()
        cache = IndexCache(cache_dir / config.id) if cache_dir is not None else None
        self._follower = IndexFollower(self.documents, self.index, cache)
        self._decompressor = Decompressor()

    # --- create and open

    @classmethod
    def create(
        cls,
        bank: Bank,
        prefix: str,
        passphrase: str,
        *,
        kdf: KdfParams = MACHINE_KDF,
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
        cache_dir: Path | None = None,
    ) -> Repository:
        """Make a new repository; `ObjectExists` where there is one, `BankForeign` where something else lies there."""
        check_prefix(prefix)
        _require_vacant(bank, prefix)
        key = SealKey.generate(random)
        config = Config(_VERSION, random(32).hex(), f"{irreducible_polynomial(random):x}")
        key_id = _put_key_file(bank, prefix, key, passphrase, kdf, "karbor", clock, random)
        try:
            sealed = key.seal(msgspec.json.encode(config))
            bank.put(f"{prefix}config", [sealed], if_absent=FEATURE_IF_ABSENT in bank.features)
        except ObjectExists:  # another process was faster; this key opens nothing
            bank.delete(f"{prefix}keys/{key_id}")
            raise
        # Keys of creations that were cut off, or that lost: plain restic would take one of them for this one's.
        for stat in list(bank.list(f"{prefix}keys/")):
            if not stat.key.endswith(key_id):
                bank.delete(stat.key)
        refill(bank)
        return cls(bank, prefix, key, config, clock=clock, random=random, cache_dir=cache_dir)

    @classmethod
    def open(
        cls,
        bank: Bank,
        prefix: str,
        passphrase: str,
        *,
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
        cache_dir: Path | None = None,
    ) -> Repository:
        """Open a repository; `cache_dir` may keep its index between processes.

        `ObjectMissing` where there is none, `BankForeign` where the passphrase opens no key of it.
        """
        check_prefix(prefix)
        path = f"{prefix}config"
        sealed = bank.get(path, limit=_MAX_CONFIG)
        key, plain = _unlock_config(bank, prefix, passphrase, sealed, random)
        try:
            config = msgspec.json.decode(plain, type=Config)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise Damaged(path, "it holds no configuration") from None
        if config.version != _VERSION:
            raise BankForeign(f"{path}: repository version {config.version} is not supported, only {_VERSION} is")
        return cls(bank, prefix, key, config, clock=clock, random=random, cache_dir=cache_dir)

    def reopened(self) -> Repository:
        """The same repository with an index of its own, still empty: what maintenance works on, while writers go on with
        this one.
        """
        return Repository(
            self.bank,
            self.prefix,
            self.key,
            self.config,
            clock=self.clock,
            random=self.random,
            cache_dir=self._cache_dir,
        )

    # --- keys

    def add_key(self, passphrase: str, *, kdf: KdfParams = HUMAN_KDF, owner: str = "karbor") -> str:
        """Let one more passphrase open the repository; the id of its key file."""
        return _put_key_file(self.bank, self.prefix, self.key, passphrase, kdf, owner, self.clock, self.random)

    def list_keys(self) -> list[KeyInfo]:
        """The key files."""
        return [self.key_info(name) for name in self.documents.names("keys")]

    def key_info(self, key_id: str) -> KeyInfo:
        """One key file."""
        key = _load_key_file(self.bank, self.prefix, key_id)
        return KeyInfo(key_id, key.created, key.username)

    def remove_key(self, key_id: str) -> None:
        """Let a passphrase no longer open the repository. The last key file cannot be removed."""
        if list(self.documents.names("keys")) in ([key_id], []):
            raise InvalidInput("the last key of a repository cannot be removed")
        self.documents.delete("keys", key_id)

    def now_ns(self) -> int:
        """The clock's time in Unix nanoseconds, as nodes have it."""
        return unix_ns(self.clock.now())

    # --- blobs

    def refresh_index(self) -> bool:
        """Read the index files that are new and drop what vanished ones held; whether anything changed."""
        return self._follower.refresh()

    def require_sound_index(self) -> None:
        """Refresh the index and raise `Damaged` where one of its files is; a reader can do without that file."""
        self._follower.refresh()
        for error in self._follower.damage:
            raise error

    def load(self, kind: BlobKind, blob_id: bytes) -> bytes:
        """A blob, checked against its name. `Damaged` or `ObjectMissing` name the bank object that is to blame;
        where another pack holds the blob too, that one is read.
        """
        failure: Damaged | ObjectMissing | None = None
        for attempt in range(2):
            if attempt:  # a prune may have moved it, or another process written it
                self.refresh_index()
                failure = None
            for place in self.index.places(kind, blob_id):
                try:
                    return self.load_place(blob_id, place)
                except (Damaged, ObjectMissing) as error:
                    failure = failure or error
        raise failure or self.unknown_blob(kind, blob_id)

    def unknown_blob(self, kind: BlobKind, blob_id: bytes) -> Damaged:
        """The error for a blob that no index file names; a damaged one is to blame if there is one."""
        reason = f"no index file names the {kind} blob {blob_id.hex()}"
        for error in self._follower.damage:
            return Damaged(error.key, f"{error.reason}; {reason}")
        return Damaged(f"{self.prefix}index", reason)

    def load_place(self, blob_id: bytes, place: Place) -> bytes:
        """A blob from one certain place."""
        path = self.pack_path(place.pack)
        return self.open_blob(blob_id, place, self.bank.get_range(path, place.offset, place.length))

    def open_blob(self, blob_id: bytes, place: Place, box: bytes | memoryview) -> bytes:
        """A blob from its sealed bytes; `Damaged` naming the pack where they are not this blob."""
        path = self.pack_path(place.pack)
        plain = self.key.open(box, path)
        if place.size:
            plain = self._decompressor.blob(plain, place.size, path)
        if hashlib.sha256(plain).digest() != blob_id:
            raise Damaged(path, f"the blob at {place.offset} is not {blob_id.hex()}")
        return plain

    def load_tree(self, tree: bytes) -> list[Node]:
        """The nodes of a tree."""
        raw = self.load("tree", tree)
        place = self.index.place("tree", tree)
        return decode_tree(raw, self.pack_path(place.pack) if place else self.prefix)

    def pack_header(self, pack: bytes) -> list[Blob]:
        """The blobs of a pack as its own header names them."""
        path = self.pack_path(pack)
        size = self.bank.stat(path).size
        length = header_length(self.bank.get_range(path, max(size - 4, 0), 4), size, path)
        return decode_header(self.key.open(self.bank.get_range(path, size - 4 - length, length), path), path)

    def pack_path(self, pack: bytes) -> str:
        """The bank key of a pack."""
        name = pack.hex()
        return f"{self.prefix}data/{name[:2]}/{name}"

    def writer(
        self,
        level: int = 3,
        *,
        throttle: Callable[[int], None] | None = None,
        dead: frozenset[bytes] = frozenset(),
    ) -> Writer:
        """A writer at a zstd level (0: none). `throttle` is called with a number of bytes before they are sent and may
        wait. What lies in packs that prune has marked, or in `dead` ones, is written again.

        A run of the service records the repository's epoch before it calls this (see `prune`).
        """
        mark = read_mark(self.documents)
        self.require_sound_index()
        return Writer(self, level=level, throttle=throttle, dead=dead.union(mark.pack_ids if mark else ()))

    # --- snapshots

    def snapshots(self) -> Iterator[tuple[str, Snapshot]]:
        """(id, snapshot) of every snapshot, in order of ids. Load the index after, not before, listing them."""
        for name in self.documents.names("snapshots"):
            try:
                yield name, self.snapshot(name)
            except ObjectMissing:  # forgotten meanwhile
                continue

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """One snapshot."""
        raw = self.documents.get("snapshots", snapshot_id)
        return decode_snapshot(raw, self.documents.path("snapshots", snapshot_id))

    def prepare_snapshot(self, snapshot: Snapshot) -> tuple[str, bytes]:
        """The id and the sealed bytes of a snapshot, to be journalled before `put_snapshot` is called."""
        return self.documents.seal(encode_snapshot(snapshot))

    def put_snapshot(self, snapshot_id: str, sealed: bytes) -> None:
        """Commit: from now on the snapshot exists. Everything it refers to must have been flushed; may be repeated."""
        if hashlib.sha256(sealed).hexdigest() != snapshot_id:
            raise InvalidInput("these are not the bytes of this snapshot")
        self.documents.put_sealed("snapshots", snapshot_id, sealed)

    def forget(self, snapshot_id: str) -> None:
        """Delete a snapshot; its data stays until prune."""
        self.documents.delete("snapshots", snapshot_id)


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that is not a folder of the bank."""
    if not prefix.endswith("/") or prefix.startswith("/") or "//" in prefix:
        raise InvalidInput(f"a repository's prefix is a folder like 'provider/project-g1/', not {prefix!r}")


def _require_vacant(bank: Bank, prefix: str) -> None:
    """Where a creation was cut off, key files may lie about; anything more must not be written over."""
    for stat in bank.list(prefix):
        name = stat.key.removeprefix(prefix)
        if name == "config":
            raise ObjectExists(stat.key, hint="the repository exists: open it")
        if not name.startswith("keys/"):
            raise BankForeign(f"{stat.key} lies where a repository shall be made, and there is no {prefix}config")


def _put_key_file(
    bank: Bank,
    prefix: str,
    key: SealKey,
    passphrase: str,
    kdf: KdfParams,
    owner: str,
    clock: Clock,
    random: Callable[[int], bytes],
) -> str:
    created = go_time(unix_ns(clock.now()))
    raw = make_key_file(key, passphrase, kdf, created=created, owner=owner, random=random)
    name = hashlib.sha256(raw).hexdigest()
    bank.put(f"{prefix}keys/{name}", [raw])
    return name


def _load_key_file(bank: Bank, prefix: str, name: str) -> KeyFile:
    path = f"{prefix}keys/{name}"
    raw = bank.get(path, limit=MAX_KEY_FILE)
    if hashlib.sha256(raw).hexdigest() != name:
        raise Damaged(path, "its hash is not its name")
    return parse_key_file(raw, path)


def _unlock_config(
    bank: Bank, prefix: str, passphrase: str, sealed: bytes, random: Callable[[int], bytes]
) -> tuple[SealKey, bytes]:
    """The master key and the opened configuration; a key that opens no configuration is one that lost a creation."""
    damage: Damaged | None = None
    for _, stat in zip(range(_MAX_KEYS), bank.list(f"{prefix}keys/"), strict=False):
        try:
            file = _load_key_file(bank, prefix, stat.key.rpartition("/")[2])
            if (key := unlock(file, passphrase, stat.key, random=random)) is not None:
                return key, key.open(sealed, f"{prefix}config")
        except Damaged as error:
            damage = error
    raise damage or BankForeign(
        f"the passphrase opens no key of the repository {prefix}",
        hint="the provider's root key or generation may be another",
    )
