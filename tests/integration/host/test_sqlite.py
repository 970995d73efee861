"""SQLite databases that are being written while they are protected, and restored where others may use them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time

import pytest

from karbor.errors import Refused, ResourceFailed

WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
database.execute("PRAGMA synchronous=OFF")
i = 0
while True:  # every transaction leaves as many debits as credits
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO debit VALUES (?, ?)", (i, "x" * 50))
    database.execute("INSERT INTO credit VALUES (?, ?)", (i, "x" * 50))
    database.execute("COMMIT")
    i += 1
    if i == 20:
        print("writing", flush=True)
"""


@pytest.fixture(params=["wal", "delete"])
def orders(request, host, tmp_path):
    path = tmp_path / "orders.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA journal_mode={request.param}")
        database.execute("CREATE TABLE debit (id INTEGER, what TEXT)")
        database.execute("CREATE TABLE credit (id INTEGER, what TEXT)")
        database.execute("CREATE TABLE bulk (what BLOB)")
        database.execute("INSERT INTO bulk VALUES (?)", (os.urandom(8 << 20),))
        database.commit()
    path.chmod(0o640)
    host.declare({"kind": "sqlite", "path": str(path)}, restore_roots=[str(tmp_path / "elsewhere")])
    return path


@contextlib.contextmanager
def being_written(path):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        try:
            yield
        finally:
            writer.kill()


def counts(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("debit", "credit")]


def remove(path):
    for end in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).unlink()


def test_one_moment_of_a_database_under_constant_writes(host, orders) -> None:
    with being_written(orders):
        kept = host.protect(str(orders))
        assert (kept.location, kept.consistency) == ("bank", "application")
    last = counts(orders)
    remove(orders)
    host.restore(str(orders))
    restored = counts(orders)
    assert restored[0] == restored[1]
    assert 20 <= restored[0] <= last[0]
    assert orders.stat().st_mode & 0o777 == 0o640


def test_the_writer_is_not_held_up_longer_than_the_copy_takes(host, orders) -> None:
    with being_written(orders):
        started = time.monotonic()
        host.protect(str(orders))
        assert time.monotonic() - started < 30  # the copy of 8 MiB does not begin anew with every write


def test_a_database_in_use_is_not_replaced(host, orders) -> None:
    host.protect(str(orders))
    with contextlib.closing(sqlite3.connect(orders)) as user:
        user.execute("SELECT * FROM debit").fetchall()
        user.execute("BEGIN IMMEDIATE")
        user.execute("INSERT INTO debit VALUES (1, 'x')")
        with pytest.raises(Refused, match="is in use"):
            host.restore(str(orders), overwrite=True)
        user.rollback()
    host.journals.clear()
    host.restore(str(orders), overwrite=True)
    assert counts(orders) == [0, 0]


def test_a_journal_of_another_database_is_never_played_into_the_new_one(host, orders) -> None:
    host.protect(str(orders))
    with being_written(orders):
        pass  # killed in the middle: a -wal or -journal stays
    orders.unlink()
    left = orders.with_name("orders.db-wal")
    left.write_bytes(left.read_bytes() if left.exists() else b"left")
    with pytest.raises(Refused, match=r"orders\.db-wal is left of another database"):
        host.restore(str(orders))
    host.journals.clear()
    assert host.preflight(str(orders), "restore")[0][0] == "refuse"
    host.restore(str(orders), overwrite=True)
    assert counts(orders) == [0, 0]


def test_to_another_path(host, orders, tmp_path) -> None:
    host.protect(str(orders))
    other = tmp_path / "elsewhere" / "copy.db"
    restored = host.restore(str(orders), restore_path=str(other))
    assert counts(other) == [0, 0]
    assert restored.registered.name == str(other)
    with pytest.raises(Refused, match="outside of where this may be restored"):
        host.restore(str(orders), restore_path="/etc/cron.d/x")


def test_a_damaged_database_is_no_checkpoint(host, orders) -> None:
    with orders.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 2048)
    with pytest.raises(ResourceFailed, match=r"damaged|malformed"):
        host.protect(str(orders))


def test_what_is_no_database_is_refused(host, orders) -> None:
    orders.write_bytes(b"not a database at all" * 100)
    assert host.preflight(str(orders), "protect")[0][0] == "refuse"
    with pytest.raises(ResourceFailed, match="not a database"):
        host.protect(str(orders))
    remove(orders)
    with pytest.raises(ResourceFailed, match="No such file"):
        host.protect(str(orders))
