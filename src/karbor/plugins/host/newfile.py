"""Restoring one regular file: filled beside its place and renamed in, so that nobody sees half of it.

A crash at any point is taken up again: the file that was being filled is known by its inode, which is recorded.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import signal
import stat
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.errors import Conflict, Refused
from karbor.plugins.host.beneath import Identity, explained, identity, lock, opened, parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from karbor.sdk.op import Op

_NAME_MAX = 255


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """Of a file: what a restore gives back. `mtime_ns` is nanoseconds since the epoch."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int


def attributes_of(fd: int) -> dict[str, Any]:
    """The attributes of an open file, as a saved document keeps them."""
    status = os.fstat(fd)
    mode = stat.S_IMODE(status.st_mode)
    return {"mode": mode, "uid": status.st_uid, "gid": status.st_gid, "mtime_ns": status.st_mtime_ns}


def give_attributes(fd: int, saved: dict[str, Any] | None, *, owners: bool, set_id_bits: bool) -> None:
    """Set what was saved; owners and set-id bits only where the administrator allows it."""
    if saved is None:
        return
    attributes = msgspec.convert(saved, Attributes)
    if owners:
        os.fchown(fd, attributes.uid, attributes.gid)
    os.fchmod(fd, attributes.mode & (0o7777 if set_id_bits else 0o777))
    os.utime(fd, ns=(attributes.mtime_ns, attributes.mtime_ns))


def check_target(path: str, *, overwrite: bool) -> bool:
    """Whether a file exists at `path`; raises `Refused` where what is there may not be replaced."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{path} exists and is no regular file")
    if not overwrite:
        raise Refused(f"{path} exists", hint="ask for overwrite, or restore to another path")
    check_closed(path)
    return True


def check_closed(path: str) -> None:
    """Raise `Refused` where a program has the file open for writing: it would go on with a file that has no name.

    A write lease is granted only where nobody has (fcntl(2), "Leases"). Where leases are not to be had, because the
    file is another user's or its file system knows none, nothing is said.
    """
    with explained(path), opened(path, os.O_RDONLY) as fd:
        try:
            # Whoever opens the file meanwhile would send SIGIO, which ends a process; SIGURG does nothing.
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise Refused(f"{path} is in use", hint="stop what uses it, or restore to another path") from error
        else:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def restore_file(
    op: Op, path: str, fill: Callable[[int], None], *, overwrite: bool, release: Callable[[], None] | None = None
) -> None:
    """Make the file at `path` with what `fill(fd)` writes; the parts of the path that are missing are made.

    `release` is called before an existing file is replaced, and raises where that may not be.
    Raises `Refused` where something is in the way, `Conflict` where another restore writes to the same place.
    """
    with explained(path), parent(path, make=True) as (folder, name), contextlib.ExitStack() as stack:
        held: list[int] = []
        replaces = op.read("replaces", lambda: check_target(path, overwrite=overwrite))
        partial = _partial(name)

        def begin(_tag: str) -> dict[str, Any]:
            held.append(stack.enter_context(_locked(folder, partial, path, fresh=True)))
            return {"file": _identity(held[0]), "replaced": replaces}

        made: Identity = op.once("file", begin, lambda _tag: None)["file"]
        op.defer("partial", lambda: _remove(path, partial, made))

        def write() -> None:
            fd = held[0] if held else stack.enter_context(_locked(folder, partial, path, fresh=False))
            if _identity(fd) != made:
                raise Conflict(f"another restore has begun to write to {path}")
            fill(fd)
            os.fsync(fd)
            if release is not None:
                release()
            if replaces:
                check_closed(path)
            _publish(folder, partial, name, path, replaces=replaces)

        op.ensure(lambda: identity(folder, name) == made, write)


def undo_file(op: Op, path: str) -> None:
    """Remove what `restore_file` made; a file that took the place of another stays, with a warning."""
    made = op.made("file")
    if made is None:
        return
    with explained(path), contextlib.suppress(FileNotFoundError), parent(path) as (folder, name):
        if identity(folder, name) != made["file"]:
            return
        if made["replaced"]:
            op.warn(f"{path} was replaced and stays so: what it held before is gone")
        else:
            os.unlink(name, dir_fd=folder)


def _partial(name: str) -> str:
    """The name of the file while it is filled: the same for every restore to this place, so that two of them meet."""
    whole = f".{name}.karbor-partial"
    if len(os.fsencode(whole)) <= _NAME_MAX:
        return whole
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.karbor-partial"


@contextlib.contextmanager
def _locked(folder: int, partial: str, path: str, *, fresh: bool) -> Iterator[int]:
    """The file to fill, locked against other restores; `fresh` removes one that a crashed restore left behind."""
    create = os.O_CREAT | (0 if identity(folder, partial) else os.O_EXCL)
    fd = os.open(partial, os.O_RDWR | create | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        lock(fd, path)
        _check_ours(fd, folder, partial, path)
        if fresh and not create & os.O_EXCL:
            os.unlink(partial, dir_fd=folder)
            with _locked(folder, partial, path, fresh=False) as own:
                yield own
        else:
            yield fd
    finally:
        os.close(fd)


def _check_ours(fd: int, folder: int, partial: str, path: str) -> None:
    status = os.fstat(fd)
    ours = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
    if not ours or identity(folder, partial) != _identity(fd):
        raise Conflict(f"{partial} beside {path} is not this restore's", hint="remove it when no restore is at work")


def _identity(fd: int) -> Identity:
    status = os.fstat(fd)
    return [status.st_dev, status.st_ino]


def _publish(folder: int, partial: str, name: str, path: str, *, replaces: bool) -> None:
    if replaces:
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        try:
            os.link(partial, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError as error:
            raise Refused(f"{path} has come into being meanwhile", hint="ask for overwrite") from error
        os.unlink(partial, dir_fd=folder)
    os.fsync(folder)


def _remove(path: str, partial: str, made: Identity) -> None:
    with contextlib.suppress(FileNotFoundError), parent(path) as (folder, _):
        if identity(folder, partial) == made:
            os.unlink(partial, dir_fd=folder)
