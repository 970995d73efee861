"""Which database errors pass when the whole transaction is repeated, and how they are told to people.

Sources: PostgreSQL 15 appendix A (error codes), MariaDB Server error codes, Galera's certification failure
(reported as a deadlock), SQLite result codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from karbor.errors import Unavailable

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_SQLITE = frozenset({5, 6})
"""SQLITE_BUSY, SQLITE_LOCKED."""

_SQLSTATES = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "25006", "53300"})
"""Serialization, deadlock, lock timeout; shutdown, crash, starting up; read-only after a fail-over; full."""

_MARIADB = frozenset({1213, 1205, 1020, 1040, 1047, 1053, 1290, 1927, 2002, 2003, 2006, 2013, 2055})
"""Deadlock or certification failure, lock timeout, record changed; too many connections, node not ready, shutting
down, read-only after a fail-over; connection killed, refused, gone, lost."""


class CommitUnknown(Unavailable):
    """The connection was lost while committing: whether the transaction took place is not known."""


class Repeat(Exception):
    """Raised by the work of a transaction that met a change made by another: repeat the whole."""


def passes(error: DBAPIError) -> bool:
    """Whether repeating the whole transaction can help."""
    if error.connection_invalidated:
        return True
    cause: Any = error.orig
    sqlite: int | None = getattr(cause, "sqlite_errorcode", None)
    if sqlite is not None:
        return sqlite & 0xFF in _SQLITE
    number = cause.args[0] if cause is not None and cause.args else None
    if isinstance(number, int):
        # PyMySQL reports a connection closed under it as InterfaceError(0, "").
        return number in _MARIADB or (number == 0 and isinstance(error, InterfaceError))
    state: str | None = getattr(cause, "sqlstate", None)
    # psycopg's errors without a state come from the connection: refused, closed, cut.
    return isinstance(error, OperationalError | InterfaceError) if state is None else state in _SQLSTATES


def unavailable(error: DBAPIError, url: URL) -> Unavailable:
    """The error for people: which database, what it said; never the password, never the data."""
    where = (
        url.database if url.get_backend_name() == "sqlite" else f"{url.database} on {url.host or 'its local socket'}"
    )
    said = str(error.orig).strip().splitlines()
    return Unavailable(
        f"the {url.get_backend_name()} database {where} failed: {said[0] if said else type(error.orig).__name__}",
        hint="is the database server running, reachable and not out of space?",
    )
