"""Bringing a database to the schema of this version. Every change of the schema is a revision in `migrations`."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from karbor.db.engine import Database

from contextlib import contextmanager

_LOCK = 0x6B6172626F72
"""The number of the lock that keeps two processes from migrating at once: "karbor" in ASCII."""


def upgrade(database: Database) -> None:
    """Bring the database to the newest revision; does nothing where it is there already. Several processes may call
    it at once: one works, the others wait.
    """
    if current(database) == head():
        return
    with _script() as config:

        def work(tx: Connection) -> None:
            with _alone(tx):
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
def _alone(tx: Connection) -> Iterator[None]:
    """Keep other processes from migrating this database; SQLite's transaction does that by itself."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        yield
    elif tx.dialect.name in {"mysql", "mariadb"}:
        tx.execute(text("SELECT GET_LOCK(CONCAT('karbor-', DATABASE()), 60)"))
        try:
            yield
        finally:
            tx.execute(text("SELECT RELEASE_LOCK(CONCAT('karbor-', DATABASE()))"))
    else:
        yield
