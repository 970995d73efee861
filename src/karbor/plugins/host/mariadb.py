"""MariaDB databases by MariaDB's own tools: mariadb-dump in one transaction, the mariadb client in its sandbox.

Facts: https://mariadb.com/kb/en/mariadb-dump/, mariadb-command-line-client/, configuring-mariadb-with-option-files/.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from karbor.errors import Refused
from karbor.plugins.host.command import Program, feed, find_tool, run, secret_file, stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from karbor.domain.checkpoint import Consistency
    from karbor.plugins.host.declaration import Server

_PACKAGE = "mariadb-client"
_QUERY_SECONDS = 30
_PASSING = r"\b(2002|2003|2006|2013|1040|1053)\b"
"""No server, server gone, connection lost, too many connections, shutting down: mariadb.com/kb/en/mariadb-error-codes."""
_TRANSACTIONAL = "('InnoDB', 'RocksDB', 'SEQUENCE')"


class MariaDB:
    """One database server as its declaration names it; implements `karbor.plugins.host.server.Engine`."""

    def __init__(self, member: Server) -> None:
        self._member = member

    def size(self, database: str, *, restoring: bool = False) -> int | None:
        """Bytes the database takes, or None where it does not exist."""
        rows = self._query(
            "SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.schemata"  # noqa: S608
            " LEFT JOIN information_schema.tables ON table_schema = schema_name"
            f" WHERE schema_name = '{database}' GROUP BY schema_name",
            restoring,
        )
        return int(rows[0]) if rows else None

    def consistency(self) -> tuple[Consistency, str]:
        """The dump is one transaction, for tables that know transactions."""
        rows = self._query(
            "SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"  # noqa: S608
            f" AND table_schema = '{self._member.database}' AND engine NOT IN {_TRANSACTIONAL}",
            restoring=False,
        )
        if not rows:
            return "application", ""
        return "none", f"tables without transactions are read at different moments: {', '.join(rows[:5])}"

    def check_ordinary(self) -> None:
        """Raise `Refused` where the restoring role has rights on the whole server beyond making databases."""
        for grant in self._query("SHOW GRANTS", restoring=True):
            rights, _, rest = grant.partition(" ON *.* ")
            named = {right.strip() for right in rights.removeprefix("GRANT ").split(",")}
            if rest and named & {"ALL PRIVILEGES", "SUPER", "FILE", "CREATE USER", "SET USER", "PROCESS", "RELOAD"}:
                raise Refused(
                    f"{self._member.restore_user or self._member.user} has rights on the whole server: a dump is code",
                    hint="declare an ordinary restore_user, or privileged_restore",
                )

    def check_tools(self) -> None:
        """Raise `Refused` where a tool is missing."""
        for name in ("mariadb", "mariadb-dump"):
            find_tool(name, _PACKAGE)

    def dump(self, database: str) -> Iterator[bytes]:
        """The dump: one transaction, with routines, triggers and events."""
        arguments = (
            "--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob", "--no-tablespaces",
            "--skip-dump-date", "--default-character-set=utf8mb4", "--", database,
        )  # fmt: skip
        with self._program("mariadb-dump", arguments, restoring=False) as program:
            yield from stream(program, silence=self._member.silence)

    def create(self, database: str, tag: str) -> None:
        """Make an empty database that bears the tag as its comment."""
        self._query(f"CREATE DATABASE `{database}` COMMENT '{tag}'", restoring=True)

    def find(self, database: str, tag: str) -> bool:
        """Whether an earlier attempt made it."""
        statement = f"SELECT schema_comment FROM information_schema.schemata WHERE schema_name = '{database}'"  # noqa: S608
        return self._query(statement, restoring=True) == [tag]

    def fill(self, database: str, tag: str, dump: Iterable[bytes]) -> None:
        """Run the dump. It drops each table before it makes it, so that a repetition is harmless."""
        del tag
        arguments = (
            "--batch",
            "--binary-mode",
            "--sandbox",
            "--default-character-set=utf8mb4",
            f"--database={database}",
        )
        with self._program("mariadb", arguments, restoring=True) as program:
            feed(program, dump, silence=self._member.restore_silence)

    def finish(self, database: str, tag: str) -> None:
        """Nothing: it has its name from the start, because MariaDB cannot rename a database."""

    def drop(self, database: str, tag: str) -> None:
        """Remove what a restore made."""
        if self.find(database, tag):
            self._query(f"DROP DATABASE `{database}`", restoring=True)

    def _query(self, statement: str, restoring: bool) -> list[str]:
        """Rows of one column. Names in statements were checked against a pattern that needs no quoting."""
        arguments = ("--batch", "--skip-column-names", f"--execute={statement}")
        with self._program("mariadb", arguments, restoring=restoring) as program:
            return run(program, deadline=_QUERY_SECONDS).decode("utf-8", "replace").splitlines()

    @contextlib.contextmanager
    def _program(self, name: str, arguments: tuple[str, ...], *, restoring: bool) -> Iterator[Program]:
        """A MariaDB tool; where, who and the password stand in an option file of ours."""
        member = self._member
        other = restoring and bool(member.restore_user)
        options = {
            "user": member.restore_user if other else member.user,
            "password": member.restore_password if other else member.password,
            "socket" if member.host.startswith("/") else "host": member.host,
            "port": str(member.port or ""),
            "connect-timeout": "10" if name == "mariadb" else "",
        }
        lines = [f'{key}="{_escaped(value)}"' for key, value in options.items() if value]
        path = find_tool(name, _PACKAGE)
        with secret_file("\n".join(["[client]", *lines, ""])) as (file, fd):
            arguments = (path, f"--defaults-file={file}", *arguments)
            yield Program(arguments=arguments, descriptors=(fd,), passing=_PASSING)


def _escaped(value: str) -> str:
    """What may stand between double quotes in an option file."""
    return "".join(_ESCAPES.get(character, character) for character in value)


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
