"""Transactions under bad luck: deadlocks, lock timeouts, lost connections, busy files, servers that go and come."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from tests.databases import HostClock, on_servers, start_mariadb, start_postgresql

from karbor.db import engine as engine_module
from karbor.db.engine import Database
from karbor.db.faults import CommitUnknown
from karbor.db.journal import SqlJournal
from karbor.errors import InvalidInput, Unavailable
from karbor.flow.model import Done, NewRun, NewStep
from karbor.flow.sealing import Sealer

ADD = text("INSERT INTO workers (id, host, pid, started_at, heartbeat_at) VALUES (:id, 'h', 0, 0, 0)")
COUNT_UP = text("UPDATE workers SET pid = pid + 1 WHERE id = :id")
PIDS = text("SELECT id, pid FROM workers ORDER BY id")


def add_workers(database, *names):
    database.transact(lambda tx: [tx.execute(ADD, {"id": name}) for name in names])


def pids(database):
    return dict(database.read(lambda tx: [tuple(row) for row in tx.execute(PIDS)]))


@on_servers
def test_both_sides_of_a_deadlock_succeed(database, open_database):
    add_workers(database, "a", "b")
    met = threading.Barrier(2, timeout=20)
    tries = {"ab": 0, "ba": 0}

    def work(order):
        mine = open_database()

        def cross(tx):
            tries[order] += 1
            tx.execute(COUNT_UP, {"id": order[0]})
            if tries[order] == 1:
                met.wait()  # both hold their first row, and now each wants the other's
            tx.execute(COUNT_UP, {"id": order[1]})

        mine.transact(cross)

    threads = [threading.Thread(target=work, args=(order,)) for order in tries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pids(database) == {"a": 2, "b": 2}
    assert sorted(tries.values()) == [1, 2]


def break_connection(database, tx):
    """The server cuts this transaction's connection."""
    if database.url.get_backend_name() == "postgresql":
        number = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
        kill = text(f"SELECT pg_terminate_backend({number})")
    else:
        number = tx.execute(text("SELECT CONNECTION_ID()")).scalar_one()
        kill = text(f"KILL {number}")
    other = Database(database.url.render_as_string(hide_password=False), clock=HostClock())
    other.transact(lambda another: another.execute(kill))
    other.close()


@on_servers
def test_a_transaction_whose_connection_was_cut_is_repeated(database):
    add_workers(database, "a")
    cuts = []

    def work(tx):
        tx.execute(COUNT_UP, {"id": "a"})
        if not cuts:
            cuts.append(1)
            break_connection(database, tx)
        tx.execute(COUNT_UP, {"id": "a"})

    database.transact(work)
    assert pids(database) == {"a": 2}


@on_servers
def test_a_commit_that_was_cut_is_told_and_repeated_only_where_that_is_harmless(database):
    add_workers(database, "a")
    cuts = []

    def work(tx):
        tx.execute(COUNT_UP, {"id": "a"})
        if not cuts:
            cuts.append(1)
            break_connection(database, tx)

    with pytest.raises(CommitUnknown):
        database.transact(work)
    assert pids(database) == {"a": 0}
    cuts.clear()
    database.transact(work, idempotent=True)
    assert pids(database) == {"a": 1}


@on_servers
@pytest.mark.parametrize("stands", [False, True])
def test_steps_of_a_claim_nobody_was_told_of_are_not_lost(database, monkeypatch, stands):
    journal = SqlJournal(database, Sealer(b"k" * 32))
    known = {"operation": "protect", "project_id": "p", "provider_id": "v", "checkpoint_id": "c", "object_id": "c"}
    run = NewRun(id="run", input=b"", steps=(NewStep(action="x"),), **known)
    database.transact(lambda tx: journal.begin_run(tx, run))
    journal.enlist("w1", "host", 1)
    write_once = Database._write_once

    def cut(self, work):
        if stands:
            write_once(self, work)
        else:
            with self.engine.connect() as tx:
                work(tx)
        raise CommitUnknown("cut")

    monkeypatch.setattr(Database, "_write_once", cut)
    with pytest.raises(CommitUnknown):
        journal.claim("w1", 1)
    monkeypatch.undo()
    (step,) = journal.claim("w1", 1)
    assert step.attempt == (2 if stands else 1)
    journal.finish("w1", step, Done())
    assert journal.run("run").state == "succeeded"


@on_servers
def test_a_lock_that_is_held_too_long_is_waited_for_again(database_url, monkeypatch):
    monkeypatch.setattr(engine_module, "_LOCK_WAIT", 1)
    database = Database(database_url, clock=HostClock())
    add_workers(database, "a")
    held, tries = threading.Event(), []
    enough = threading.Event()

    def hold(tx):
        tx.execute(COUNT_UP, {"id": "a"})
        held.set()
        enough.wait(20)

    holder = threading.Thread(target=lambda: database.transact(hold))
    holder.start()
    held.wait(20)

    def want(tx):
        tries.append(1)
        if len(tries) == 2:
            enough.set()
        tx.execute(COUNT_UP, {"id": "a"})

    database.transact(want)
    holder.join()
    assert len(tries) >= 2
    assert pids(database) == {"a": 2}
    database.close()


@pytest.mark.parametrize("start", [start_postgresql, start_mariadb])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # PyMySQL leaves refused sockets to the garbage collector
def test_a_server_that_dies_and_comes_back(start, monkeypatch):
    monkeypatch.setattr(engine_module, "_LONGEST_WAIT", 0.05)
    server = start(durable=True)
    try:
        _die_and_come_back(server)
    finally:
        server.stop()
        gc.collect()


def _die_and_come_back(server):
    database = Database(server.url, clock=HostClock())
    database.transact(lambda tx: tx.execute(text("CREATE TABLE kept (n INT)")))
    database.transact(lambda tx: tx.execute(text("INSERT INTO kept VALUES (1)")))
    server.kill()
    with pytest.raises(Unavailable) as caught:
        database.transact(lambda tx: tx.execute(text("INSERT INTO kept VALUES (2)")))
    assert caught.value.hint
    assert caught.value.retryable
    with pytest.raises(Unavailable):
        database.read(lambda tx: tx.execute(text("SELECT 1")))
    server.start()
    database.transact(lambda tx: tx.execute(text("INSERT INTO kept VALUES (3)")))
    assert database.read(lambda tx: list(tx.execute(text("SELECT n FROM kept ORDER BY n")).scalars())) == [1, 3]
    database.close()


def test_an_error_of_the_work_is_not_repeated(database):
    add_workers(database, "a")
    tries = []

    def work(tx):
        tries.append(1)
        tx.execute(ADD, {"id": "a"})

    with pytest.raises(IntegrityError):
        database.transact(work)
    assert tries == [1]


def test_an_error_does_not_tell_what_was_written(database):
    add_workers(database, "a")
    wrong = text("INSERT INTO workers (id, host, nothing) VALUES ('b', :secret, 1)")
    with pytest.raises(DBAPIError) as caught:
        database.transact(lambda tx: tx.execute(wrong, {"secret": "s3cr3t"}))
    assert "s3cr3t" not in str(caught.value)


def test_a_transaction_within_a_transaction_is_a_mistake(database):
    with pytest.raises(RuntimeError, match="hand the open one on"):
        database.transact(lambda _: database.transact(lambda _: None))
    database.transact(lambda tx: tx.execute(text("SELECT 1")))


def test_reading_goes_on_beside_an_open_transaction(database):
    add_workers(database, "a")

    def work(tx):
        tx.execute(COUNT_UP, {"id": "a"})
        return pids(database)

    assert database.transact(work) == {"a": 0}
    assert pids(database) == {"a": 1}


COUNTING_PROCESS = """
import datetime, sys, time
from sqlalchemy import text
from karbor.db.engine import Database

class Clock:
    now = staticmethod(lambda: datetime.datetime.now(datetime.UTC))
    monotonic, sleep = staticmethod(time.monotonic), staticmethod(time.sleep)

database = Database(sys.argv[1], clock=Clock())
for _ in range(20):
    database.transact(lambda tx: tx.execute(text("UPDATE workers SET pid = pid + 1 WHERE id = 'a'")))
"""


def test_processes_and_threads_write_side_by_side(database, database_url):
    add_workers(database, "a")
    children = [subprocess.Popen([sys.executable, "-c", COUNTING_PROCESS, database_url]) for _ in range(2)]

    def count():
        for _ in range(20):
            database.transact(lambda tx: tx.execute(COUNT_UP, {"id": "a"}))

    thread = threading.Thread(target=count)
    thread.start()
    count()
    thread.join()
    assert [child.wait(240) for child in children] == [0, 0]
    assert pids(database) == {"a": 80}


def test_sqlite_busy_for_long_is_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "_LOCK_WAIT", 0.01)
    path = tmp_path / "busy.db"
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("CREATE TABLE t (n INT)")
    foreign.execute("BEGIN IMMEDIATE")
    waits = []

    class Releases(HostClock):
        def sleep(self, seconds):
            waits.append(seconds)
            foreign.execute("ROLLBACK")

    database = Database(f"sqlite:///{path}", clock=Releases())
    database.transact(lambda tx: tx.execute(text("INSERT INTO t VALUES (1)")))
    assert len(waits) == 1
    foreign.close()
    database.close()


def test_nothing_is_opened_before_the_first_transaction(tmp_path):
    path = tmp_path / "later.db"
    database = Database(f"sqlite:///{path}", clock=HostClock())
    Database("postgresql://nobody@nowhere.invalid/karbor", clock=HostClock()).close()
    assert not path.exists()
    child = os.fork()
    if child == 0:
        database.transact(lambda tx: tx.execute(text("CREATE TABLE t (n INT)")))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert path.exists()
    database.read(lambda tx: tx.execute(text("SELECT n FROM t")))
    database.close()


def test_sqlite_is_durable(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/karbor.db", clock=HostClock())
    modes = database.read(
        lambda tx: [tx.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous")]
    )
    assert modes == ["wal", 2]
    database.close()


@pytest.mark.parametrize("url", ["", "nonsense", "oracle://u:s3cr3t@h/d", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url):
    with pytest.raises(InvalidInput) as caught:
        Database(url, clock=HostClock())
    assert "s3cr3t" not in f"{caught.value}{caught.value.hint}"
    assert caught.value.__cause__ is None
