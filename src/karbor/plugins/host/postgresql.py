"""PostgreSQL databases by PostgreSQL's own tools: pg_dump in the custom format, pg_restore in one transaction.

Facts: https://www.postgresql.org/docs/15/app-pgdump.html, app-pgrestore.html, libpq-envars.html, libpq-pgpass.html.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from karbor.errors import Refused, ResourceFailed
from karbor.plugins.host.command import Program, feed, find_tool, run, secret_file, stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from karbor.domain.checkpoint import Consistency
    from karbor.plugins.host.declaration import Server

_PACKAGE = "postgresql-client"
_QUERY_SECONDS = 30
_PASSING = (
    r"failed: (Connection refused|No such file or directory|timeout expired)|server closed the connection"
    r"|the database system is (starting up|shutting down|in recovery)|too many clients|terminating connection"
)


class PostgreSQL:
    """One database server as its declaration names it; implements `karbor.plugins.host.server.Engine`."""

    def __init__(self, member: Server) -> None:
        self._member = member

    def size(self, database: str, *, restoring: bool = False) -> int | None:
        """Bytes the database takes, or None where it does not exist."""
        rows = self._query(f"SELECT pg_database_size(oid) FROM pg_database WHERE datname = '{database}'", restoring)  # noqa: S608
        return int(rows[0]) if rows else None

    def consistency(self) -> tuple[Consistency, str]:
        """pg_dump reads in one transaction."""
        return "application", ""

    def check_ordinary(self) -> None:
        """Raise `Refused` where the restoring role is a superuser."""
        if self._query("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", restoring=True) != ["f"]:
            raise Refused(
                f"{self._role()} is a superuser: a dump is code, and would be run with all its rights",
                hint="declare an ordinary restore_user with CREATEDB, or privileged_restore",
            )

    def check_tools(self) -> None:
        """Raise `Refused` where a tool is missing."""
        for name in ("psql", "pg_dump", "pg_restore"):
            find_tool(name, _PACKAGE)

    def dump(self, database: str) -> Iterator[bytes]:
        """The dump, uncompressed: the vault compresses, and finds what is unchanged."""
        arguments = ("--format=custom", "--compress=0", "--no-password", f"--dbname={database}")
        with self._program("pg_dump", arguments, restoring=False) as program:
            yield from stream(program, silence=self._member.silence)

    def create(self, database: str, tag: str) -> None:
        """Make an empty database. It bears a name of its own until it is filled: see `finish`."""
        del database
        self._query(f'CREATE DATABASE "{tag}"', restoring=True)

    def find(self, database: str, tag: str) -> bool:
        """Whether an earlier attempt made it."""
        return self.size(tag, restoring=True) is not None or self._finished(database, tag)

    def fill(self, database: str, tag: str, dump: Iterable[bytes]) -> None:
        """Run the dump in one transaction: it is there as a whole or not at all."""
        if not self._finished(database, tag):
            self._restore(tag or database, dump)

    def finish(self, database: str, tag: str) -> None:
        """Give the new database its name; the tag stays with it as its comment."""
        if tag and not self._finished(database, tag):
            self._query(f"COMMENT ON DATABASE \"{tag}\" IS '{tag}'", restoring=True)
            self._query(f'ALTER DATABASE "{tag}" RENAME TO "{database}"', restoring=True)

    def drop(self, database: str, tag: str) -> None:
        """Remove what a restore made."""
        made = database if self._finished(database, tag) else tag
        self._query(f'DROP DATABASE IF EXISTS "{made}"', restoring=True)

    def _finished(self, database: str, tag: str) -> bool:
        """Whether the database that bears the name is the one that the restore made."""
        return bool(tag) and self._query(
            "SELECT 1 FROM pg_database"  # noqa: S608
            f" WHERE datname = '{database}' AND shobj_description(oid, 'pg_database') = '{tag}'",
            restoring=True,
        ) == ["1"]

    def _restore(self, database: str, dump: Iterable[bytes]) -> None:
        arguments = (
            "--clean", "--if-exists", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges",
            "--no-password", f"--dbname={database}",
        )  # fmt: skip
        with self._program("pg_restore", arguments, restoring=True) as program:
            feed(program, dump, silence=self._member.restore_silence)

    def _query(self, statement: str, restoring: bool) -> list[str]:
        """Rows of one column. Names in statements were checked against a pattern that needs no quoting."""
        arguments = (
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--no-password",
            "--dbname=postgres",
            f"--command={statement}",
        )
        with self._program("psql", arguments, restoring=restoring) as program:
            return run(program, deadline=_QUERY_SECONDS).decode("utf-8", "replace").split()

    def _role(self) -> str:
        return self._member.restore_user or self._member.user or "the service's own role"

    @contextlib.contextmanager
    def _program(self, name: str, arguments: tuple[str, ...], *, restoring: bool) -> Iterator[Program]:
        """A PostgreSQL tool; where and who stand in its environment, the password in a file of ours."""
        member = self._member
        user = (restoring and member.restore_user) or member.user
        password = member.restore_password if restoring and member.restore_user else member.password
        places = {"PGHOST": member.host, "PGPORT": str(member.port or ""), "PGUSER": user}
        environment = {name: value for name, value in places.items() if value}
        environment |= {"PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "karbor", "PGCLIENTENCODING": "UTF8"}
        path = find_tool(name, _PACKAGE)
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        if "\n" in password:
            raise ResourceFailed(f"{member.name}: a password cannot hold a line break")
        with secret_file(f"*:*:*:*:{escaped}\n" if password else "") as (passfile, fd):
            environment["PGPASSFILE"] = passfile
            yield Program(arguments=(path, *arguments), environment=environment, descriptors=(fd,), passing=_PASSING)
