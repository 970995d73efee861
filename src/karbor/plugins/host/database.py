"""Protects declared databases: SQLite files by online backup, PostgreSQL and MariaDB by their own dump tools."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.resource import HOST_DATABASE
from karbor.errors import InvalidInput, KarborError, NotFound
from karbor.plugins.host import reporting
from karbor.plugins.host.declaration import Server, Sqlite
from karbor.plugins.host.inventory import Inventory, moved
from karbor.plugins.host.mariadb import MariaDB
from karbor.plugins.host.postgresql import PostgreSQL
from karbor.plugins.host.server import ServerDatabase, check_saved
from karbor.plugins.host.sqlite import SqliteFile
from karbor.sdk.protection import Protection
from karbor.sdk.schema import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.domain.preflight import PreflightItem
    from karbor.domain.resource import Resource
    from karbor.sdk.op import Look, Op


class DatabaseRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore."""

    restore_name: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] | None,
        msgspec.Meta(
            title="Restore name",
            description="Of a server's database: the new database. Without it a name is made.",
        ),
    ] = None
    restore_path: Annotated[
        str | None, msgspec.Meta(title="Restore path", description="Of a SQLite database: another file to restore to.")
    ] = None
    overwrite: Annotated[bool, msgspec.Meta(title="Overwrite", description="Replace what exists.")] = False


class DatabaseProtection(Protection):
    """Databases; each kind has its own module."""

    name = "karbor-host-database-plugin"
    types = (HOST_DATABASE,)
    restore_options = DatabaseRestore
    saved_info = reporting.SAVED_INFO

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._inventory = Inventory(options)

    def device_of(self, resource: Resource) -> int | None:
        """The device that a SQLite file lies on; None for a server's database."""
        with contextlib.suppress(NotFound):
            return self._database(resource).device_of()
        return None

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """One item: the database with its size, or why it cannot be read."""
        try:
            return list(self._database(op.resource).preflight_protect(op))
        except KarborError as error:
            return [reporting.refusal(op, error)]

    def protect_main(self, op: Op) -> None:
        """Store the database as it is at one moment."""
        self._database(op.resource).protect(op)

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """What is made or overwritten, or why it may not be."""
        try:
            return list(self._saved_database(op).preflight_restore(op, _options(op)))
        except InvalidInput:
            raise
        except KarborError as error:
            return [reporting.refusal(op, error)]

    def restore_main(self, op: Op) -> None:
        """Restore it to a new file or database, or over its own."""
        options = _options(op)
        made = self._saved_database(op).restore(op, options)
        _, member = self._member(op.resource)
        own = member.path if isinstance(member, Sqlite) else member.database
        op.register(op.resource if made == own else moved(op.resource, made))

    def restore_undo(self, op: Op) -> None:
        """Remove what was made."""
        self._database(op.resource).undo(op, _options(op))

    def verify_main(self, op: Op) -> None:
        """Read back every byte."""
        op.vault.verify(progress=op.progress)

    def _saved_database(self, op: Look | Op) -> SqliteFile | ServerDatabase:
        _, member = self._member(op.resource)
        check_saved(str(op.saved.get("kind")), "sqlite" if isinstance(member, Sqlite) else member.engine, member.name)
        return self._database(op.resource)

    def _database(self, resource: Resource) -> SqliteFile | ServerDatabase:
        application, member = self._member(resource)
        if isinstance(member, Sqlite):
            return SqliteFile(application, member, self._inventory.never)
        return ServerDatabase(member, PostgreSQL(member) if member.engine == "postgresql" else MariaDB(member))

    def _member(self, resource: Resource) -> tuple[Any, Sqlite | Server]:
        declared = self._inventory.find(resource)
        if not isinstance(declared.member, Sqlite | Server):
            raise NotFound(f"{resource.key} is not declared as a database")
        return declared.application, declared.member


def _options(op: Look | Op) -> DatabaseRestore:
    return parse(DatabaseRestore, op.options, field="parameters")
