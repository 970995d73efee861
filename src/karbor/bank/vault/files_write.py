"""Protecting a directory: its tree is walked through descriptors, depth first, and stored as restic trees.

Nothing is ever reached by a path: every entry is opened relative to its directory's descriptor, without following
links, so that nobody who changes the tree meanwhile leads the walk out of it. In memory are the entries of the
directories from the root to where the walk is, no more. A file that has not changed since the previous tree (size,
modification and change time, inode) is taken over from there without being opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Self

import msgspec

from karbor.bank.vault.codec import MAX_BLOB
from karbor.bank.vault.files_content import FileContents, Parts, done, resolved
from karbor.bank.vault.files_nodes import Attributes, OwnerNames, make_node, read_attributes, type_of
from karbor.bank.vault.files_scope import CACHE_TAG, Scope
from karbor.bank.vault.files_skips import Skips, shown
from karbor.bank.vault.nodes import Node, encode_tree
from karbor.errors import Damaged, ObjectMissing, ResourceFailed
from karbor.sdk.vault import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from karbor.bank.vault.writer import Writer
    from karbor.sdk.vault import TreeOptions

MAX_DEPTH = 500
"""Directories in one another: each holds a descriptor open, of which a process has 1,024."""
DATA = b"data"
"""The name of the node that stands for the protected directory."""
_ATTEMPTS = 3
_BATCH = 1000
"""Entries that are compared with the previous tree at once."""
_FEW = 32 * 40
"""Bytes of ids up to which asking for each is quicker than for all."""
_LINKS = 100_000
"""Files with several links that are remembered."""
_MAX_FILE = 16 << 40
"""Bytes of the largest file, holes included: its ids must fit into its directory's tree."""
_WINDOW = 64
"""Files whose blobs may be on their way to the bank while the next ones are read."""
_TICK_NS = 20_000_000
"""Kernels count file times in ticks of at most 10 ms: a change in the tick of the one before leaves no trace."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_VANISHED = frozenset((errno.ENOENT, errno.ESTALE))
_OTHER_TYPE = frozenset((errno.ELOOP, errno.ENOTDIR, errno.EINVAL, errno.ENXIO, errno.ENODEV))


class TreeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What writing a tree found: `node` stands for the directory and names its tree, sizes are in bytes."""

    node: Node
    logical_bytes: int
    read_bytes: int
    added_bytes: int
    files: int
    """Entries that are not directories."""
    skipped: tuple[Skipped, ...]
    skipped_count: dict[str, int]


def write_tree(
    writer: Writer,
    root: int,
    options: TreeOptions,
    *,
    previous: bytes = b"",
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> TreeFigures:
    """Store the directory that the descriptor `root` names; durable after the writer's next flush.

    `previous` is the id of the same directory's tree in an earlier checkpoint. `progress` is called with the bytes done
    (taken over ones included) and 0. `ResourceFailed` names what could not be read and is not excluded.
    """
    with _TreeWriter(writer, Scope(root, options), options, threads, progress) as tree:
        node = tree.write(root, previous)
        return TreeFigures(
            node=node,
            logical_bytes=tree.logical_bytes,
            read_bytes=tree.read_bytes,
            added_bytes=tree.added_bytes,
            files=tree.files,
            skipped=tree.skips.listed,
            skipped_count=tree.skips.counts,
        )


class _Frame:
    """A directory on the way from the root to where the walk is."""

    def __init__(self, descriptor: int, name: str, path: str, found: os.stat_result) -> None:
        self.descriptor, self.name, self.path, self.found = descriptor, name, path, found
        self.names: list[str] = []
        self.directories: deque[str] = deque()
        self.left_out: set[str] = set()
        self.children: dict[str, Node] = {}
        self.tree = b""
        """What the directory held in the earlier checkpoint: the tree's id, and its nodes by name."""
        self.previous: dict[bytes, Node] = {}

    def below(self, name: str) -> str:
        """The path of an entry."""
        return f"{self.path}/{name}" if self.path else name


class _File(msgspec.Struct, frozen=True):
    """A file whose content is on its way."""

    name: str
    found: os.stat_result
    attributes: Attributes
    parts: Parts
    size: int


class _TypeChanged(Exception):
    """An entry became something else between looking and opening."""


class _TreeWriter:
    def __init__(
        self,
        writer: Writer,
        scope: Scope,
        options: TreeOptions,
        threads: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.skips = Skips()
        self.logical_bytes = self.read_bytes = self.files = 0
        self._writer, self._scope, self._progress = writer, scope, progress
        self._fail_on_change = options.on_change == "fail"
        self._contents = FileContents(writer, threads=threads, read=self._have_read)
        self._owners = OwnerNames()
        self._linked: dict[tuple[int, int], _File] = {}
        self._stack: list[_Frame] = []
        self._done_bytes = self._added_trees = 0
        self._now = writer.repository.now_ns()

    def __enter__(self) -> Self:
        self._contents.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for frame in self._stack:
            os.close(frame.descriptor)
        self._contents.__exit__(kind, error, trace)

    def write(self, root: int, previous: bytes) -> Node:
        """The node of the whole directory. First all directories below one, then its files and its own tree."""
        self._enter(os.dup(root), "", "", previous)
        while True:
            frame = self._stack[-1]
            if frame.directories:
                self._descend(frame, frame.directories.popleft())
                continue
            node = self._finish(frame)
            os.close(self._stack.pop().descriptor)
            if not self._stack:
                return node
            self._stack[-1].children[frame.name] = node

    @property
    def added_bytes(self) -> int:
        """Sealed bytes of the blobs that were new."""
        return self._contents.added_bytes + self._added_trees

    # --- directories

    def _descend(self, frame: _Frame, name: str) -> None:
        path = frame.below(name)
        frame.left_out.add(name)
        if self._scope.excluded(name, frame.path, directory=True):
            self.skips.add(path, "excluded")
            return
        try:
            descriptor = os.open(name, _DIRECTORY, dir_fd=frame.descriptor)
        except OSError as error:
            if error.errno in _OTHER_TYPE:
                frame.left_out.discard(name)  # it is looked at again among the files
            else:
                self._lost(path, error)
            return
        old = frame.previous.get(os.fsencode(name))
        self._enter(descriptor, name, path, old.subtree if old else b"", parent=frame.found.st_dev)

    def _enter(self, descriptor: int, name: str, path: str, previous: bytes, *, parent: int | None = None) -> None:
        """Put an open directory on the stack, with what is to be taken of it."""
        frame = _Frame(descriptor, name, path, os.fstat(descriptor))
        self._stack.append(frame)
        self._now = self._writer.repository.now_ns()
        if len(self._stack) > MAX_DEPTH:
            raise ResourceFailed(f"{shown(path)} lies more than {MAX_DEPTH} directories deep")
        if parent is not None and self._scope.never(frame.found):
            self.skips.add(path, "never")
            os.close(self._stack.pop().descriptor)
            return
        reason = self._scope.unentered(descriptor, frame.found, frame.found.st_dev if parent is None else parent)
        if reason:
            self.skips.add(path, reason)
            return
        try:
            self._list(frame)
        except OSError as error:
            self._lost(path, error)
        frame.tree, frame.previous = previous, self._load_previous(previous)

    def _list(self, frame: _Frame) -> None:
        with os.scandir(frame.descriptor) as entries:
            for entry in entries:
                frame.names.append(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    frame.directories.append(entry.name)
        if self._scope.is_cache(frame.descriptor, frame.names):
            self.skips.add(frame.path or ".", "cache")
            frame.names = [CACHE_TAG]
            frame.directories.clear()
        frame.names.sort(key=os.fsencode)
        frame.directories = deque(sorted(frame.directories))

    def _load_previous(self, tree: bytes) -> dict[bytes, Node]:
        """What the directory held; nothing where that cannot be read any more, and everything is read again."""
        if not tree:
            return {}
        try:
            return {node.name: node for node in self._writer.repository.load_tree(tree)}
        except (Damaged, ObjectMissing):
            return {}

    def _finish(self, frame: _Frame) -> Node:
        attributes = read_attributes(frame.descriptor, frame.path or ".", self.skips)
        subtree = self._save(frame, self._in_order(frame))
        name = os.fsencode(frame.name) or DATA
        return make_node(name, frame.found, attributes, self._owners, subtree=subtree)

    def _save(self, frame: _Frame, nodes: Iterable[Node]) -> bytes:
        """The id of the directory's tree; the earlier one where nothing changed, without writing it again."""
        if frame.previous:
            nodes = list(nodes)
            if nodes == list(frame.previous.values()) and self._writer.has("tree", frame.tree):
                return frame.tree
        raw = encode_tree(nodes)
        if len(raw) > MAX_BLOB:
            raise ResourceFailed(
                f"{shown(frame.path) or 'the directory'} has more entries, or larger files, than a tree can hold"
            )
        subtree, added = self._writer.store("tree", raw)
        self._added_trees += added
        return subtree

    def _in_order(self, frame: _Frame) -> Iterator[Node]:
        """The nodes of a directory by name; a few files ahead of what is yielded are already being stored."""
        waiting: deque[Node | _File] = deque()
        for entry in self._entries(frame):
            waiting.append(entry)
            while waiting and (len(waiting) > _WINDOW or _ready(waiting[0])):
                yield self._node(waiting.popleft())
        yield from map(self._node, waiting)

    def _node(self, entry: Node | _File) -> Node:
        if not isinstance(entry, _File):
            return entry
        return make_node(
            os.fsencode(entry.name),
            entry.found,
            entry.attributes,
            self._owners,
            size=entry.size,
            content=resolved(entry.parts),
        )

    # --- what lies in a directory

    def _entries(self, frame: _Frame) -> Iterator[Node | _File]:
        names = iter(frame.names)
        while batch := list(islice(names, _BATCH)):
            known = self._unchanged(frame, batch) if frame.previous else {}
            for name in batch:
                if (node := frame.children.pop(name, None)) is not None:
                    yield node
                elif name in frame.left_out:
                    continue
                elif (node := known.get(name)) is not None:
                    self.files += 1
                    self.logical_bytes += node.size
                    self._tell(node.size)
                    yield node
                elif (entry := self._entry(frame, name)) is not None:
                    self.files += 1
                    yield entry

    def _unchanged(self, frame: _Frame, names: list[str]) -> dict[str, Node]:
        """Nodes of the previous tree that still hold, and whose blobs are all in the bank."""
        nodes = {}
        for name in names:
            old = frame.previous.get(os.fsencode(name))
            if old is None or old.type != "file" or self._scope.excluded(name, frame.path, directory=False):
                continue
            try:
                found = os.stat(name, dir_fd=frame.descriptor, follow_symlinks=False)
            except OSError:
                continue  # `_entry` says what is the matter
            if _same(old, found) and not self._scope.never(found):
                nodes[name] = old if old.device_id == found.st_dev else _moved(old, found)
        if self._missing(nodes.values()):
            nodes = {name: node for name, node in nodes.items() if not self._missing([node])}
        return nodes

    def _missing(self, nodes: Iterable[Node]) -> bool:
        content = b"".join(node.content for node in nodes)
        if len(content) > _FEW:
            return len(self._writer.locate("data", content).missing) > 0
        return not all(self._writer.has("data", content[at : at + 32]) for at in range(0, len(content), 32))

    def _entry(self, frame: _Frame, name: str) -> Node | _File | None:
        """One entry that is not a directory, read; None where it is left out."""
        path = frame.below(name)
        if self._scope.excluded(name, frame.path, directory=False):
            self.skips.add(path, "excluded")
            return None
        for _ in range(_ATTEMPTS):
            try:
                found = os.stat(name, dir_fd=frame.descriptor, follow_symlinks=False)
                return self._read(frame, name, path, found)
            except _TypeChanged:
                continue
            except OSError as error:
                if error.errno in _OTHER_TYPE:
                    continue
                self._lost(path, error)
                return None
        self._changed(path)
        return None

    def _read(self, frame: _Frame, name: str, path: str, found: os.stat_result) -> Node | _File | None:
        kind = type_of(found)
        if self._scope.never(found):
            self.skips.add(path, "never")
        elif kind == "file":
            return self._read_file(frame, name, path)
        elif kind == "socket":
            self.skips.add(path, "socket")
        elif kind == "dir":
            self._changed(path)  # it was none when the directory was listed
        else:
            # The attributes of what cannot be opened without harm are read by its name, which is not followed.
            by_name = f"/proc/self/fd/{frame.descriptor}/{name}"
            target = os.fsencode(os.readlink(name, dir_fd=frame.descriptor)) if kind == "symlink" else b""
            attributes = read_attributes(by_name, path, self.skips)
            return make_node(os.fsencode(name), found, attributes, self._owners, linktarget=target)
        return None

    def _read_file(self, frame: _Frame, name: str, path: str) -> _File:
        """The file, read again where it changed meanwhile; another link to one that was read is not read."""
        file = _open(name, frame.descriptor)
        try:
            found = os.fstat(file)
            known = self._linked.get((found.st_dev, found.st_ino))
            if known and _stamp(known.found) == _stamp(found):
                stored = msgspec.structs.replace(known, name=name)
            else:
                stored = self._store_file(file, name, path, found)
            self.logical_bytes += stored.size
            return stored
        finally:
            os.close(file)

    def _store_file(self, file: int, name: str, path: str, found: os.stat_result) -> _File:
        for _ in range(_ATTEMPTS):
            if not stat.S_ISREG(found.st_mode):
                raise _TypeChanged
            if found.st_size > _MAX_FILE:
                raise ResourceFailed(
                    f"{shown(path)} has {found.st_size} bytes, more than a tree can hold", hint="exclude it"
                )
            attributes = read_attributes(file, path, self.skips)
            parts, size = self._contents.store(file, found.st_size)
            before, found = found, self._settled(file)
            if size == found.st_size and _stamp(before) == _stamp(found):
                break
        else:
            self._changed(path)
        stored = _File(name, found, attributes, parts, size)
        if found.st_nlink > 1 and len(self._linked) < _LINKS:
            self._linked[found.st_dev, found.st_ino] = stored
        return stored

    def _settled(self, file: int) -> os.stat_result:
        """What `fstat` says, once every later change would show in the file's times."""
        found = os.fstat(file)
        if found.st_ctime_ns > self._now - _TICK_NS:  # changed after the walk came to this directory
            repository = self._writer.repository
            self._now = repository.now_ns()
            if abs(self._now - found.st_ctime_ns) < _TICK_NS:
                repository.clock.sleep(_TICK_NS / 1e9)
                found = os.fstat(file)
        return found

    # --- what is told

    def _changed(self, path: str) -> None:
        if self._fail_on_change:
            raise ResourceFailed(f"{shown(path)} changed while it was read, {_ATTEMPTS} times")
        self.skips.add(path, "changed while read")

    def _lost(self, path: str, error: OSError) -> None:
        """Say that an entry vanished; anything else that keeps it from being read is an error."""
        if error.errno not in _VANISHED:
            raise ResourceFailed(
                f"cannot read {shown(path) or 'the directory'}: {error.strerror}",
                hint="exclude it, or let the service read it",
            ) from error
        self.skips.add(path, "vanished")

    def _have_read(self, count: int) -> None:
        self.read_bytes += count
        self._tell(count)

    def _tell(self, count: int) -> None:
        self._done_bytes += count
        if self._progress is not None:
            self._progress(self._done_bytes, 0)


def _ready(entry: Node | _File) -> bool:
    return not isinstance(entry, _File) or done(entry.parts)


def _same(old: Node, found: os.stat_result) -> bool:
    return (
        stat.S_ISREG(found.st_mode)
        and old.inode == found.st_ino
        and old.size == found.st_size
        and old.mtime == found.st_mtime_ns
        and old.ctime == found.st_ctime_ns
    )


def _moved(old: Node, found: os.stat_result) -> Node:
    """The node of a file whose file system has another device number now."""
    return msgspec.structs.replace(old, device_id=found.st_dev)


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _open(name: str, directory: int) -> int:
    """A file, without changing its access time where that is allowed."""
    try:
        return os.open(name, _FILE | os.O_NOATIME, dir_fd=directory)
    except PermissionError:
        return os.open(name, _FILE, dir_fd=directory)
