"""The directory that something is restored into, held by its descriptor: making entries in it that appear whole.

An entry is made under a scratch name and then gets its own by a rename, or by a link where nothing may be replaced.
The scratch name follows from the entry's, so that a restore that is repeated after a crash finds and replaces it.
No link is ever followed, whoever puts one where.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NAME_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = frozenset((errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS))
_BLOCK = 4096


class Taken(Exception):
    """Something that may not be replaced has the name."""


def valid_name(name: bytes) -> bool:
    """Whether a name from a tree may be given to an entry of a directory."""
    return 0 < len(name) <= 255 and name not in (b".", b"..") and b"/" not in name and b"\0" not in name


def valid_target(target: bytes) -> bool:
    """Whether a symbolic link can point to it."""
    return 0 < len(target) < 4096 and b"\0" not in target


def look(directory: int, name: bytes) -> os.stat_result | None:
    """What has the name, None where nothing has."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def enter_directory(directory: int, name: bytes, *, overwrite: bool) -> tuple[int, bool]:
    """Descriptor of the directory `name`, made where it is missing, and whether it was made.

    `Taken` where something else has the name, which is removed if `overwrite`.
    """
    for _ in range(3):
        try:
            os.mkdir(name, mode=0o700, dir_fd=directory)
            made = True
        except FileExistsError:
            made = False
        try:
            return os.open(name, _DIRECTORY, dir_fd=directory), made
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
        if not overwrite:
            break
        os.unlink(name, dir_fd=directory)
    raise Taken


@contextlib.contextmanager
def new_file(directory: int, name: bytes, *, overwrite: bool) -> Iterator[int]:
    """Descriptor of a file that appears under `name` when the block ends, and not at all where it fails."""
    scratch = _scratch(name)
    file = _make(directory, scratch, lambda: os.open(scratch, _NEW_FILE, 0o600, dir_fd=directory))
    with _appearing(directory, scratch, name, overwrite=overwrite):
        try:
            yield file
        finally:
            os.close(file)


@contextlib.contextmanager
def new_special(
    directory: int, name: bytes, make: Callable[[bytes], None], kind: int, *, overwrite: bool
) -> Iterator[str]:
    """A path in /proc that names exactly what `make` made, a thing of the type `kind` (S_IF…), which then appears."""
    scratch = _scratch(name)
    _make(directory, scratch, lambda: make(scratch))
    with _appearing(directory, scratch, name, overwrite=overwrite):
        held = os.open(scratch, _NAME_ONLY, dir_fd=directory)
        try:
            if stat.S_IFMT(os.fstat(held).st_mode) != kind:
                raise Taken  # somebody else put something there
            yield f"/proc/self/fd/{held}"
        finally:
            os.close(held)


def new_link(
    source: int, source_name: bytes, identity: tuple[int, int], directory: int, name: bytes, *, overwrite: bool
) -> bool:
    """Another name for a file that was restored as `source_name`; False where that is no longer the file `identity`."""
    scratch = _scratch(name)
    _make(
        directory,
        scratch,
        lambda: os.link(source_name, scratch, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False),
    )
    found = look(directory, scratch)
    if found is None or (found.st_dev, found.st_ino) != identity:
        _remove(directory, scratch)
        return False
    with _appearing(directory, scratch, name, overwrite=overwrite):
        return True


def old_file(directory: int, name: bytes) -> int | None:
    """Descriptor of an existing regular file, for reading; None where there is none that can be read."""
    try:
        file = os.open(name, _OLD_FILE, dir_fd=directory)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    return None


def is_hole(file: int, offset: int, length: int) -> bool:
    """Whether a range within a file is known to hold nothing, without reading it."""
    try:
        return os.lseek(file, offset, os.SEEK_DATA) >= offset + length
    except OSError as error:
        return error.errno == errno.ENXIO  # no data after `offset`


def clear_scratch(directory: int, name: bytes) -> None:
    """Remove what a crashed restore may have left beside an entry."""
    _remove(directory, _scratch(name))


def walk_to(root: int, path: bytes) -> int:
    """Descriptor of the directory at a relative path below `root`; OSError where a part of it is no directory."""
    here = os.dup(root)
    try:
        for part in path.split(b"/") if path else ():
            below = os.open(part, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


class NewContent:
    """An `ImageTarget` on a new, empty file: what is zeros becomes a hole, block by block."""

    def __init__(self, file: int) -> None:
        self._file = file

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write what is not zeros."""
        view = memoryview(data)
        for start, end in _not_zero(view, -offset % _BLOCK):
            at = start
            while at < end:
                at += os.pwrite(self._file, view[at:end], offset + at)

    def zero(self, offset: int, length: int) -> None:
        """Nothing: an unwritten range of a new file is a hole."""


def _not_zero(data: memoryview, first: int) -> list[tuple[int, int]]:
    """(start, end) of what is to be written; `first` is where the file's first block begins in the data."""
    count = (len(data) - first) // _BLOCK
    if count <= 0:
        return [(0, len(data))]
    blocks = np.frombuffer(data, np.uint8, count * _BLOCK, first).reshape(count, _BLOCK).view(np.uint64)
    filled = blocks.any(axis=1)
    if filled.all():
        return [(0, len(data))]
    edges = np.flatnonzero(np.diff(filled, prepend=False, append=False)) * _BLOCK + first
    runs = [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
    tail = first + count * _BLOCK
    ends = [(0, first), *runs, (tail, len(data))]
    return [(start, end) for start, end in ends if start < end]


def _scratch(name: bytes) -> bytes:
    return b".karbor-" + hashlib.sha256(name).hexdigest()[:32].encode()


def _remove(directory: int, name: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _make(directory: int, scratch: bytes, make: Callable[[], T]) -> T:
    """Make the scratch entry; what has its name is what a crashed restore left."""
    with contextlib.suppress(FileExistsError):
        return make()
    _remove(directory, scratch)
    return make()


@contextlib.contextmanager
def _appearing(directory: int, scratch: bytes, name: bytes, *, overwrite: bool) -> Iterator[None]:
    """Give the scratch entry its name when the block ends well, and see to it that it is gone in any case."""
    try:
        yield
        _name(directory, scratch, name, overwrite=overwrite)
    finally:
        # Renaming a file to another name of itself leaves both.
        _remove(directory, scratch)


def _name(directory: int, scratch: bytes, name: bytes, *, overwrite: bool) -> None:
    try:
        if overwrite:
            os.replace(scratch, name, src_dir_fd=directory, dst_dir_fd=directory)
            return
        os.link(scratch, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except (FileExistsError, IsADirectoryError):
        raise Taken from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links: look first, as well as can be.
        if look(directory, name) is not None:
            raise Taken from None
        os.rename(scratch, name, src_dir_fd=directory, dst_dir_fd=directory)
