"""An application that was brought to rest is let go on, whatever becomes of the service and of the protect."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

KARBOR = Path(sys.executable).with_name("karbor")
PATIENCE = 120


class Service:
    """A standalone service with one declared application whose commands write down that they ran."""

    def __init__(self, home: Path) -> None:
        self.state, self.said, self.data = home / "state", home / "said", home / "data"
        self.state.mkdir(mode=0o700)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def declare(self, *before: str) -> None:
        """The application as it is before each test, with these commands after the one that writes it down."""
        self.said.unlink(missing_ok=True)
        self.data.mkdir(exist_ok=True)
        (self.data / "page.html").write_text("hello")

        def command(words: str) -> dict:
            return {"command": ["/bin/sh", "-c", words]}

        hosts = self.state / "hosts.d"
        hosts.mkdir(exist_ok=True)
        path = hosts / "shop.yaml"
        document = {
            "name": "shop",
            "members": [{"kind": "directory", "path": str(self.data)}],
            "before": [command(f"echo rest >> {self.said}"), *map(command, before)],
            "after": [command(f"echo go >> {self.said}")],
        }
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o640)

    def start(self) -> None:
        command = [KARBOR, "standalone", "--state", self.state, "--port", str(self.port)]
        with (self.state.parent / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        ready = self.process.stdout.readline()
        assert ready.startswith("ready "), (self.state.parent / "log").read_text()

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()

    def karbor(self, *words: str) -> object:
        done = subprocess.run(
            [KARBOR, "--state", self.state, *words, "-f", "json"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def until(self, found) -> object:
        deadline = time.monotonic() + PATIENCE
        while not (answer := found()):
            assert time.monotonic() < deadline, (self.state.parent / "log").read_text()[-3000:]
            time.sleep(0.1)
        return answer

    def words(self) -> list[str]:
        return self.said.read_text().split() if self.said.exists() else []

    def ended(self, checkpoint: str) -> dict:
        def look() -> dict | None:
            found = self.karbor("checkpoint", "show", checkpoint)
            return found if found["status"] != "protecting" else None

        return self.until(look)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("service"))
    service.declare()
    service.start()
    yield service
    service.stop()


def protect(service: Service) -> str:
    plan = service.karbor("plan", "create", "shop", "Karbor::Host::Application#shop")["id"]
    return service.karbor("checkpoint", "create", plan)["id"]


def test_the_service_is_killed_while_the_application_is_at_rest(service) -> None:
    service.declare("sleep 5")
    checkpoint = protect(service)
    service.until(service.words)
    service.kill()
    assert service.words() == ["rest"]
    service.start()
    ended = service.ended(checkpoint)
    assert (ended["status"], ended["reason"]) == ("available", "")
    *rests, last = service.words()
    assert last == "go"
    assert set(rests) == {"rest"}  # twice where it was killed between the command's end and its record


def test_the_protect_fails_while_the_application_is_at_rest(service) -> None:
    service.declare(f"rm -r {service.data}")
    checkpoint = protect(service)
    ended = service.ended(checkpoint)
    assert ended["status"] == "error"
    assert "No such file or directory" in json.dumps(ended)
    assert service.words() == ["rest", "go"]


def test_the_user_cancels_while_the_application_is_at_rest(service) -> None:
    service.declare("sleep 3")
    checkpoint = protect(service)
    service.until(service.words)
    subprocess.run([KARBOR, "--state", service.state, "checkpoint", "cancel", checkpoint], check=True)
    assert service.ended(checkpoint)["status"] == "cancelled"
    assert service.words() == ["rest", "go"]
