"""Bringing a database to the schema of this version. Every change of the schema is a revision in `migrations`."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from karbor.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from karbor.db.engine import Database

_LOCK = 0x6B6172626F72
"""The number of the lock that keeps two processes from migrating at once: "karbor" in ASCII."""


def upgrade(database: Database) -> None:
    """Bring the database to the newest revision; does nothing where it is there already. Several processes may call
    it at once: one works, the others wait.
    """
    if current(database) == head():
        return
    with _script() as config, _alone(database):

        def work(tx: Connection) -> None:
            if tx.dialect.name == "postgresql":
                tx.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            config.attributes["connection"] = tx
            command.upgrade(config, "head")

        database.transact(work)


def current(database: Database) -> str:
    """The revision of the database; empty where it has none."""
    return database.read(lambda tx: MigrationContext.configure(tx).get_current_revision() or "")


def head() -> str:
    """The newest revision that this version knows."""
    with _script() as config:
        return ScriptDirectory.from_config(config).get_current_head() or ""


@contextmanager
def _script() -> Iterator[Config]:
    with as_file(files("karbor.db") / "migrations") as place:
        config = Config()
        config.set_main_option("script_location", str(place).replace("%", "%%"))
        yield config


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """On MariaDB, keep other processes from migrating this database until the last revision is committed.

    Its DDL commits, so no lock of the transaction would do; SQLite and PostgreSQL lock by their transactions.
    """
    if database.url.get_backend_name() not in {"mysql", "mariadb"}:
        yield
        return
    with database.engine.connect() as guard:
        if guard.execute(text("SELECT GET_LOCK(CONCAT('karbor-', DATABASE()), 600)")).scalar_one() != 1:
            raise Unavailable(f"another process has been migrating {database.url.database} for 600 s")
        try:
            yield
        finally:
            guard.execute(text("SELECT RELEASE_LOCK(CONCAT('karbor-', DATABASE()))"))
