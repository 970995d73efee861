"""The vault as a plugin sees it: `op.vault` writes and reads the bytes of one resource.

Everything written goes into the project's repository (restic format v2) deduplicated, compressed and encrypted.
A write returns `Written`, a small document that names the data; it is durable in the bank when the write returns.
A hook that is replayed after a crash writes again: what is already in the bank costs only the reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SkipReason = Literal[
    "excluded",
    "cache",
    "socket",
    "pseudo file system",
    "other file system",
    "never",
    "vanished",
    "changed while read",
    "unreadable",
    "exists",
    "device",
    "set-id bits",
    "owner",
    "security attribute",
    "name",
    "attribute",
]


class Skipped(msgspec.Struct, frozen=True):
    """One thing that was left out or not carried over in full, and why. `path` is relative to the resource."""

    path: str
    reason: SkipReason
    detail: str = ""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a write stored. `tree` is the hex id of the tree blob that holds the resource's data nodes."""

    tree: str
    logical_bytes: int
    """Size of what was protected, holes included."""
    read_bytes: int
    """Read from the source."""
    added_bytes: int
    """Stored new in the bank, after compression and sealing."""
    files: int = 1
    skipped: tuple[Skipped, ...] = ()
    """At most `MAX_LISTED` of them."""
    skipped_count: dict[str, int] = msgspec.field(default_factory=dict)
    """How many in all, by reason."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore wrote."""

    logical_bytes: int
    files: int = 1
    skipped: tuple[Skipped, ...] = ()
    skipped_count: dict[str, int] = msgspec.field(default_factory=dict)


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification read back: every blob was fetched, opened and hashed again."""

    logical_bytes: int
    blobs: int


MAX_LISTED = 1000
"""How many skipped things a document names one by one."""


class ImageSource(Protocol):
    """A disk image that can be read at any place, by several threads at once."""

    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        ...

    def extents(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of the parts that may hold data, ascending; everything else reads as zeros."""
        ...


class ImageTarget(Protocol):
    """Where an image is restored to; written at any place, by several threads at once."""

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write `data` at `offset`."""
        ...

    def zero(self, offset: int, length: int) -> None:
        """Make the range read as zeros: a hole where that is possible."""
        ...


class TreeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a directory is read."""

    excludes: tuple[str, ...] = ()
    """Patterns as in .gitignore, without negation: `*.tmp`, `cache/`, `/var/log/**`."""
    one_file_system: bool = True
    skip_caches: bool = True
    """Leave out what lies in a directory with a valid CACHEDIR.TAG."""
    never: tuple[str, ...] = ()
    """Absolute paths that are never entered: the service's own bank, state and keys."""
    on_change: Literal["list", "fail"] = "list"
    """What to do with a file that changed while it was read three times."""


class RestoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a tree is written back. The defaults are what is safe for a tree that an attacker may have shaped."""

    overwrite: bool = False
    """Replace files that exist; otherwise they are listed as skipped with the reason `exists`."""
    owners: bool = False
    """Set uid and gid; needs privilege where they are not ours."""
    set_id_bits: bool = False
    devices: bool = False
    security_attributes: bool = False
    """Restore extended attributes of the `security.` and `trusted.` name spaces."""


class ImageReader(Protocol):
    """Random access to a protected image or stream."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; shorter only at the end."""
        ...

    def extents(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of the parts that may hold data, ascending; everything else reads as zeros."""
        ...


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file, directory or other node of a checkpoint, as `checkpoint ls` shows it."""

    name: str
    """Bytes that are not UTF-8 stand as surrogate escapes."""
    type: Literal["file", "dir", "symlink", "dev", "chardev", "fifo", "socket", "irregular"]
    size: int = 0
    mode: int = 0
    """POSIX permission and set-id bits."""
    modified: str = ""
    """RFC 3339."""
    target: str = ""
    """Of a symbolic link."""


class Vault(Protocol):
    """The bytes of one resource: written while it is protected, read while it is restored or verified.

    `progress` is called with bytes done and bytes in all (0 where unknown), and may raise to stop the transfer.
    """

    def write_image(
        self,
        source: ImageSource,
        *,
        changed: Iterable[tuple[int, int]] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Written:
        """Store an image in fixed chunks. With `changed`, (offset, length) of what changed since the resource's
        previous checkpoint, only that is read; where there is no usable previous one, everything is."""
        ...

    def write_stream(self, source: Iterable[bytes], *, progress: Callable[[int, int], None] | None = None) -> Written:
        """Store a stream of unknown length in content-defined chunks."""
        ...

    def write_tree(
        self, root: int, options: TreeOptions, *, progress: Callable[[int, int], None] | None = None
    ) -> Written:
        """Store the directory that the descriptor `root` names, with everything below it."""
        ...

    def image(self) -> ImageReader:
        """Random access to the stored image or stream."""
        ...

    def restore_image(self, target: ImageTarget, *, progress: Callable[[int, int], None] | None = None) -> Restored:
        """Write the stored image to `target`, holes as holes."""
        ...

    def read_stream(self) -> Iterator[bytes]:
        """The stored stream from its start."""
        ...

    def restore_tree(
        self,
        target: int,
        options: RestoreOptions,
        *,
        path: str = "",
        progress: Callable[[int, int], None] | None = None,
    ) -> Restored:
        """Write the stored tree, or only what lies at `path` in it, below the directory descriptor `target`.
        The target stands for the protected directory itself and gets its mode, times and attributes; what lies at
        `path` comes back at the same relative place, and the target is left as it is. Doing it again finishes what was
        interrupted. Raises `Conflict` where another restore writes to the same target, `NotFound` for an unknown path.
        Nothing outside `target` is touched, whatever the tree holds and whoever changes links meanwhile."""
        ...

    def verify(self, *, progress: Callable[[int, int], None] | None = None) -> Verified:
        """Read back every byte of the resource and hash it again; raises `Damaged` or `ObjectMissing`."""
        ...
