"""Protects declared directories: every file below them, with its attributes, into the vault."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.resource import HOST_DIRECTORY
from karbor.errors import KarborError, NotFound, Refused
from karbor.plugins.host import reporting
from karbor.plugins.host.beneath import (
    check_readable_place,
    directory,
    explained,
    free_bytes,
    lock,
    parent,
    restore_target,
)
from karbor.plugins.host.declaration import Directory, Server, Sqlite
from karbor.plugins.host.inventory import Inventory, application_resource, moved
from karbor.sdk.protection import Protection
from karbor.sdk.schema import parse
from karbor.sdk.vault import RestoreOptions, TreeOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from karbor.domain.checkpoint import Consistency
    from karbor.domain.preflight import PreflightItem
    from karbor.domain.resource import Resource
    from karbor.plugins.host.declaration import Application
    from karbor.sdk.op import Look, Op

MISSING, EMPTY, FILES = "missing", "empty", "files"

_ESTIMATED_ENTRIES = 100_000
"""How many files a pre-flight looks at before it says "more than"."""


class DirectoryRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore."""

    restore_path: Annotated[
        str | None,
        msgspec.Meta(title="Restore path", description="Another directory to restore into; it must be empty or new."),
    ] = None
    overwrite: Annotated[
        bool, msgspec.Meta(title="Overwrite", description="Replace files that exist; otherwise they are kept.")
    ] = False
    path: Annotated[
        str | None, msgspec.Meta(title="Path", description="Restore only this file or folder of the directory.")
    ] = None


class DirectoryProtection(Protection):
    """Directories, read and written beneath a descriptor of their root; no link is ever followed."""

    name = "karbor-host-directory-plugin"
    types = (HOST_DIRECTORY,)
    restore_options = DirectoryRestore
    saved_info = reporting.SAVED_INFO

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._inventory = Inventory(options)

    def device_of(self, resource: Resource) -> int | None:
        """The device the directory lies on, or None where there is none."""
        with contextlib.suppress(OSError, NotFound):
            _, member = self._inventory.member(resource, Directory)
            return os.lstat(member.path).st_dev
        return None

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """One item: the directory, with the size of what is in it."""
        try:
            _, member = self._inventory.member(op.resource, Directory)
            check_readable_place(member.path, self._inventory.never)
            with explained(member.path), directory(member.path) as fd:
                files, size = _estimate(fd)
        except KarborError as error:
            return [reporting.refusal(op, error)]
        more = "more than " if files >= _ESTIMATED_ENTRIES else ""
        return [reporting.item(op.resource, "read", member.path, f"{more}{files} files", size)]

    def protect_main(self, op: Op) -> None:
        """Store the tree."""
        application, member = self._inventory.member(op.resource, Directory)
        check_readable_place(member.path, self._inventory.never)
        with explained(member.path), directory(member.path) as fd:
            own: Consistency = "file system" if os.fstatvfs(fd).f_flag & os.ST_RDONLY else "crash"
            written = op.vault.write_tree(fd, self._tree_options(op, application, member), progress=op.progress)
        op.save(
            reporting.document("directory", written, path=member.path),
            location="bank",
            consistency=reporting.consistency(op, application, own),
        )
        reporting.warn_of_skipped(op, written, member.path)

    def _tree_options(self, op: Op, application: Application, member: Directory) -> TreeOptions:
        apart = _protected_apart(application, member) if _whole_application(op, application) else ()
        return TreeOptions(
            excludes=(*member.excludes, *apart),
            one_file_system=member.one_file_system,
            skip_caches=member.skip_caches,
            never=self._inventory.never,
            on_change=member.on_change,
        )

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """What is made, kept or replaced, and whether there is room."""
        size = int(op.saved.get("logical_bytes", 0))
        try:
            _, options, target = self._target(op)
            empty = _found(target) != FILES
            _check_fresh(target, options, empty=empty)
        except KarborError as error:
            return [reporting.refusal(op, error)]
        what = f"{target}/{options.path}" if options.path else target
        if empty:
            found = [reporting.item(op.resource, "create", what, size=size)]
        elif options.overwrite:
            found = [reporting.item(op.resource, "overwrite", what, "files that exist are replaced", size)]
        else:
            found = [
                reporting.item(op.resource, "create", what, "missing files are made, existing ones are kept", size)
            ]
        return [*found, *(reporting.room(op, target, size, free_bytes(target)) if empty and not options.path else ())]

    def restore_main(self, op: Op) -> None:
        """Write the tree, or one path of it, below its directory."""
        application, options, target = self._target(op)
        found = op.once("found", lambda _tag: _found(target), lambda _tag: None)
        _check_fresh(target, options, empty=found != FILES)
        allowed = application.options
        with explained(target), directory(target, make=True) as fd:
            lock(fd, target)
            restored = op.vault.restore_tree(
                fd,
                RestoreOptions(
                    overwrite=options.overwrite,
                    owners=allowed.owners,
                    set_id_bits=allowed.set_id_bits,
                    devices=allowed.devices,
                    security_attributes=allowed.security_attributes,
                ),
                path=options.path or "",
                progress=op.progress,
            )
        reporting.warn_of_skipped(op, restored, target)
        op.register(op.resource if options.restore_path is None else moved(op.resource, target))

    def restore_undo(self, op: Op) -> None:
        """Empty a directory that was empty before; in one that was not, new and old can no longer be told apart."""
        _, _, target = self._target(op)
        found = op.made("found")
        if found == FILES:
            op.warn(f"{target} held files before the restore: what was restored into it stays")
        elif found is not None:
            with explained(target), contextlib.suppress(FileNotFoundError):
                with directory(target) as fd:
                    _clear(fd)
                if found == MISSING:
                    with parent(target) as (folder, name):
                        os.rmdir(name, dir_fd=folder)

    def verify_main(self, op: Op) -> None:
        """Read back every byte."""
        op.vault.verify(progress=op.progress)

    def _target(self, op: Look | Op) -> tuple[Application, DirectoryRestore, str]:
        application, member = self._inventory.member(op.resource, Directory)
        options = parse(DirectoryRestore, op.options, field="parameters")
        target = restore_target(application, member.path, options.restore_path, self._inventory.never)
        return application, options, target


def _whole_application(op: Op, application: Application) -> bool:
    return application_resource(application).key in {parent.key for parent in op.parents}


def _protected_apart(application: Application, member: Directory) -> Iterator[str]:
    """Patterns of the application's own images and databases below a directory: they are members of their own.

    A copy of a live database file would be worthless, and its journal, restored beside the real one, harmful.
    """
    for other in application.members:
        if isinstance(other, Server) or other is member or not other.path.startswith(member.path.rstrip("/") + "/"):
            continue
        pattern = "/" + _literal(other.path[len(member.path.rstrip("/")) + 1 :])
        yield pattern
        if isinstance(other, Sqlite):
            yield from (pattern + suffix for suffix in ("-wal", "-shm", "-journal"))


def _literal(text: str) -> str:
    return re.sub(r"([*?\[\\\s])", r"\\\1", text)


def _found(path: str) -> str:
    """What a restore finds at its place."""
    with explained(path):
        try:
            with directory(path) as fd, os.scandir(fd) as entries:
                return FILES if next(entries, None) else EMPTY
        except FileNotFoundError:
            return MISSING


def _check_fresh(target: str, options: DirectoryRestore, *, empty: bool) -> None:
    if options.restore_path is not None and not empty and not options.overwrite:
        raise Refused(f"{target} is not empty", hint="ask for overwrite, or restore to another path")


def _estimate(root: int) -> tuple[int, int]:
    """How many files there are and how large they are, as far as can be read."""
    files = size = 0
    for _, _, names, fd in os.fwalk(".", dir_fd=root, follow_symlinks=False):
        for name in names:
            files += 1
            with contextlib.suppress(OSError):
                size += os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
            if files >= _ESTIMATED_ENTRIES:
                return files, size
    return files, size


def _clear(root: int) -> None:
    for _, folders, names, fd in os.fwalk(".", topdown=False, dir_fd=root, follow_symlinks=False):
        for name in names:
            os.unlink(name, dir_fd=fd)
        for name in folders:
            try:
                os.rmdir(name, dir_fd=fd)
            except NotADirectoryError:
                os.unlink(name, dir_fd=fd)
