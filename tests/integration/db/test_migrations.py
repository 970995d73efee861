"""The migrations make the schema that the code describes, on each database."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from tests.databases import BACKENDS, HostClock

from karbor.db.engine import Database
from karbor.db.migrate import current, head, upgrade
from karbor.db.schema import metadata


@pytest.fixture(params=BACKENDS)
def empty_url(request, tmp_path):
    """A database without a table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server = request.getfixturevalue(f"{request.param}_server")
    engine = create_engine(server.admin_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS empty_one"))
        connection.execute(text("CREATE DATABASE empty_one"))
    yield server.url.replace("/karbor?", "/empty_one?")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE empty_one"))
    engine.dispose()


@pytest.fixture
def open_empty(empty_url):
    opened = []

    def another():
        opened.append(Database(empty_url, clock=HostClock()))
        return opened[-1]

    yield another
    for database in opened:
        database.close()


def test_migrations_make_the_schema(open_empty):
    database = open_empty()
    assert current(database) == ""
    upgrade(database)
    assert current(database) == head()
    upgrade(database)

    def differences(tx):
        return compare_metadata(MigrationContext.configure(tx, opts={"compare_type": True}), metadata)

    assert database.read(differences) == []
    found = database.read(lambda tx: {name: inspect(tx).get_columns(name) for name in metadata.tables})
    for name, table in metadata.tables.items():
        assert [column["name"] for column in found[name]] == [column.name for column in table.c]
        assert [column["nullable"] for column in found[name]] == [bool(column.nullable) for column in table.c]


def test_processes_that_upgrade_at_once_agree(open_empty):
    failures = []

    def work():
        try:
            upgrade(open_empty())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert current(open_empty()) == head()
