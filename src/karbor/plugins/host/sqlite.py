"""SQLite databases: copied by the online backup interface while they are written, restored as a whole new file.

Facts: https://sqlite.org/backup.html, https://sqlite.org/wal.html, https://sqlite.org/lockingv3.html.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

from karbor.errors import Refused
from karbor.plugins.host import reporting, sqlite_copy
from karbor.plugins.host.beneath import check_readable_place, explained, free_bytes, opened, restore_target
from karbor.plugins.host.command import Program, stream
from karbor.plugins.host.newfile import attributes_of, check_target, give_attributes, restore_file, undo_file
from karbor.sdk.local_image import FileImage, FileTarget

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from karbor.domain.preflight import PreflightItem
    from karbor.plugins.host.database import DatabaseRestore
    from karbor.plugins.host.declaration import Application, Sqlite
    from karbor.sdk.op import Look, Op

SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, by the end of its name."""
_SILENCE_SECONDS = 600.0
"""How long the copy may make no progress: a writer may hold the database, a check of the copy takes its time."""


class SqliteFile:
    """One declared SQLite database at one operation."""

    def __init__(self, application: Application, member: Sqlite, never: tuple[str, ...]) -> None:
        self._application, self._member, self._never = application, member, never

    def preflight_protect(self, look: Look) -> Iterable[PreflightItem]:
        """One item: the database with its size."""
        path = self._member.path
        check_readable_place(path, self._never)
        with explained(path), opened(path, os.O_RDONLY) as fd:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 16, 0) != b"SQLite format 3\0":
                raise Refused(f"{path} is no SQLite database")
        return [reporting.item(look.resource, "read", path, "as it is at one moment", size)]

    def protect(self, op: Op) -> None:
        """Copy it, check the copy, store the copy."""
        path = self._member.path
        check_readable_place(path, self._never)
        copy = op.scratch / "copy"
        with explained(path), opened(path, os.O_RDONLY) as fd:
            attributes, status = attributes_of(fd), os.fstat(fd)
        _copy(path, copy, status, op)
        with explained(str(copy)), copy.open("rb") as file:
            written = op.vault.write_image(FileImage(file.fileno()), progress=op.progress)
        saved = reporting.document("sqlite", written, path=path, attributes=attributes)
        op.save(saved, location="bank", consistency="application")

    def preflight_restore(self, look: Look, options: DatabaseRestore) -> Iterable[PreflightItem]:
        """Whether the file is made or replaced, and whether there is room."""
        size = int(look.saved.get("logical_bytes", 0))
        target = self._target(options)
        exists = check_target(target, overwrite=options.overwrite)
        _check_side_files(target, overwrite=options.overwrite)
        yield reporting.item(look.resource, "overwrite" if exists else "create", target, size=size)
        yield from reporting.room(look, target, size, free_bytes(target))

    def restore(self, op: Op, options: DatabaseRestore) -> str:
        """Write the file beside its place, check it, put it there; returns its path."""
        target = self._target(options)
        allowed = self._application.options

        def fill(fd: int) -> None:
            op.vault.restore_image(FileTarget(fd, int(op.saved["logical_bytes"])), progress=op.progress)
            give_attributes(fd, op.saved.get("attributes"), owners=allowed.owners, set_id_bits=False)

        restore_file(
            op, target, fill, overwrite=options.overwrite, release=lambda: _release(target, overwrite=options.overwrite)
        )
        return target

    def undo(self, op: Op, options: DatabaseRestore) -> None:
        """Remove the file that was made."""
        undo_file(op, self._target(options))

    def device_of(self) -> int | None:
        """The device it lies on."""
        with contextlib.suppress(OSError):
            return os.lstat(self._member.path).st_dev
        return None

    def _target(self, options: DatabaseRestore) -> str:
        return restore_target(self._application, self._member.path, options.restore_path, self._never)


def _copy(path: str, copy: Path, status: os.stat_result, op: Op) -> None:
    """Copy a database at one moment, and check the copy; see `sqlite_copy` for why a program does it."""
    arguments = (path, str(copy), str(status.st_dev), str(status.st_ino))
    program = Program(arguments=(sys.executable, "-I", "-S", sqlite_copy.__file__, *arguments), name=f"copying {path}")
    rest = b""
    for said in stream(program, silence=_SILENCE_SECONDS):
        *lines, rest = (rest + said).split(b"\n")
        for line in lines:
            done, total = line.split()
            op.progress(int(done), int(total), "copying")


def _side_files(path: str) -> Iterator[str]:
    return (path + end for end in SIDE_FILES if os.path.lexists(path + end))


def _check_side_files(path: str, *, overwrite: bool) -> None:
    """A journal of another database beside the new file would be played into it."""
    left = next(_side_files(path), None)
    if left is not None and not overwrite:
        raise Refused(f"{left} is left of another database", hint="ask for overwrite: it will be removed")


def _release(path: str, *, overwrite: bool) -> None:
    """See that nobody has the database open that is to be replaced, and remove what SQLite keeps beside it."""
    if os.path.lexists(path):
        try:
            where = f"file:{quote(path)}?mode=rw"
            with contextlib.closing(sqlite3.connect(where, uri=True, isolation_level=None, timeout=0)) as database:
                database.execute("PRAGMA journal_mode=DELETE")  # needs that no other connection is open
                database.execute("BEGIN EXCLUSIVE")
                database.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise Refused(f"{path} is in use", hint="stop what uses it, or restore to another path") from error
    _check_side_files(path, overwrite=overwrite)
    for left in _side_files(path):
        os.unlink(left)  # noqa: PTH108 - paths are strings here, as they are declared
