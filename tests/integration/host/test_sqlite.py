"""SQLite databases that are being written while they are protected, and restored where others may use them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from karbor.errors import Refused, ResourceFailed
from karbor.plugins.host import sqlite_copy

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


def test_a_connection_that_does_nothing_counts_as_use(host, orders) -> None:
    host.protect(str(orders))
    with contextlib.closing(sqlite3.connect(orders)) as user:
        user.execute("SELECT count(*) FROM debit").fetchone()
        [(action, _, reason)] = host.preflight(str(orders), "restore", overwrite=True)
        assert action == "refuse"
        assert "is in use" in reason
        with pytest.raises(Refused, match="is in use"):
            host.restore(str(orders), overwrite=True)


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


def test_a_reader_of_the_same_file_in_this_process_does_no_harm(host, orders) -> None:
    """A directory that holds the database is protected at the same time: closing the file drops locks of a process."""
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            orders.read_bytes()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(5):
            with being_written(orders):
                host.protect(str(orders))
    finally:
        over.set()
        reader.join()
    remove(orders)
    host.restore(str(orders))
    debit, credit = counts(orders)
    assert debit == credit


def test_a_link_that_appears_meanwhile_leads_to_no_other_database(host, orders, tmp_path) -> None:
    secret = tmp_path / "secret.db"
    with contextlib.closing(sqlite3.connect(secret)) as database:
        database.execute("CREATE TABLE secret (x)")
        database.commit()
    over = threading.Event()

    def attack() -> None:
        link = orders.with_name("link")
        while not over.is_set():
            orders.rename(orders.with_name("aside"))
            orders.symlink_to(secret)
            orders.rename(link)
            orders.with_name("aside").rename(orders)

    attacker = threading.Thread(target=attack)
    attacker.start()
    stored = 0
    try:
        for _ in range(20):
            host.saved.pop(str(orders), None)
            with contextlib.suppress(Refused, ResourceFailed):
                host.protect(str(orders))
            host.journals.clear()
            if str(orders) in host.saved:
                stored += 1
                content = b"".join(host.vaults[str(orders)].read_stream())
                assert b"CREATE TABLE debit" in content
                assert b"CREATE TABLE secret" not in content
    finally:
        over.set()
        attacker.join()
    assert stored < 20, "the attack never met a protect: it proves nothing"


def test_the_copy_refuses_a_file_other_than_the_one_looked_at(host, orders, tmp_path) -> None:
    program = [sys.executable, "-I", "-S", sqlite_copy.__file__, str(orders), str(tmp_path / "copy"), "1", "2"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "was replaced while it was opened" in done.stderr
