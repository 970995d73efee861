"""A bank in a folder: a local disk or a mounted share.

Every object is a file whose path below the folder is its key, so that plain restic opens what lies here.
The service's own names (`~karbor-bank`, `~karbor-tmp`) hold a character that no key may hold. Every path is walked
from the folder's descriptor without following links. An object is written to `~karbor-tmp`, synced, and then renamed
(or linked, where it must be new); its folder is synced before `put` returns. Folders stay when they become empty.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from karbor.errors import (
    BankError,
    BankForeign,
    BankFull,
    Damaged,
    InvalidInput,
    KarborError,
    ObjectExists,
    ObjectMissing,
)
from karbor.sdk.bank import (
    FEATURE_ATOMIC_DELETE,
    FEATURE_IF_ABSENT,
    BankSpace,
    ObjectStat,
    check_key,
    check_prefix,
    is_key_part,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from karbor.sdk.bank import Buffer

MARKER = "~karbor-bank"
SCRATCH = "~karbor-tmp"
_MARKER_TEXT = b"karbor bank 1\nThis folder holds the data of a Karbor bank. Do not change anything below it by hand.\n"
_NOT_CONTENT = frozenset({SCRATCH, "lost+found"})
_ABANDONED_SECONDS = 24 * 3600
"""A put takes seconds: a scratch file this old belongs to one that crashed."""
_PAGE = 65_536
"""Names of one folder that a listing holds at once."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def open_bank(options: Mapping[str, str]) -> FilesystemBank:
    """The bank that a provider's `[…bank…]` section names by `path` (or by its older name `file_system_bank_path`)."""
    path = options.get("path") or options.get("file_system_bank_path")
    if not path:
        raise InvalidInput("a file system bank needs the option `path`", field="path")
    return FilesystemBank(path)


class FilesystemBank:
    """`karbor.sdk.bank.Bank` on a folder.

    Opening makes the folder where it is missing, adopts an empty one, and refuses one that holds anything else and was
    never a bank (`BankForeign`).
    """

    kind = "filesystem"
    features = frozenset({FEATURE_IF_ABSENT, FEATURE_ATOMIC_DELETE})

    def __init__(self, path: str, *, clock: Callable[[], float] = time.time) -> None:
        """`path` is absolute; `clock` gives Unix seconds."""
        if not Path(path).is_absolute():
            raise InvalidInput(f"the bank's path {path} is not absolute", field="path")
        self.location = os.path.normpath(path)
        self._synced: set[str] = set()
        with _explained(self.location, "the bank's folder"):
            Path(self.location).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(self.location, _FOLDER & ~os.O_NOFOLLOW)
            try:
                self._adopt()
                with contextlib.suppress(FileExistsError):
                    os.mkdir(SCRATCH, mode=0o700, dir_fd=self._root)
                self._clean(clock() - _ABANDONED_SECONDS)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Give back the folder's descriptor; the bank is unusable afterwards."""
        os.close(self._root)

    def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """Write, sync, rename: see the module's docstring."""
        check_key(key)
        with self._written(key), self._folder(_parent(key), make=True) as folder, self._scratch() as scratch:
            temporary = f"put-{secrets.token_hex(16)}"
            descriptor = os.open(temporary, _NEW_FILE, 0o600, dir_fd=scratch)
            try:
                with os.fdopen(descriptor, "wb", buffering=1 << 18) as file:
                    file.writelines(parts)
                    file.flush()
                    os.fsync(descriptor)
                    if if_absent:
                        _link_new(scratch, temporary, folder, key)
                    else:
                        os.replace(temporary, _name(key), src_dir_fd=scratch, dst_dir_fd=folder)
                os.fsync(folder)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=scratch)

    def get(self, key: str, *, limit: int) -> bytes:
        """The whole object; see `Bank.get`."""
        with self._object(key) as (descriptor, size):
            if size > limit:
                raise Damaged(key, f"it has {size} bytes, {limit} at most are expected")
            return _read(descriptor, key, 0, size)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """A part of an object; see `Bank.get_range`."""
        with self._object(key) as (descriptor, size):
            if offset + length > size:
                raise Damaged(key, f"it has {size} bytes, {offset + length} at least are expected")
            return _read(descriptor, key, offset, length)

    def stat(self, key: str) -> ObjectStat:
        """Size and time of one object."""
        check_key(key)
        with _explained(key, "looking at"), self._folder(_parent(key)) as folder:
            found = _stat_object(folder, _name(key), key)
            if found is None:
                raise ObjectMissing(key)
            return found

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectStat]:
        """Objects in order; holds at most 65,536 names of each folder on the way down."""
        check_prefix(prefix)
        return self._list(_parent(prefix), prefix, after)

    def delete(self, key: str) -> None:
        """Remove one object, and sync its folder: what was deleted does not come back after a power failure."""
        check_key(key)
        with (
            contextlib.suppress(ObjectMissing),
            _explained(key, "deleting"),
            self._folder(_parent(key)) as folder,
            contextlib.suppress(IsADirectoryError),
        ):
            os.unlink(_name(key), dir_fd=folder)
            os.fsync(folder)

    def space(self) -> BankSpace:
        """Room in the file system; free is what is left to an unprivileged user."""
        with _explained(self.location, "looking at"):
            found = os.fstatvfs(self._here())
        return BankSpace(total=found.f_blocks * found.f_frsize, free=found.f_bavail * found.f_frsize)

    def _here(self) -> int:
        """Descriptor of the bank's folder. Another folder at its place means that a disk was mounted there or taken away:
        a bank is taken up, anything else is no place to write to, nor one from which to conclude that objects are missing.
        """
        try:
            if os.path.samestat(Path(self.location).stat(), os.fstat(self._root)):
                return self._root
            other = os.open(self.location, _FOLDER & ~os.O_NOFOLLOW)
            try:
                os.stat(MARKER, dir_fd=other, follow_symlinks=False)
                os.dup2(other, self._root, inheritable=False)
            finally:
                os.close(other)
        except PermissionError:
            # A parent may not be looked into any more: what is open is still the bank that was opened.
            return self._root
        except OSError as error:
            raise BankError(
                f"the bank's folder {self.location} is not there any more", hint="is its disk mounted?"
            ) from error
        self._synced.clear()
        return self._root

    @contextlib.contextmanager
    def _folder(self, path: str, *, make: bool = False) -> Iterator[int]:
        """Descriptor of the folder `path` (``""`` is the bank's own), reached without following any link."""
        descriptor = os.dup(self._here())
        try:
            walked = ""
            for part in path.split("/") if path else ():
                walked = f"{walked}/{part}"
                if make and walked not in self._synced:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, mode=0o700, dir_fd=descriptor)
                    # Also where another thread or process made it: it may not have come as far as its own sync.
                    os.fsync(descriptor)
                    self._synced.add(walked)
                child = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = child
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _written(self, key: str) -> Iterator[None]:
        """`_explained` for a put, where a missing folder means that somebody removed it, and a file in its place a bad key."""
        try:
            yield
        except FileNotFoundError as error:
            self._synced.clear()
            raise BankError(f"writing {key}: a folder of the bank has vanished") from error
        except (NotADirectoryError, IsADirectoryError) as error:
            raise InvalidInput(f"{key} and another object would be folder and file of one name", field="key") from error
        except OSError as error:
            raise _meaning(error, f"{self.location}/{key}", "writing") from error

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[int]:
        descriptor = os.open(SCRATCH, _FOLDER, dir_fd=self._here())
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _object(self, key: str) -> Iterator[tuple[int, int]]:
        """Descriptor and size of an object."""
        check_key(key)
        with _explained(key, "reading"), self._folder(_parent(key)) as folder:
            descriptor = os.open(_name(key), _OLD_FILE, dir_fd=folder)
            try:
                found = os.fstat(descriptor)
                if stat.S_ISDIR(found.st_mode):
                    raise ObjectMissing(key)
                if not stat.S_ISREG(found.st_mode):
                    raise Damaged(key, "it is not a regular file")
                yield descriptor, found.st_size
            finally:
                os.close(descriptor)

    def _list(self, path: str, prefix: str, after: str) -> Iterator[ObjectStat]:
        """Objects below the folder `path`, which ends where the last slash of `prefix` stands, or deeper."""
        with (
            contextlib.suppress(ObjectMissing),
            _explained(prefix or self.location, "listing"),
            self._folder(path) as here,
        ):
            start = f"{path}/" if path else ""
            for name in _names(here, start, prefix, after):
                if name.endswith("/"):
                    yield from self._list(start + name[:-1], prefix, after)
                elif found := _stat_object(here, name, start + name):
                    yield found

    def _adopt(self) -> None:
        """See to it that the folder is a bank."""
        try:
            descriptor = os.open(MARKER, _OLD_FILE, dir_fd=self._root)
        except FileNotFoundError:
            self._mark()
            return
        with os.fdopen(descriptor, "rb") as marker:
            if marker.read(14) != _MARKER_TEXT[:14]:
                raise BankForeign(f"{self.location} is a bank of a kind that this version does not know")

    def _mark(self) -> None:
        with os.scandir(self._root) as entries:
            strangers = sorted(entry.name for entry in entries if entry.name not in _NOT_CONTENT)
        if strangers and strangers != [MARKER]:
            raise BankForeign(
                f"{self.location} is not a Karbor bank and not empty: it holds {strangers[0]!r}",
                hint="give the bank a folder of its own",
            )
        os.fchmod(self._root, 0o700)
        with contextlib.suppress(FileExistsError):
            os.mkdir(SCRATCH, mode=0o700, dir_fd=self._root)
        temporary = f"put-{secrets.token_hex(16)}"
        with self._scratch() as scratch:
            with os.fdopen(os.open(temporary, _NEW_FILE, 0o600, dir_fd=scratch), "wb") as file:
                file.write(_MARKER_TEXT)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, MARKER, src_dir_fd=scratch, dst_dir_fd=self._root, follow_symlinks=False)
            os.unlink(temporary, dir_fd=scratch)
        os.fsync(self._root)
        for parent in Path(self.location).parents:
            # Whichever of them is new must not be lost; one that may not be read is not ours.
            with contextlib.suppress(OSError):
                _sync(str(parent))

    def _clean(self, before: float) -> None:
        """Remove the scratch files of puts that crashed, in whatever process."""
        with self._scratch() as scratch, os.scandir(scratch) as entries:
            for entry in entries:
                # Another process may be cleaning too, or the bank lie on a read-only file system.
                with contextlib.suppress(OSError):
                    if entry.name.startswith("put-") and entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.name, dir_fd=scratch)


def _parent(key: str) -> str:
    return key.rpartition("/")[0]


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _sync(path: str) -> None:
    descriptor = os.open(path, _FOLDER & ~os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(key: str, doing: str) -> Iterator[None]:
    """Turn what the operating system says into an error of the bank port."""
    try:
        yield
    except OSError as error:
        raise _meaning(error, key, doing) from error


def _meaning(error: OSError, key: str, doing: str) -> KarborError:
    if error.errno in _ABSENT:
        return ObjectMissing(key)
    if error.errno in _FULL:
        return BankFull(f"the bank has no room: {doing} {key}: {error.strerror}")
    if error.errno == errno.ELOOP:
        return BankForeign(f"{doing} {key}: the bank holds a symbolic link in its place")
    return BankError(f"{doing} {key}: {error.strerror}")


def _link_new(scratch: int, temporary: str, folder: int, key: str) -> None:
    """Give the scratch file its name, which must be free."""
    try:
        os.link(temporary, _name(key), src_dir_fd=scratch, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        # A network file system may repeat a request whose answer was lost: a second name means that the first came through.
        if os.stat(temporary, dir_fd=scratch, follow_symlinks=False).st_nlink != 2:
            raise ObjectExists(key) from None


def _read(descriptor: int, key: str, offset: int, length: int) -> bytes:
    """`length` bytes; the kernel gives at most 2 GiB at once."""
    pieces = []
    while length:
        piece = os.pread(descriptor, length, offset)
        if not piece:
            raise Damaged(key, f"it ends at byte {offset} while it is read")
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return b"".join(pieces)


def _stat_object(folder: int, name: str, key: str) -> ObjectStat | None:
    """None where there is nothing, or nothing that is an object."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return ObjectStat(key=key, size=found.st_size, modified=found.st_mtime)


def _names(folder: int, start: str, prefix: str, after: str) -> Iterator[str]:
    """What a listing needs of a folder whose keys begin with `start`, in the order of keys; folders end with a slash.

    The order of keys is that of names with the slash: `a-b` comes before `a/b`.
    """
    last = ""
    while True:
        with os.scandir(folder) as entries:
            wanted = (
                name
                for entry in entries
                if is_key_part(entry.name)
                and (name := f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name) > last
                and _may_hold(start + name, prefix, after)
            )
            page = heapq.nsmallest(_PAGE, wanted)
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1]


def _may_hold(key: str, prefix: str, after: str) -> bool:
    """Whether `key`, or a key below it where it is a folder, begins with `prefix` and comes after `after`."""
    if key.endswith("/"):
        return (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key))
    return key.startswith(prefix) and key > after
