"""Private database servers for tests: real PostgreSQL and MariaDB, started once per session in a temporary folder.

They listen on a Unix socket in that folder only, run as their own unprivileged users when the tests run as root, and
die with the test process (PR_SET_PDEATHSIG), however that ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from karbor.db.engine import Database
from karbor.db.migrate import upgrade
from karbor.db.schema import metadata, steps, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKENDS = ("sqlite", "postgresql", "mariadb")
on_servers = pytest.mark.parametrize("database_url", BACKENDS[1:], indirect=True)
"""For what SQLite cannot show: it has one writer at a time, and no clock but its host's."""


class HostClock:
    """This host's clock, wrong by `skew`."""

    def __init__(self, skew: timedelta = timedelta(0)) -> None:
        self.skew = skew

    def now(self) -> datetime:
        return datetime.now(UTC) + self.skew

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class Server:
    """A database server of this session; it can be killed and brought back."""

    kind: str
    folder: Path
    command: list[str]
    admin_url: str
    url: str
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=log, stderr=log)
        engine = create_engine(self.admin_url)
        deadline = time.monotonic() + 60
        while True:
            try:
                self._knock()
                engine.connect().close()
                break
            except (OSError, DBAPIError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = (self.folder / "log").read_text(errors="replace")[-2000:]
                    pytest.fail(f"{self.kind} did not start: {error}\n{said}")
                time.sleep(0.05)
        engine.dispose()

    def _knock(self) -> None:
        """PyMySQL leaks the socket of a refused connection, so it is not let near one."""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(self.folder / ("socket" if self.kind == "mariadb" else ".s.PGSQL.5432")))

    def kill(self) -> None:
        """As a power cut does to the process."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop and remove everything."""
        assert self.process
        self.process.send_signal(signal.SIGINT if self.kind == "postgresql" else signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_postgresql(*, durable: bool = False) -> Server:
    """A PostgreSQL with one empty database, `karbor`. Not `durable`: it does not wait for the disk."""
    program = _program("postgres", "postgresql", *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    folder, drop = _folder("postgres")
    data = folder / "data"
    _run(
        [
            *drop,
            str(Path(program).resolve().parent / "initdb"),
            "-D",
            str(data),
            "-U",
            "karbor",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        ]
    )
    options = [f"unix_socket_directories={folder}", "listen_addresses=", "max_connections=200"]
    if not durable:
        options += ["fsync=off", "full_page_writes=off"]
    command = [*drop, program, "-D", str(data), *(word for option in options for word in ("-c", option))]
    at = f"postgresql+psycopg://karbor@/{{}}?host={folder}"
    server = Server("postgresql", folder, command, at.format("postgres"), at.format("karbor"))
    server.start()
    _administer(server, "CREATE DATABASE karbor")
    return server


def start_mariadb(*, durable: bool = False) -> Server:
    """A MariaDB with one empty database, `karbor`. Not `durable`: it does not wait for the disk."""
    program = _program("mariadbd", "mariadb-server", Path("/usr/sbin"))
    folder, drop = _folder("mysql")
    # A starting MariaDB removes the temporary tables that it finds, whosever they are.
    _run([*drop, "mkdir", str(folder / "tmp")])
    data, address = folder / "data", folder / "socket"
    _run(
        [
            *drop,
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            f"--tmpdir={folder}/tmp",
            "--auth-root-authentication-method=normal",
        ]
    )
    options = [f"--datadir={data}", f"--socket={address}", "--skip-networking", "--skip-name-resolve"]
    options += [
        f"--tmpdir={folder}/tmp",
        f"--pid-file={folder}/pid",
        "--max-connections=200",
        "--innodb-buffer-pool-size=64M",
    ]
    if not durable:
        options += ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"]
    at = f"mariadb+pymysql://root@localhost/{{}}?unix_socket={address}"
    server = Server(
        "mariadb", folder, [*drop, program, "--no-defaults", *options], at.format("mysql"), at.format("karbor")
    )
    server.start()
    _administer(server, "CREATE DATABASE karbor CHARACTER SET utf8mb4")
    return server


def _program(name: str, package: str, *places: Path) -> str:
    found = next((str(place / name) for place in places if (place / name).exists()), shutil.which(name))
    if found is None:
        pytest.fail(f"{name} is needed for these tests: apt install {package}")
    return found


def _folder(user: str) -> tuple[Path, list[str]]:
    """A short folder (a socket's path has 107 bytes at most) and the words that drop root for its owner."""
    folder = Path(tempfile.mkdtemp(prefix="kdb-", dir="/tmp"))
    words = ["setpriv", "--pdeathsig=KILL"]
    if os.geteuid() == 0:
        owner = pwd.getpwnam(user)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        words += [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    return folder, words


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd="/tmp", capture_output=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed: {(done.stderr or done.stdout).decode(errors='replace')[-2000:]}")


def _administer(server: Server, statement: str) -> None:
    engine = create_engine(server.admin_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    server = start_postgresql()
    upgraded(server.url).close()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    server = start_mariadb()
    upgraded(server.url).close()
    yield server
    server.stop()


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database with its tables, on each of the three."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/karbor.db"
        upgraded(url).close()
        return url
    server: Server = request.getfixturevalue(f"{request.param}_server")
    engine = create_engine(server.url)
    with engine.begin() as tx:
        for table in metadata.sorted_tables:
            tx.execute(table.delete())
    engine.dispose()
    return server.url


@pytest.fixture
def open_database(database_url: str) -> Iterator[Callable[..., Database]]:
    """Opens the database, each time with connections of its own, as another process would."""
    opened: list[Database] = []

    def open_another(skew: timedelta = timedelta(0)) -> Database:
        opened.append(Database(database_url, clock=HostClock(skew)))
        return opened[-1]

    yield open_another
    for database in opened:
        database.close()


@pytest.fixture
def database(open_database: Callable[..., Database]) -> Database:
    return open_database()


def upgraded(url: str) -> Database:
    database = Database(url, clock=HostClock())
    upgrade(database)
    return database


def let_pass(database: Database, seconds: float) -> None:
    """Make everything that the journal waits for `seconds` older: the same on all databases, and at once."""
    by = round(seconds * 1_000_000)

    def work(tx):
        tx.execute(text(f"UPDATE {workers.name} SET heartbeat_at = heartbeat_at - {by}"))
        tx.execute(text(f"UPDATE {steps.name} SET due_at = due_at - {by} WHERE due_at IS NOT NULL"))

    database.transact(work)
