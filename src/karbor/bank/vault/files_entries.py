"""Reading one entry of a directory that is being protected: a file with its content, a link, a device."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from karbor.bank.vault.files_content import Parts, done, resolved
from karbor.bank.vault.files_nodes import Attributes, OwnerNames, make_node, read_attributes, type_of
from karbor.bank.vault.files_skips import shown
from karbor.bank.vault.nodes import Node
from karbor.errors import ResourceFailed

if TYPE_CHECKING:
    from karbor.bank.vault.files_content import FileContents
    from karbor.bank.vault.files_scope import Scope
    from karbor.bank.vault.files_skips import Skips
    from karbor.bank.vault.repository import Repository

OTHER_TYPE = frozenset((errno.ELOOP, errno.ENOTDIR, errno.EINVAL, errno.ENXIO, errno.ENODEV))
"""What the system says where an entry is not of the type that it was a moment ago."""
_VANISHED = frozenset((errno.ENOENT, errno.ESTALE))
_ATTEMPTS = 3
_LINKS = 100_000
"""Files with several links that are remembered."""
_MAX_FILE = 16 << 40
"""Bytes of the largest file, holes included: its ids must fit into its directory's tree."""
_TICK_NS = 20_000_000
"""Kernels count file times in ticks of at most 10 ms: a change in the tick of the one before leaves no trace."""
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FoundFile(msgspec.Struct, frozen=True):
    """A file whose content is on its way."""

    name: str
    found: os.stat_result
    attributes: Attributes
    parts: Parts
    size: int


Entry = Node | FoundFile


class _TypeChanged(Exception):
    """An entry became something else between looking and opening."""


class EntryReader:
    """Reads entries by the descriptor of their directory; says to `skips` what it leaves out, or fails for it."""

    def __init__(
        self, repository: Repository, scope: Scope, contents: FileContents, skips: Skips, *, fail_on_change: bool
    ) -> None:
        self._repository, self._scope, self._contents, self._skips = repository, scope, contents, skips
        self._fail_on_change = fail_on_change
        self._owners = OwnerNames()
        self._linked: dict[tuple[int, int], FoundFile] = {}
        self._now = 0

    def arrive(self) -> None:
        """Look at the clock: the walk has come to another directory."""
        self._now = self._repository.now_ns()

    def directory(self, name: bytes, descriptor: int, path: str, found: os.stat_result, subtree: bytes) -> Node:
        """The node of an open directory whose tree is stored."""
        attributes = read_attributes(descriptor, path or ".", self._skips)
        return make_node(name, found, attributes, self._owners, subtree=subtree)

    def node(self, entry: Entry) -> Node:
        """The finished node of what `read` gave; waits for its content to be stored."""
        if not isinstance(entry, FoundFile):
            return entry
        return make_node(
            os.fsencode(entry.name),
            entry.found,
            entry.attributes,
            self._owners,
            size=entry.size,
            content=resolved(entry.parts),
        )

    def read(self, directory: int, name: str, path: str) -> Entry | None:
        """What is not a directory; None where it is left out."""
        for _ in range(_ATTEMPTS):
            try:
                return self._read(directory, name, path)
            except _TypeChanged:
                continue
            except OSError as error:
                if error.errno in OTHER_TYPE:
                    continue
                self.lost(path, error)
                return None
        self._changed(path)
        return None

    def lost(self, path: str, error: OSError) -> None:
        """Say that an entry vanished; anything else that keeps it from being read is an error."""
        if error.errno not in _VANISHED:
            raise ResourceFailed(
                f"cannot read {shown(path) or 'the directory'}: {error.strerror}",
                hint="exclude it, or let the service read it",
            ) from error
        self._skips.add(path, "vanished")

    def _changed(self, path: str) -> None:
        if self._fail_on_change:
            raise ResourceFailed(f"{shown(path)} changed while it was read, {_ATTEMPTS} times")
        self._skips.add(path, "changed while read")

    def _read(self, directory: int, name: str, path: str) -> Entry | None:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        kind = type_of(found)
        if kind == "file":
            return self._read_file(directory, name, path)
        if kind == "dir":
            self._changed(path)  # it was none when the directory was listed
        elif kind == "socket":
            self._skips.add(path, "socket")
        elif self._scope.never(found):
            self._skips.add(path, "never")
        else:
            # The attributes of what cannot be opened without harm are read by its name, which is not followed.
            attributes = read_attributes(f"/proc/self/fd/{directory}/{name}", path, self._skips)
            target = os.fsencode(os.readlink(name, dir_fd=directory)) if kind == "symlink" else b""
            return make_node(os.fsencode(name), found, attributes, self._owners, linktarget=target)
        return None

    def _read_file(self, directory: int, name: str, path: str) -> FoundFile | None:
        """The file, read again where it changed meanwhile; another link to one that was read is not read."""
        file = _open(name, directory)
        try:
            found = os.fstat(file)
            if self._scope.never(found):
                self._skips.add(path, "never")
                return None
            known = self._linked.get((found.st_dev, found.st_ino))
            if known and _stamp(known.found) == _stamp(found):
                return msgspec.structs.replace(known, name=name)
            return self._store(file, name, path, found)
        finally:
            os.close(file)

    def _store(self, file: int, name: str, path: str, found: os.stat_result) -> FoundFile:
        for _ in range(_ATTEMPTS):
            if not stat.S_ISREG(found.st_mode):
                raise _TypeChanged
            if found.st_size > _MAX_FILE:
                raise ResourceFailed(
                    f"{shown(path)} has {found.st_size} bytes, more than a tree can hold", hint="exclude it"
                )
            attributes = read_attributes(file, path, self._skips)
            parts, size = self._contents.store(file, found.st_size)
            before, found = found, self._settled(file)
            if size == found.st_size and _stamp(before) == _stamp(found):
                break
        else:
            self._changed(path)
        stored = FoundFile(name, found, attributes, parts, size)
        if found.st_nlink > 1 and len(self._linked) < _LINKS:
            self._linked[found.st_dev, found.st_ino] = stored
        return stored

    def _settled(self, file: int) -> os.stat_result:
        """What `fstat` says, once every later change would show in the file's times."""
        found = os.fstat(file)
        if found.st_ctime_ns > self._now - _TICK_NS:  # changed after the walk came to this directory
            self.arrive()
            if abs(self._now - found.st_ctime_ns) < _TICK_NS:
                self._repository.clock.sleep(_TICK_NS / 1e9)
                found = os.fstat(file)
        return found


def is_stored(entry: Entry) -> bool:
    """Whether `EntryReader.node` would return at once."""
    return not isinstance(entry, FoundFile) or done(entry.parts)


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _open(name: str, directory: int) -> int:
    """A file, without changing its access time where that is allowed."""
    try:
        return os.open(name, _FILE | os.O_NOATIME, dir_fd=directory)
    except PermissionError:
        return os.open(name, _FILE, dir_fd=directory)
