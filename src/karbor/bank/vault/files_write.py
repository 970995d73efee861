"""Protecting a directory: its tree is walked through descriptors, depth first, and stored as restic trees.

Nothing is ever reached by a path: every entry is opened relative to its directory's descriptor, without following
links, so that nobody who changes the tree meanwhile leads the walk out of it. In memory are the entries of the
directories from the root to where the walk is, no more. A file that has not changed since the previous tree (size,
modification and change time, inode) is taken over from there without being opened.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Self

import msgspec

from karbor.bank.vault.codec import MAX_BLOB
from karbor.bank.vault.files_content import FileContents
from karbor.bank.vault.files_entries import OTHER_TYPE, Entry, EntryReader, is_stored
from karbor.bank.vault.files_previous import Previous
from karbor.bank.vault.files_scope import CACHE_TAG, Scope
from karbor.bank.vault.files_skips import Skips, shown
from karbor.bank.vault.nodes import Node, encode_tree
from karbor.errors import ResourceFailed
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
_BATCH = 1000
"""Entries that are compared with the previous tree at once."""
_WINDOW = 64
"""Files whose blobs may be on their way to the bank while the next ones are read."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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

    def __init__(self, descriptor: int, name: str, path: str, previous: Previous) -> None:
        self.descriptor, self.name, self.path, self.previous = descriptor, name, path, previous
        self.found = os.fstat(descriptor)
        self.names: list[str] = []
        """What is still to be looked at; directories too."""
        self.directories: deque[str] = deque()
        self.left_out: set[str] = set()
        self.children: dict[str, Node] = {}

    def below(self, name: str) -> str:
        """The path of an entry."""
        return f"{self.path}/{name}" if self.path else name


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
        self._contents = FileContents(writer, threads=threads, read=self._have_read)
        fail = options.on_change == "fail"
        self._reader = EntryReader(writer.repository, scope, self._contents, self.skips, fail_on_change=fail)
        self._stack: list[_Frame] = []
        self._done_bytes = self._added_trees = 0

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
            name = os.fsencode(frame.name) or DATA
            node = self._reader.directory(name, frame.descriptor, frame.path, frame.found, self._save(frame))
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
            if error.errno in OTHER_TYPE:
                frame.left_out.discard(name)  # it is looked at again among the files
            else:
                self._reader.lost(path, error)
            return
        self._enter(descriptor, name, path, frame.previous.subtree(name), parent=frame.found.st_dev)

    def _enter(self, descriptor: int, name: str, path: str, previous: bytes, *, parent: int | None = None) -> None:
        """Put an open directory on the stack, with what is to be taken of it. `parent` is the device of the one above."""
        frame = _Frame(descriptor, name, path, Previous(self._writer, previous))
        self._stack.append(frame)
        self._reader.arrive()
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
            self._reader.lost(path, error)

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

    def _save(self, frame: _Frame) -> bytes:
        """The id of the directory's tree; the earlier one where nothing changed, without writing it again."""
        nodes: Iterable[Node] = self._in_order(frame)
        if frame.previous:
            nodes = list(nodes)
            if frame.previous.still_holds(nodes):
                return frame.previous.tree
        raw = encode_tree(nodes)
        if len(raw) > MAX_BLOB:
            raise ResourceFailed(
                f"{shown(frame.path) or 'the directory'} has more entries, or larger files, than a tree can hold"
            )
        subtree, added = self._writer.store("tree", raw)
        self._added_trees += added
        return subtree

    # --- what lies in a directory

    def _in_order(self, frame: _Frame) -> Iterator[Node]:
        """The nodes of a directory by name; a few files ahead of what is yielded are already being stored."""
        waiting: deque[Entry] = deque()
        for entry in self._entries(frame):
            waiting.append(entry)
            while waiting and (len(waiting) > _WINDOW or is_stored(waiting[0])):
                yield self._reader.node(waiting.popleft())
        yield from map(self._reader.node, waiting)

    def _entries(self, frame: _Frame) -> Iterator[Entry]:
        names = iter(frame.names)
        while batch := list(islice(names, _BATCH)):
            wanted = [name for name in batch if self._is_wanted(frame, name)]
            known = frame.previous.unchanged(frame.descriptor, wanted, self._scope) if frame.previous else {}
            files = set(wanted)
            for name in batch:
                entry = self._file(frame, name, known.get(name)) if name in files else frame.children.pop(name, None)
                if entry is not None:
                    yield entry

    def _is_wanted(self, frame: _Frame, name: str) -> bool:
        """Whether an entry is to be read as what it is, and not as a directory."""
        if name in frame.children or name in frame.left_out:
            return False
        if self._scope.excluded(name, frame.path, directory=False):
            self.skips.add(frame.below(name), "excluded")
            return False
        return True

    def _file(self, frame: _Frame, name: str, known: Node | None) -> Entry | None:
        """One entry that is not a directory, taken over or read, and counted."""
        if known is not None:
            self._tell(known.size)
        entry = known or self._reader.read(frame.descriptor, name, frame.below(name))
        if entry is not None:
            self.files += 1
            self.logical_bytes += entry.size
        return entry

    # --- what is told

    def _have_read(self, count: int) -> None:
        self.read_bytes += count
        self._tell(count)

    def _tell(self, count: int) -> None:
        self._done_bytes += count
        if self._progress is not None:
            self._progress(self._done_bytes, 0)
