"""Opening paths of this host without following a single symbolic link, whoever changes them meanwhile.

A path is walked from the root by directory descriptors with O_NOFOLLOW, so that what was checked is what is used.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING

from karbor.errors import Conflict, InvalidInput, Refused, ResourceFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from karbor.plugins.host.declaration import Application

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_DIRECTORY = 0o700

Identity = list[int]
"""Device and inode of a file, as JSON keeps it."""


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an `OSError` inside into a `ResourceFailed` that names what was touched and why it failed."""
    try:
        yield
    except OSError as error:
        hint = "make room on the device" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise ResourceFailed(f"{what}: {error.strerror or error}", hint=hint) from error


@contextlib.contextmanager
def directory(path: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the directory at an absolute path; with `make`, missing ones are made (0700).

    Raises `Refused` where a part of it is a link or no directory, `FileNotFoundError` where it is missing.
    """
    fd = os.open("/", _STEP)
    try:
        for part in filter(None, path.split("/")):
            deeper = _deeper(fd, part, path, make=make)
            os.close(fd)
            fd = deeper
        own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        os.close(fd)
        fd = own
        yield fd
    finally:
        os.close(fd)


def _deeper(fd: int, part: str, path: str, *, make: bool) -> int:
    if part == "..":
        raise Refused(f"{path} leads upwards")
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, _NEW_DIRECTORY, dir_fd=fd)
    try:
        return os.open(part, _STEP, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Refused(f"{path}: {part} is a link or no directory", hint="links are not followed") from error
        raise


@contextlib.contextmanager
def parent(path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """A descriptor of the directory that holds `path`, and its name there."""
    folder, _, name = path.rpartition("/")
    if not name:
        raise Refused(f"{path!r} names no file")
    with directory(folder or "/", make=make) as fd:
        yield fd, name


@contextlib.contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """A descriptor of the file at an absolute path; raises as `directory` does, and `Refused` for a link.

    Under /dev, which is the system's own, links are names of devices and are followed.
    """
    if path.startswith("/dev/"):
        path = os.path.realpath(path)
    with parent(path) as (folder, name):
        try:
            fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Refused(f"{path} is a symbolic link", hint="declare the file itself") from error
            raise
    try:
        yield fd
    finally:
        os.close(fd)


def identity(folder: int, name: str) -> Identity | None:
    """Which file a name stands for, or None where there is none."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return [status.st_dev, status.st_ino]


def lock(fd: int, what: str) -> None:
    """Keep every other restore out of a file or directory while `fd` is open; `Conflict` where one is at work."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(f"another restore is writing to {what}", hint="wait until it has ended") from error


def check_readable_place(path: str, never: tuple[str, ...]) -> None:
    """Raise `Refused` where a path belongs to the service's own bank, state or keys; `ResourceFailed` where it
    changes while it is looked at.
    """
    try:
        real = os.path.realpath(path)
    except OSError as error:
        raise ResourceFailed(f"{path} changed while it was looked at: {error.strerror}") from error
    for own in never:
        if is_below(real, own):
            raise Refused(f"{path} belongs to the service's own data in {own}: it is never protected")


def restore_target(application: Application, own_path: str, asked: str | None, never: tuple[str, ...]) -> str:
    """Where a member is restored to: its own path, or the one asked for.

    Raises `Refused` where that lies neither below the member's own path nor below one of the administrator's
    `restore_roots`, or reaches the service's own data.
    """
    target = own_path if asked is None else asked
    if not target.startswith("/") or os.path.normpath(target) != target or "\0" in target:
        raise InvalidInput(f"{target!r} is not an absolute, normal path", field="restore_path")
    roots = (own_path, *application.restore_roots)
    if not any(is_below(target, root) for root in roots):
        allowed = ", ".join(roots)
        raise Refused(f"{target} lies outside of where this may be restored: {allowed}", hint="see restore_roots")
    for own in never:
        if is_below(target, own) or (target != own_path and is_below(own, target)):
            raise Refused(f"{target} reaches the service's own data in {own}")
    return target


def is_below(path: str, root: str) -> bool:
    """Whether `path` is `root` or lies below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def free_bytes(path: str) -> int:
    """Room for an ordinary user on the file system where `path` lies or would be made."""
    place = path
    while not os.path.lexists(place):
        place = os.path.dirname(place)  # noqa: PTH120 - paths are strings here, as they are declared
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize
