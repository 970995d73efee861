"""Restoring a directory: the stored tree is written below a descriptor, whatever it holds and whoever interferes.

Everything is made relative to the descriptor of its directory, and nothing follows a link, so that neither a crafted
tree nor a link that appears meanwhile leads out of the target. A restore that is repeated after a crash ends as one
that was not interrupted: what is there and equal, content and metadata, is kept.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Self

from karbor.bank.vault.files_content import SMALL
from karbor.bank.vault.files_existing import Existing
from karbor.bank.vault.files_links import HardLinks
from karbor.bank.vault.files_metadata import Metadata
from karbor.bank.vault.files_skips import Skips, shown
from karbor.bank.vault.files_special import LeftOut, restore_special
from karbor.bank.vault.files_target import (
    NewContent,
    Taken,
    clear_scratch,
    enter_directory,
    look,
    new_file,
    valid_name,
)
from karbor.bank.vault.reader import Content
from karbor.errors import Conflict, InvalidInput, NotFound, ResourceFailed
from karbor.sdk.vault import Restored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from karbor.bank.vault.nodes import Node
    from karbor.bank.vault.repository import Repository
    from karbor.sdk.vault import RestoreOptions, SkipReason

MAX_DEPTH = 500
"""Directories in one another; deeper trees are refused, as they are when they are protected."""
_BATCH_BYTES = 16 << 20
_BATCH_FILES = 500
"""Small files that are fetched together, in the order in which they lie in the bank."""


def restore_tree(
    repository: Repository,
    data: Node,
    target: int,
    options: RestoreOptions,
    *,
    path: str = "",
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Restored:
    """Write what the directory node `data` holds below the directory descriptor `target`.

    The target stands for the protected directory and gets its mode, times and attributes. With `path`, only what lies
    there is restored, at the same relative place; directories on the way are made where they are missing. `progress` is
    called with the bytes written and 0. Raises `NotFound` for a path that is not in the tree, `Conflict` where another
    restore writes below the same target, `ResourceFailed` where something cannot be written, `Damaged`.
    """
    if data.type != "dir":
        raise InvalidInput("the resource is no directory tree")
    parts = tuple(part for part in os.fsencode(path).split(b"/") if part)
    with _TreeReader(repository, target, options, parts, threads, progress) as tree:
        tree.restore(data)
        return Restored(
            logical_bytes=tree.logical_bytes,
            files=tree.files,
            skipped=tree.skips.listed,
            skipped_count=tree.skips.counts,
        )


class _Frame:
    """A directory on the way from the target to what is being restored."""

    def __init__(self, descriptor: int, node: Node, path: bytes, *, made: bool) -> None:
        self.descriptor, self.node, self.path, self.made = descriptor, node, path, made
        self.directories: deque[Node] = deque()

    def below(self, node: Node) -> bytes:
        """The path of an entry."""
        return self.path + b"/" + node.name if self.path else node.name


class _TreeReader:
    def __init__(
        self,
        repository: Repository,
        target: int,
        options: RestoreOptions,
        path: tuple[bytes, ...],
        threads: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.skips = Skips()
        self.logical_bytes = self.files = 0
        self._repository, self._target, self._options, self._path = repository, target, options, path
        self._threads, self._progress = threads, progress
        self._metadata = Metadata(options, self.skips)
        self._links = HardLinks(target, overwrite=options.overwrite)
        self._existing = Existing(repository, self._metadata)
        self._stack: list[_Frame] = []
        self._done_bytes = 0

    def __enter__(self) -> Self:
        try:
            fcntl.flock(self._target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("another restore is writing to the same directory") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # some file systems have no locks
                raise ResourceFailed(f"cannot lock the directory to restore into: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for frame in self._stack:
            os.close(frame.descriptor)
        with contextlib.suppress(OSError):
            fcntl.flock(self._target, fcntl.LOCK_UN)

    def restore(self, data: Node) -> None:
        """Directory by directory: first the files of one, then the directories below it, then its own metadata."""
        self._enter(_Frame(os.dup(self._target), data, b"", made=False))
        while self._stack:
            frame = self._stack[-1]
            if frame.directories:
                self._descend(frame, frame.directories.popleft())
            else:
                if frame.made or len(self._stack) > len(self._path):
                    with _explained(frame.path):
                        self._metadata.apply(frame.descriptor, frame.node, os.fsdecode(frame.path) or ".")
                os.close(self._stack.pop().descriptor)

    # --- directories

    def _descend(self, frame: _Frame, node: Node) -> None:
        path = frame.below(node)
        try:
            with _explained(path):
                descriptor, made = enter_directory(frame.descriptor, node.name, overwrite=self._options.overwrite)
        except Taken:
            self._skip(path, "exists")
            return
        self._enter(_Frame(descriptor, node, path, made=made))

    def _enter(self, frame: _Frame) -> None:
        """Put a directory on the stack and restore its files."""
        self._stack.append(frame)
        if len(self._stack) > MAX_DEPTH:
            raise ResourceFailed(f"{_shown(frame.path)} lies more than {MAX_DEPTH} directories deep")
        files: list[Node] = []
        for node in self._chosen(frame):
            if not valid_name(node.name):
                self._skip(frame.below(node), "name", "no file can have this name")
            elif node.type == "dir":
                frame.directories.append(node)
            elif node.type == "file":
                files.append(node)
            else:
                self._restore_special(frame, node)
        for batch in _batches(node for node in files if self._wanted(frame, node)):
            self._restore_files(frame, batch)

    def _chosen(self, frame: _Frame) -> Iterable[Node]:
        """What of the directory is to be restored."""
        nodes = self._repository.load_tree(frame.node.subtree)
        depth = len(self._stack) - 1
        if depth >= len(self._path):
            return nodes
        found = [node for node in nodes if node.name == self._path[depth]]
        if not found or (found[0].type != "dir" and depth < len(self._path) - 1):
            raise NotFound(f"{_shown(b'/'.join(self._path))} is not in the checkpoint")
        return found

    # --- files

    def _wanted(self, frame: _Frame, node: Node) -> bool:
        """Whether the file has to be written: not where it is there and equal, nor where something may not be replaced."""
        path = frame.below(node)
        if frame.made:
            return True
        with _explained(path):
            found = look(frame.descriptor, node.name)
            if found is None:
                return True
            # Without leave to replace, an equal file that should be a link and is none stays as well.
            identity = self._links.identity(node) if self._options.overwrite else None
            if stat.S_ISREG(found.st_mode) and self._existing.is_equal_file(frame.descriptor, node, identity):
                clear_scratch(frame.descriptor, node.name)
                self._count(node, node.size)
                self._links.remember(frame.path, node, found)
                return False
            if self._options.overwrite and not stat.S_ISDIR(found.st_mode):
                return True
            clear_scratch(frame.descriptor, node.name)
        self._skip(path, "exists")
        return False

    def _restore_files(self, frame: _Frame, nodes: list[Node]) -> None:
        """Small files together, a large one alone."""
        nodes = [node for node in nodes if not self._restore_link(frame, node)]
        if len(nodes) == 1 and nodes[0].size > SMALL:
            content = Content.of(self._repository, nodes)
            self._write(
                frame, nodes[0], lambda file: content.restore(file, threads=self._threads, progress=self._moved())
            )
            return
        blobs: dict[bytes, bytes] = {}
        content = Content.of(self._repository, nodes)
        content.blobs(lambda at, data: blobs.update({content.ids[32 * at[0] :][:32]: data}), threads=1)
        for node in nodes:
            if not self._restore_link(frame, node):  # to one of these files
                self._write(frame, node, partial(self._write_blobs, node, blobs))

    def _write_blobs(self, node: Node, blobs: dict[bytes, bytes], file: NewContent) -> None:
        offset = 0
        for at in range(0, len(node.content), 32):
            data = blobs[node.content[at : at + 32]]
            file.write_at(offset, data)
            offset += len(data)
        self._tell(offset)

    def _write(self, frame: _Frame, node: Node, fill: Callable[[NewContent], None]) -> None:
        path = frame.below(node)
        try:
            with _explained(path), new_file(frame.descriptor, node.name, overwrite=self._options.overwrite) as file:
                os.ftruncate(file, node.size)
                fill(NewContent(file))
                self._metadata.apply(file, node, os.fsdecode(path))
                found = os.fstat(file)
        except Taken:
            self._skip(path, "exists")
            return
        self._count(node)
        self._links.remember(frame.path, node, found)

    def _restore_link(self, frame: _Frame, node: Node) -> bool:
        """Whether the file needs no writing: it is another name of one that was restored, or its name is taken."""
        path = frame.below(node)
        try:
            with _explained(path):
                linked = self._links.make(frame.descriptor, node)
        except Taken:
            self._skip(path, "exists")
            return True
        if linked:
            self._count(node, node.size)
        return linked

    def _restore_special(self, frame: _Frame, node: Node) -> None:
        path = frame.below(node)
        try:
            with _explained(path):
                restore_special(frame.descriptor, node, self._options, self._metadata, os.fsdecode(path))
        except LeftOut as left:
            self._skip(path, left.reason, left.detail)
        else:
            self._count(node)

    # --- what is told

    def _count(self, node: Node, told: int = 0) -> None:
        self.files += 1
        self.logical_bytes += node.size
        self._tell(told)

    def _skip(self, path: bytes, reason: SkipReason, detail: str = "") -> None:
        self.skips.add(os.fsdecode(path), reason, detail)

    def _tell(self, count: int) -> None:
        self._done_bytes += count
        if self._progress is not None and count:
            self._progress(self._done_bytes, 0)

    def _moved(self) -> Callable[[int, int], None]:
        """A progress callback for one file, which adds to that of the tree."""
        before = self._done_bytes

        def moved(done: int, _total: int) -> None:
            self._tell(before + done - self._done_bytes)

        return moved


@contextlib.contextmanager
def _explained(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ResourceFailed(
            f"cannot restore {_shown(path) or 'the directory'}: {error.strerror}",
            hint="there is no room where the restore goes" if full else "",
        ) from error


def _shown(path: bytes) -> str:
    return shown(os.fsdecode(path))


def _batches(nodes: Iterable[Node]) -> Iterator[list[Node]]:
    """Small files in groups, large ones alone, in order."""
    batch: list[Node] = []
    size = 0
    for node in nodes:
        if batch and (node.size > SMALL or size + node.size > _BATCH_BYTES or len(batch) >= _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(node)
        size += node.size
        if node.size > SMALL:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
