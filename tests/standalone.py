"""A real standalone service with no privilege, and what a user and an administrator do to it: processes, HTTP, commands."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

BIN = Path(sys.executable).parent
READY_SECONDS = 120
PATIENCE = 120
UNFINISHED = {"protecting", "deleting", "in_progress"}

Item = dict[str, Any]


def unprivileged() -> list[str]:
    """What to put before a command so that root is as powerless in it as anybody else: permissions hold for it."""
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


class Standalone:
    """One service on a state folder. It retries once, so that what does not pass is told soon."""

    def __init__(self, home: Path) -> None:
        self.home, self.state = home, home / "state"
        self.state.mkdir(mode=0o700)
        (self.state / "local.conf").write_text("[worker]\nmax_tries = 2\n")
        self.bank = home / "bank"
        self.offer("main", self.bank)
        self.environ = {**os.environ, "KARBOR_STATE": str(self.state), "COLUMNS": "200"}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    # --- what an administrator does

    def declare(self, name: str, *members: Item | Path, **more: Any) -> str:
        """Declare an application of directories or other members; gives back how a plan names it."""
        folder = self.state / "hosts.d"
        folder.mkdir(mode=0o700, exist_ok=True)
        listed = [member if isinstance(member, dict) else directory(member) for member in members]
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, "members": listed, **more}))
        path.chmod(0o600)
        return f"Karbor::Host::Application#{name}"

    def offer(self, name: str, bank: Path, /, **changes: str) -> str:
        """A provider like the one that the service makes for itself, on another bank, from the next start; its id."""
        (self.state / "providers.d").mkdir(mode=0o700, exist_ok=True)
        plugins = "".join(
            f"plugin = karbor-host-{kind}-plugin\n" for kind in ("application", "directory", "diskimage", "database")
        )
        own = {"name": name, "id": f"00000000-0000-4000-8000-{name.encode().hex():0>12.12}", **changes}
        lines = "".join(f"{key} = {value}\n" for key, value in own.items() if value)
        path = self.state / "providers.d" / f"{name}.conf"
        path.write_text(
            f"[provider]\n{lines}bank = karbor-fs-bank-plugin\n{plugins}enabled = True\n"
            f"[karbor-fs-bank-plugin]\npath = {bank}\n"
        )
        return own["id"]

    def start(self) -> None:
        """Until it answers."""
        command = [*unprivileged(), BIN / "karbor", "standalone", "--port", str(self.port)]
        with (self.home / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
        assert ready, self.log()
        assert self.process.stdout.readline().startswith("ready "), self.log()
        address = urlsplit((self.state / "endpoint").read_text().strip())
        self.project_path = address.path
        self.token = (self.state / "token").read_text().strip()

    def stop(self) -> None:
        """SIGTERM, and the end of all its processes."""
        self.process.terminate()
        try:
            assert self.process.wait(60) == 0, self.log()
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def log(self) -> str:
        """What it has said last."""
        return (self.home / "log").read_text()[-4000:]

    def worker(self) -> int:
        """Process id of the worker."""
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            if b"\0worker\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        raise AssertionError(self.log())

    def pause(self) -> Pause:
        """The worker stands still inside the `with`."""
        return Pause(self.worker())

    def manage(self, *argv: str | Path, code: int = 0) -> Any:
        """What a command of `karbor-manage` shows that ends with this code."""
        done = subprocess.run(
            [BIN / "karbor-manage", *argv, "-f", "json"], env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    # --- what a user does

    def karbor(self, *argv: str | Path, code: int = 0) -> tuple[str, str]:
        """Output and messages of a command that ends with this code."""
        done = subprocess.run(
            [BIN / "karbor", *argv],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    def complaint(self, code: int, *argv: str | Path) -> str:
        """The one line with which a command fails."""
        _, err = self.karbor(*argv, code=code)
        (line,) = (line for line in err.splitlines() if line.startswith("error: "))
        return line

    def http(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        """Status and document of the answer to one request; bytes are sent as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"X-Auth-Token": self.token if token is None else token, "Content-Type": "application/json"}
        try:
            connection.request(method, self.project_path + path, raw, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(content) if content else None

    def get(self, path: str, **query: str) -> Any:
        """What a good answer holds in its envelope."""
        status, document = self.http("GET", f"{path}?{urlencode(query)}" if query else path)
        assert status == 200, document
        return next(iter(document.values()))

    def post(self, path: str, envelope: str, body: Item) -> Item:
        """What was made."""
        status, document = self.http("POST", path, {envelope: body})
        assert status in {200, 201, 202}, document
        return document[envelope]

    def fault(self, status: int, method: str, path: str, body: Any = None, *, token: str | None = None) -> Item:
        """The fault that a request is answered with."""
        given, document = self.http(method, path, body, token=token)
        assert given == status, document
        (fault,) = document.values()
        assert fault["code"] == status
        return fault

    def provider(self, name: str = "main") -> Item:
        """A provider by its name."""
        return next(each for each in self.get("/providers") if each["name"] == name)

    def application(self, name: str) -> Item:
        """A declared application as a resource."""
        known = self.get("/protectables/Karbor::Host::Application/instances")
        return next({key: each[key] for key in ("id", "type", "name")} for each in known if each["name"] == name)

    def plan(self, *resources: Item, provider: str = "", name: str = "plan") -> Item:
        """A plan."""
        body = {
            "name": name,
            "provider_id": provider or self.provider()["id"],
            "resources": list(resources),
            "parameters": {},
        }
        return self.post("/plans", "plan", body)

    def begin(self, plan: Item) -> Item:
        """A protect, just begun."""
        path = f"/providers/{plan['provider_id']}/checkpoints"
        return self.post(path, "checkpoint", {"plan_id": plan["id"]})

    def protect(self, plan: Item) -> Item:
        """A checkpoint, however it ended."""
        return self.ended(place(self.begin(plan)))

    def restore(self, checkpoint: Item, **more: Any) -> tuple[int, Item]:
        """Status and answer of a request for a restore."""
        status, document = self.http("POST", "/restores", {"restore": wish(checkpoint, **more)})
        return status, next(iter(document.values()))

    def ended(self, path: str) -> Item:
        """The thing at a path, when nothing works on it any more."""

        def look() -> Item | None:
            found: Item = self.get(path)
            return found if found["status"] not in UNFINISHED else None

        return self.until(look)

    def until(self, look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What `look` finds, as soon as that is something."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        return found

    def logged(self, operation: str, checkpoint: Item) -> Item:
        """The newest entry of the operation log about a checkpoint."""
        logs = self.get("/operation_logs")
        return next(
            each for each in logs if (each["operation_type"], each["checkpoint_id"]) == (operation, checkpoint["id"])
        )

    def is_whole(self, checkpoint: Item) -> bool:
        """Whether every byte of a checkpoint can still be read."""
        body = {"provider_id": checkpoint["protection_plan"]["provider_id"], "checkpoint_id": checkpoint["id"]}
        begun = self.post("/verifications", "verification", {**body, "parameters": {}})
        return self.ended(f"/verifications/{begun['id']}")["status"] == "success"


class Pause:
    """A process that is stopped inside the `with`, and goes on afterwards."""

    def __init__(self, process: int) -> None:
        self._process = process

    def __enter__(self) -> None:
        os.kill(self._process, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self._process, signal.SIGCONT)


def directory(path: Path, **more: Any) -> Item:
    """A directory as a declaration names it."""
    return {"kind": "directory", "path": str(path), **more}


def place(checkpoint: Item) -> str:
    """Where a checkpoint is found in the API."""
    return f"/providers/{checkpoint['protection_plan']['provider_id']}/checkpoints/{checkpoint['id']}"


def wish(checkpoint: Item, **more: Any) -> Item:
    """The request for a restore."""
    return {
        "provider_id": checkpoint["protection_plan"]["provider_id"],
        "checkpoint_id": checkpoint["id"],
        "parameters": {},
        "restore_target": None,
        **more,
    }
