"""`karbor standalone`: an API process and a worker process under one supervisor, for a host without a cloud.

Everything lives in one state directory: configuration, token, root key, database, and, unless the administrator
changes ``providers.d``, the bank. A child that dies is started again; when the supervisor dies its children do.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from karbor.app import application
from karbor.bank.rootkey import make_key_file
from karbor.daemons import run_worker, serve_api
from karbor.errors import Conflict, InvalidInput, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
_PROVIDER_ID = uuid.UUID("f2b0a1de-7c4b-4d4e-9a52-0f3f0c7a9d01")
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0

_PROVIDER = """\
[provider]
name = This host
id = {provider_id}
description = Files, disk images and databases of this host, in the bank at {bank}
bank = karbor-fs-bank-plugin
plugin = karbor-host-application-plugin
plugin = karbor-host-directory-plugin
plugin = karbor-host-diskimage-plugin
plugin = karbor-host-database-plugin
enabled = True

[karbor-fs-bank-plugin]
path = {bank}
"""

_CONFIG = """\
[DEFAULT]
state_path = {state}
provider_config_dir = {state}/providers.d
hosts_dir = {state}/hosts.d
host_resources = True
auth_strategy = static
static_project = {project}
osapi_karbor_listen = 127.0.0.1
osapi_karbor_listen_port = {port}
"""


def prepare(state: Path, port: int) -> None:
    """Make what is missing in the state directory. Existing files are kept, but for the port, which follows the
    command line, and what `local.conf` is there to change."""
    state = state.absolute()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if state.stat().st_mode & 0o077:
        raise InvalidInput(f"{state} can be entered by others; its mode must be 0700", field="--state")
    for name in ("providers.d", "hosts.d"):
        (state / name).mkdir(mode=0o700, exist_ok=True)
    make_key_file(state / "root.key", os.urandom)
    _once(state / "token", lambda: os.urandom(32).hex() + "\n")
    _once(state / "project", lambda: uuid.uuid4().hex + "\n")
    if not any((state / "providers.d").glob("*.conf")):
        host_id = uuid.uuid5(_PROVIDER_ID, (state / "project").read_text())
        _once(state / "providers.d" / "host.conf", lambda: _PROVIDER.format(provider_id=host_id, bank=state / "bank"))
    project = (state / "project").read_text().strip()
    _write(state / "karbor.conf", _CONFIG.format(state=state, project=project, port=port))
    _write(state / "endpoint", f"http://{LOOPBACK}:{port}/v1/{project}\n")


def _once(path: Path, content: Callable[[], str]) -> None:
    if not path.exists():
        _write(path, content())


def _write(path: Path, content: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def config_files(state: Path) -> list[Path]:
    """The configuration of a state directory: the service's own, and the administrator's `local.conf` over it."""
    state = state.absolute()
    return [path for path in (state / "karbor.conf", state / "local.conf") if path.exists()]


class Child:
    """One process of the service, started again when it dies."""

    def __init__(self, role: str, state: Path) -> None:
        self.role, self.state = role, state
        self.process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._deaths = 0

    def keep_alive(self) -> None:
        """Start the process if it does not run; after quick deaths only after a growing pause."""
        if self.process is not None and self.process.poll() is None:
            return
        now = time.monotonic()
        if self.process is not None:
            self._deaths = self._deaths + 1 if now - self._started < 10 else 1
            logging.getLogger("karbor").error("%s ended with %s", self.role, self.process.returncode)
            time.sleep(min(5.0, 0.2 * 2 ** min(self._deaths, 5)))
        self._started = time.monotonic()
        command = [sys.executable, "-m", "karbor.standalone", self.role, str(self.state), str(os.getpid())]
        self.process = subprocess.Popen(command)

    def stop(self) -> None:
        """Ask it to end, and insist when it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def standalone(state: Path, port: int) -> int:
    """Run the service until SIGTERM or SIGINT; prints ``ready <endpoint>`` when it answers."""
    prepare(state, port)
    state = state.absolute()
    _claim(state)
    application(config_files(state)).upgrade_database()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    children = [Child("worker", state), Child("api", state)]
    try:
        for child in children:
            child.keep_alive()
        endpoint = (state / "endpoint").read_text().strip()
        _await(endpoint, children, stop)
        if not stop.is_set():
            print(f"ready {endpoint}", flush=True)  # noqa: T201 - the line that scripts wait for
        while not stop.wait(0.5):
            for child in children:
                child.keep_alive()
    finally:
        for child in children:
            child.stop()
    return 0


def _claim(state: Path) -> None:
    """Be the only supervisor of a state directory; the lock is never released before the process ends."""
    descriptor = os.open(state / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(f"another service is running on {state}", hint="stop it first") from error


def _await(endpoint: str, children: Sequence[Child], stop: threading.Event) -> None:
    """Until the API answers; raises `Unavailable` when it does not in time."""
    health = endpoint.split("/v1/", maxsplit=1)[0] + "/healthcheck"
    deadline = time.monotonic() + _START_SECONDS
    while not stop.wait(0.1):
        try:
            with urllib.request.urlopen(health, timeout=5) as answer:  # noqa: S310 - our own loopback address
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        if time.monotonic() > deadline:
            raise Unavailable(f"the API has not answered at {health} within {_START_SECONDS:.0f} seconds")
        for child in children:
            child.keep_alive()


def _die_with(parent: int) -> None:
    """Ask Linux to end this process when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the call
        raise SystemExit(0)


def main(arguments: Sequence[str]) -> int:
    """One child: ``api|worker STATE PARENT``."""
    role, state, parent = arguments
    _die_with(int(parent))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    app = application(config_files(Path(state)))
    if role == "api":
        serve_api(app)
        return 0
    with _only_worker(Path(state)):
        app.journal.expire(alone=True)
        shutil.rmtree(app.settings.state_path / "scratch", ignore_errors=True)  # of workers that were killed
        run_worker(app)
    return 0


@contextmanager
def _only_worker(state: Path) -> Iterator[None]:
    """Wait until every earlier worker of this state directory has ended; the lock goes with the process."""
    with (state / "worker.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
