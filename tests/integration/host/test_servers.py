"""Databases of real PostgreSQL and MariaDB servers: passwords are asked for, dumps are code, restores are new."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from tests.databases import Server, start_mariadb, start_postgresql

from karbor.errors import Refused, ResourceFailed, Unavailable

SECRET = "pa:ss\\wo'r\"d #1"
RESTORER = "re;st\\ore: \"r'"

POSTGRESQL = r"""
CREATE ROLE backup LOGIN PASSWORD '{secret}';
GRANT pg_read_all_data TO backup;
CREATE ROLE restorer LOGIN CREATEDB PASSWORD '{restorer}';
CREATE DATABASE customers;
\c customers
CREATE TABLE customer (id SERIAL PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE audit (name TEXT);
CREATE VIEW names AS SELECT name FROM customer;
INSERT INTO customer (name) SELECT 'name ' || n FROM generate_series(1, 1000) n;
"""

MARIADB = r"""
CREATE USER backup@localhost IDENTIFIED BY '{secret}';
GRANT SELECT, LOCK TABLES, SHOW VIEW, TRIGGER, EVENT ON customers.* TO backup@localhost;
GRANT SELECT ON mysql.proc TO backup@localhost;
CREATE USER restorer@localhost IDENTIFIED BY '{restorer}';
GRANT ALL PRIVILEGES ON `restored%`.* TO restorer@localhost;
GRANT ALL PRIVILEGES ON `customers\_%`.* TO restorer@localhost;
GRANT ALL PRIVILEGES ON customers.* TO restorer@localhost;
CREATE DATABASE customers CHARACTER SET utf8mb4;
USE customers;
CREATE TABLE customer (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) UNIQUE, raw BLOB);
CREATE TABLE audit (name TEXT);
INSERT INTO customer (name, raw) SELECT CONCAT('näme ', seq), UNHEX('00FF0A27') FROM seq_1_to_1000;
"""


class Engine:
    """A server, its superuser's own client, and the member of a declaration for it."""

    def __init__(self, server: Server) -> None:
        self.server, self.kind = server, server.kind
        self.socket = str(server.folder if self.kind == "postgresql" else server.folder / "socket")

    def sql(self, statements: str, database: str = "", user: str = "") -> str:
        if self.kind == "postgresql":
            command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.socket, "-U", user or "karbor"]
            command += ["-d", database or "postgres"]
        else:
            command = [
                "mariadb",
                "--no-defaults",
                "-BN",
                "-S",
                self.socket,
                "-u",
                user or "root",
                *([database] * bool(database)),
            ]
        done = subprocess.run(command, input=statements, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def member(self, **more) -> dict:
        known = {"user": "backup", "password": SECRET, "restore_user": "restorer", "restore_password": RESTORER}
        base = {"kind": "database server", "engine": self.kind, "database": "customers", "host": self.socket}
        return {**base, **known, **more}

    @property
    def name(self) -> str:
        return f"{self.kind}:customers"

    def databases(self) -> set[str]:
        every = "SELECT datname FROM pg_database" if self.kind == "postgresql" else "SHOW DATABASES"
        return {name for name in self.sql(every).split() if re.match("customers|restored|karbor-", name)}

    def names(self, database: str) -> int:
        return int(self.sql("SELECT count(*) FROM customer;", database))


@pytest.fixture(scope="session")
def postgresql():
    server = start_postgresql()
    engine = Engine(server)
    engine.sql(POSTGRESQL.format(secret=SECRET.replace("'", "''"), restorer=RESTORER.replace("'", "''")))
    (server.folder / "data" / "pg_hba.conf").write_text("local all karbor trust\nlocal all all scram-sha-256\n")
    server.process.send_signal(signal.SIGHUP)
    yield engine
    server.stop()


@pytest.fixture(scope="session")
def mariadb():
    server = start_mariadb()
    engine = Engine(server)

    def quoted(text):
        return text.replace("\\", "\\\\").replace("'", "\\'")

    engine.sql(MARIADB.format(secret=quoted(SECRET), restorer=quoted(RESTORER)))
    yield engine
    server.stop()


@pytest.fixture(params=["postgresql", "mariadb"])
def engine(request, host):
    engine = request.getfixturevalue(request.param)
    host.declare(engine.member())
    yield engine
    for name in engine.databases() - {"customers"}:
        quote = '"' if engine.kind == "postgresql" else "`"
        engine.sql(f"DROP DATABASE {quote}{name}{quote};")
    engine.sql("DELETE FROM customer WHERE name LIKE 'later%';", "customers")


def test_a_dump_comes_back_as_a_new_database_of_an_ordinary_role(host, engine) -> None:
    [(action, what, reason)] = host.preflight(engine.name, "protect")
    assert (action, what, reason) == ("read", engine.name, "as it is at one moment")
    kept = host.protect(engine.name)
    assert (kept.location, kept.consistency, kept.saved["kind"]) == ("bank", "application", engine.kind)
    engine.sql("INSERT INTO customer (name) VALUES ('later');", "customers")
    assert host.preflight(engine.name, "restore", restore_name="restored_1") == [("create", "restored_1", "")]
    restored = host.restore(engine.name, restore_name="restored_1")
    assert restored.registered.name == "restored_1"
    assert engine.databases() == {"customers", "restored_1"}
    assert (engine.names("restored_1"), engine.names("customers")) == (1000, 1001)
    if engine.kind == "postgresql":
        assert (
            engine.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname='public'", "restored_1")
            == "restorer"
        )


def test_without_a_name_one_is_made(host, engine) -> None:
    host.protect(engine.name)
    made = host.restore(engine.name).registered.name
    assert made.startswith("customers_")
    assert engine.databases() == {"customers", made}
    assert engine.names(made) == 1000


def test_what_exists_is_left_alone_unless_declaration_and_caller_agree(host, engine) -> None:
    host.protect(engine.name)
    engine.sql("INSERT INTO customer (name) VALUES ('later');", "customers")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(Refused, match="database customers exists"):
            host.restore(engine.name, restore_name="customers", **options)
        host.journals.clear()
        [(action, _, _)] = host.preflight(engine.name, "restore", restore_name="customers", **options)
        assert action == "refuse"
    own = {"restore_in_place": True}
    if engine.kind == "postgresql":  # its ordinary roles own their tables
        own |= {"restore_user": "karbor", "privileged_restore": True}
    host.declare(engine.member(**own))
    with pytest.raises(Refused, match="exists"):
        host.restore(engine.name, restore_name="customers")
    host.journals.clear()
    host.restore(engine.name, restore_name="customers", overwrite=True)
    assert engine.names("customers") == 1000


def test_a_dump_is_not_run_by_a_role_with_more_rights(host, engine) -> None:
    host.protect(engine.name)
    superuser = "karbor" if engine.kind == "postgresql" else "root"
    host.declare(engine.member(restore_user=superuser, restore_password=""))
    with pytest.raises(Refused, match="a dump is code"):
        host.restore(engine.name, restore_name="restored_2")
    [(action, _, reason)] = host.preflight(engine.name, "restore", restore_name="restored_2")
    assert action == "refuse"
    assert "privileged_restore" in reason
    host.journals.clear()
    host.declare(engine.member(restore_user=superuser, restore_password="", privileged_restore=True))
    host.restore(engine.name, restore_name="restored_2")
    assert engine.names("restored_2") == 1000


def test_a_crash_anywhere_leaves_one_database(host, engine) -> None:
    host.protect(engine.name)
    for place in range(9):
        host.run(engine.name, "restore", crash_at=place, restore_name="restored_3")
        assert engine.databases() == {"customers", "restored_3"}
        assert engine.names("restored_3") == 1000
        engine.sql("DROP DATABASE restored_3;")


def test_a_failed_restore_leaves_nothing(host, engine, monkeypatch) -> None:
    host.protect(engine.name)
    vault = host.vaults[engine.name]

    def cut():
        yield next(type(vault).__getattr__(vault, "read_stream")())[:2000]

    monkeypatch.setattr(vault, "read_stream", cut, raising=False)
    monkeypatch.setattr(type(vault), "read_stream", lambda self: cut(), raising=False)
    if engine.kind == "mariadb":
        # A cut text is a shorter text to its client, so it is the error after it that counts.
        monkeypatch.setattr(type(vault), "read_stream", lambda self: iter([b"CREATE TABLE t (x INT); BROKEN;"]))
    with pytest.raises(ResourceFailed, match=r"pg_restore failed|mariadb failed"):
        host.restore(engine.name, restore_name="restored_4")
    assert engine.databases() == {"customers"}


def test_undo_removes_the_new_database(host, engine) -> None:
    host.protect(engine.name)
    host.run(engine.name, "restore", restore_name="restored_5")
    from karbor.sdk.contract.op import Journal, perform

    plugin, stage = host.stage(engine.name, "restore", {"restore_name": "restored_6"})
    journal = Journal(host.saved[engine.name])
    perform(plugin.restore_main, stage, journal)
    assert "restored_6" in engine.databases()
    perform(plugin.restore_undo, stage, journal)
    assert engine.databases() == {"customers", "restored_5"}


def test_a_client_command_in_a_dump_is_not_obeyed(host, engine, tmp_path, monkeypatch) -> None:
    """Only a text dump has such commands; it would run as the service, not as the database server."""
    if engine.kind == "postgresql":
        pytest.skip("the custom format is no script for a client")
    host.protect(engine.name)
    evidence = tmp_path / "evidence"
    for attack in (
        f"system touch {evidence}\n",
        f"\\! touch {evidence}\n",
        f"tee {evidence}\n",
        f"source {evidence}\n",
    ):
        monkeypatch.setattr(
            type(host.vaults[engine.name]), "read_stream", lambda self, a=attack: iter([a.encode()]), raising=False
        )
        with pytest.raises(ResourceFailed):
            host.restore(engine.name, restore_name="restored_7")
        host.journals.clear()
        assert not evidence.exists()


def test_secrets_are_on_no_command_line_and_in_no_error(host, engine, monkeypatch) -> None:
    seen: list[bytes] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for place in Path("/proc").glob("[0-9]*"):
                try:
                    line = (place / "cmdline").read_bytes()
                    if b"karbor" in line or b"maria" in line or b"pg_" in line or b"psql" in line:
                        seen.extend([line, (place / "environ").read_bytes()])
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for i in range(3):
            host.protect(engine.name)
            host.restore(engine.name, restore_name=f"restored_8{i}")
    finally:
        over.set()
        watcher.join()
    assert any(b"dump" in line for line in seen)
    assert not any(secret.encode() in line for secret in (SECRET, RESTORER) for line in seen)
    host.declare(engine.member(password="wrong " + SECRET))
    with pytest.raises(ResourceFailed) as caught:
        host.protect(engine.name)
    assert SECRET not in caught.value.message


def test_tools_that_are_absent_are_named_with_their_package(host, engine, monkeypatch) -> None:
    monkeypatch.setattr("karbor.plugins.host.command._PATH", "/nowhere")
    [(action, _, reason)] = host.preflight(engine.name, "protect")
    assert action == "refuse"
    assert re.search(r"is not installed \(install (postgresql|mariadb)-client\)", reason)


def test_a_server_that_is_down_is_a_reason(host, engine) -> None:
    host.declare(engine.member(host="/nowhere" if engine.kind == "postgresql" else "/nowhere/socket"))
    [(action, _, reason)] = host.preflight(engine.name, "protect")
    assert action == "refuse"
    assert "/nowhere" in reason
    with pytest.raises(Unavailable) as caught:  # it is tried again
        host.protect(engine.name)
    assert caught.value.retryable


def test_a_database_that_does_not_exist_is_a_reason(host, engine) -> None:
    host.declare(engine.member(database="gone"))
    [(action, _, _)] = host.preflight(f"{engine.kind}:gone", "protect")
    assert action == "refuse"


def test_tables_without_transactions_are_told_of(host, mariadb) -> None:
    host.declare(mariadb.member())
    mariadb.sql("CREATE TABLE old (x INT) ENGINE=MyISAM;", "customers")
    try:
        kept = host.protect(mariadb.name)
    finally:
        mariadb.sql("DROP TABLE old;", "customers")
    assert kept.consistency == "none"
    assert kept.warnings == ["tables without transactions are read at different moments: old"]


def test_a_dump_under_constant_writes_is_of_one_moment(host, engine) -> None:
    over = threading.Event()
    statement = (
        "BEGIN; INSERT INTO customer (name) VALUES ('later {i}'); INSERT INTO audit VALUES ('later {i}'); COMMIT;"
    )

    def write() -> None:
        i = 0
        while not over.is_set():
            engine.sql("".join(statement.format(i=i + j) for j in range(50)), "customers")
            i += 50

    writer = threading.Thread(target=write)
    writer.start()
    try:
        host.protect(engine.name)
    finally:
        over.set()
        writer.join()
    host.restore(engine.name, restore_name="restored_9")
    audits = int(engine.sql("SELECT count(*) FROM audit;", "restored_9"))
    assert engine.names("restored_9") == 1000 + audits
    engine.sql("DELETE FROM audit;", "customers")
