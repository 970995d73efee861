"""Column types that mean the same on SQLite, PostgreSQL and MariaDB, and the database's own clock in SQL.

Instants are whole microseconds since 1970 in UTC, so that no driver's, session's or server's time zone matters.
Words compare byte by byte everywhere, so that order, equality and paging do not depend on a server's locale.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import VARCHAR, BigInteger, LargeBinary, Row, String, Text, TypeDecorator
from sqlalchemy.dialects.mysql import LONGBLOB, MEDIUMTEXT
from sqlalchemy.dialects.mysql import VARCHAR as MARIADB_VARCHAR
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine

AnyRow = Row[*tuple[Any, ...]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
NOW_ON_SQLITE = "karbor_now"
"""The function that `Database` gives to every SQLite connection; it returns the host clock's microseconds."""


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware moment."""
    return (moment - _EPOCH) // _MICROSECOND


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime kept as a BIGINT of microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def words(length: int) -> TypeEngine[str]:
    """Up to `length` characters, compared and ordered by their bytes."""
    maria = MARIADB_VARCHAR(length, charset="utf8mb4", collation="utf8mb4_nopad_bin")
    return (
        String(length)
        .with_variant(VARCHAR(length, collation="C"), "postgresql")
        .with_variant(maria, "mysql", "mariadb")
    )


def prose() -> TypeEngine[str]:
    """Text that is neither searched nor sorted."""
    return Text().with_variant(MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")


def octets() -> TypeEngine[bytes]:
    """Bytes of any length that the server takes."""
    return LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")


def checked(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """A condition that is checked on the rows which a key finds, and never used to find them.

    PostgreSQL, while it has no statistics of a growing queue, takes an index on a state to be as good as the key and
    then reads every step that is in it.
    """
    return condition.is_(True)


class db_now(FunctionElement[datetime]):  # noqa: N801 - reads like the SQL function that it is
    """The database server's time when it received the statement; on SQLite, the time of the injected clock."""

    type = Instant()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite_now(element: db_now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ARG001
    return f"{NOW_ON_SQLITE}()"


@compiles(db_now, "postgresql")
def _postgresql_now(element: db_now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ARG001
    # statement_timestamp() is STABLE: unlike clock_timestamp() it can bound an index scan.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT)"


@compiles(db_now, "mysql")
@compiles(db_now, "mariadb")
def _mariadb_now(element: db_now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ARG001
    return "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
