"""One database: its connections, its transactions and their repetition, its clock."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from karbor.db.columns import NOW_ON_SQLITE, db_now, micros
from karbor.db.faults import CommitUnknown, Repeat, passes, unavailable
from karbor.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sqlalchemy import Engine
    from sqlalchemy.engine import URL, Connection

    from karbor.domain.clock import Clock

T = TypeVar("T")

_READ = "karbor_read"
_REPETITIONS = 10
_FIRST_WAIT, _LONGEST_WAIT = 0.01, 1.0
_LOCK_WAIT = 10
"""Seconds for which a statement waits for a lock (a row's; on SQLite, the file's) before all is repeated."""
_QUEUE_WAIT = 60.0
"""Seconds for which a writer waits for this process's other writers on SQLite."""


class Database:
    """SQLite, PostgreSQL or MariaDB behind one URL. Nothing is opened before the first transaction, so a server may
    fork after construction.

    `url` is SQLAlchemy's: ``sqlite:////var/lib/karbor/karbor.db``, ``postgresql+psycopg://…``, ``mariadb+pymysql://…``.
    On SQLite the writers of a process queue for one lock, because SQLite has one writer and no queue.
    """

    def __init__(self, url: str, *, clock: Clock, jitter: Callable[[], float] = random.random, pool: int = 10) -> None:
        self.url = _parsed(url)
        self.embedded = self.url.get_backend_name() == "sqlite"
        self._clock = clock
        self._jitter = jitter
        self._writer = threading.Lock()
        self._here = threading.local()
        self.engine = self._engine(pool)
        self._reading = self.engine.execution_options(**{_READ: True})

    def transact(self, work: Callable[[Connection], T], *, idempotent: bool = False) -> T:
        """Run `work(tx)` in one transaction and return what it returns.

        The whole is repeated, with growing waits, after a deadlock, a lock timeout, a failed certification or
        serialization, a busy SQLite or a lost connection, so `work` must bear repetition. A connection lost while
        committing raises `CommitUnknown`, unless the work is `idempotent`: repeating it after it took place is harmless.
        Raises `Unavailable` when the repetitions are used up.
        """
        if getattr(self._here, "busy", False):
            raise RuntimeError("a transaction within a transaction: hand the open one on instead")
        self._here.busy = True
        try:
            return self._repeated(lambda: self._write_once(work), idempotent=idempotent)
        finally:
            self._here.busy = False

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work(tx)`, which only reads; it never waits for writers."""

        def once() -> T:
            with self._reading.connect() as tx:
                return work(tx)

        return self._repeated(once, idempotent=True)

    def db_now(self, tx: Connection) -> datetime:
        """The database server's time; on SQLite, that of the injected clock."""
        return tx.execute(select(db_now())).scalar_one()

    def close(self) -> None:
        """Close every idle connection; the next transaction opens new ones."""
        self.engine.dispose()

    def _write_once(self, work: Callable[[Connection], T]) -> T:
        with self._turn(), self.engine.connect() as tx:
            transaction = tx.begin()
            result = work(tx)
            try:
                transaction.commit()
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise CommitUnknown(
                        "the database was lost while committing: the write may have happened"
                    ) from error
                raise
            return result

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """This process's turn to write, where the database has no queue of its own."""
        if not self.embedded:
            yield
            return
        if not self._writer.acquire(timeout=_QUEUE_WAIT):
            raise Unavailable(f"the database {self.url.database} has been busy for {_QUEUE_WAIT:.0f} s")
        try:
            yield
        finally:
            self._writer.release()

    def _repeated(self, once: Callable[[], T], *, idempotent: bool) -> T:
        for repetition in range(_REPETITIONS):
            try:
                return once()
            except CommitUnknown:
                if not idempotent or repetition == _REPETITIONS - 1:
                    raise
            except DBAPIError as error:
                if not passes(error):
                    raise
                if repetition == _REPETITIONS - 1:
                    raise unavailable(error, self.url) from error
            except Repeat as error:
                if repetition == _REPETITIONS - 1:
                    raise Unavailable("the database's rows changed under every repetition of a transaction") from error
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**repetition)
            self._clock.sleep(wait * (0.5 + self._jitter() / 2))
        raise AssertionError("unreachable")

    def _engine(self, pool: int) -> Engine:
        # hide_parameters: an error must not carry what was written.
        options: dict[str, Any] = {"hide_parameters": True, "pool_size": pool, "max_overflow": pool}
        if self.embedded:
            engine = create_engine(self.url, **options, connect_args={"timeout": _LOCK_WAIT, "isolation_level": None})
            event.listen(engine, "connect", self._prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        if self.url.get_backend_name() == "postgresql":
            arguments: dict[str, Any] = {"connect_timeout": 10, "options": f"-c lock_timeout={_LOCK_WAIT}s"}
        else:
            arguments = {
                "connect_timeout": 10,
                "charset": "utf8mb4",
                "init_command": f"SET SESSION innodb_lock_wait_timeout={_LOCK_WAIT}",
            }
        return create_engine(self.url, **options, isolation_level="READ COMMITTED", connect_args=arguments)

    def _prepare_sqlite(self, connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA case_sensitive_like = ON")
        connection.create_function(NOW_ON_SQLITE, 0, lambda: micros(self._clock.now()))


def _parsed(url: str) -> URL:
    """The URL, with the drivers that we use; what cannot be used is `InvalidInput`, which never shows a password."""
    drivers = {
        "sqlite": "sqlite",
        "postgresql": "postgresql+psycopg",
        "mysql": "mariadb+pymysql",
        "mariadb": "mariadb+pymysql",
    }
    hint = "for example sqlite:////var/lib/karbor/karbor.db, postgresql://user@host/karbor, mariadb://user@host/karbor"
    try:
        parsed = make_url(url)
        parsed = parsed.set(drivername=drivers[parsed.get_backend_name()])
        if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
            raise InvalidInput("SQLite needs a file: every connection would have a memory of its own", hint=hint)
    except (ArgumentError, NoSuchModuleError, KeyError):
        raise InvalidInput("the database URL is none of sqlite, postgresql, mariadb", hint=hint) from None
    return parsed


def _begin_sqlite(tx: Connection) -> None:
    # IMMEDIATE takes the write lock at once: an upgrade in mid-transaction could not be waited for.
    tx.exec_driver_sql("BEGIN" if tx.get_execution_options().get(_READ) else "BEGIN IMMEDIATE")
