"""The commands as a user types them, against a real standalone service: real processes, over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
HTML = {f"page-{i}.html": os.urandom(5000) for i in range(40)}
ODD = b"caf\xe9.txt"
READY_SECONDS = 60


class Host:
    """A host with an application, its standalone service, and a shell."""

    def __init__(self, folder: Path) -> None:
        self.state, self.site = folder / "state", folder / "site"
        self.site.mkdir()
        for name, content in HTML.items():
            (self.site / name).write_bytes(content)
        (self.site / os.fsdecode(ODD)).write_bytes(b"odd name")
        self.environ = {**os.environ, "KARBOR_STATE": str(self.state), "TERM": "xterm", "COLUMNS": "200"}
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [BIN / "karbor", "standalone", "--port", str(free_port())]
        with (self.state.parent / "service.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        ready, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
        assert ready, "the service did not say ready"
        assert self.process.stdout.readline().startswith("ready http://127.0.0.1:")

    def kill(self) -> None:
        """SIGKILL to the supervisor and its children at once, as a power cut would have it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        assert self.process.wait(60) == 0
        self.process.stdout.close()

    def begin(self, *argv: str | bytes | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BIN / "karbor", *argv],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str | bytes | Path, code: int = 0) -> tuple[str, str]:
        """Output and messages of a command that ends with this code."""
        process = self.begin(*argv)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"{argv}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out, err

    def json(self, *argv: str | Path) -> object:
        return json.loads(self.run(*argv, "-f", "json")[0])

    def value(self, *argv: str | Path) -> str:
        return self.run(*argv, "-f", "value")[0].strip()

    def at_terminal(self, *argv: str | Path, answer: str) -> tuple[int, str]:
        """Run a command at a terminal; `answer` is typed when it asks."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [BIN / "karbor", *argv],
            env=self.environ,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal ends with its last process
            while data := os.read(ours, 65536):
                seen += data
                if seen.endswith(b"[y/N] "):
                    os.write(ours, answer.encode())
        os.close(ours)
        return process.wait(60), seen.decode()

    def manage(self, *argv: str | Path, code: int = 0, stdin: str = "") -> str:
        done = subprocess.run(
            [BIN / "karbor-manage", *argv], env=self.environ, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    host = Host(tmp_path_factory.mktemp("cli"))
    host.run("host", "add", "shop", host.site)
    host.start()
    yield host
    host.stop()


@pytest.fixture(scope="module")
def checkpoint(host) -> str:
    host.run("plan", "create", "nightly", "shop")
    return host.value("checkpoint", "create", "nightly", "--wait", "-c", "id")


def test_what_is_there_is_listed(host):
    assert "Karbor::Host::Application" in host.value("protectable", "list")
    (shop,) = host.json("protectable", "instance", "list", "application")
    assert (shop["name"], shop["dependent_resources"][0]["name"]) == ("shop", str(host.site))
    (provider,) = host.json("provider", "list")
    assert host.json("provider", "show", provider["id"][:6])["name"] == provider["name"]


def test_a_checkpoint_tells_what_it_holds(host, checkpoint):
    shown = host.json("checkpoint", "show", checkpoint[:8])
    assert shown["status"] == "available"
    assert shown["logical_bytes"] == sum(map(len, HTML.values())) + len(b"odd name")
    assert {item["status"] for item in shown["resources"]} == {"available"}
    names = [item["name"] for item in host.json("checkpoint", "ls", checkpoint, str(host.site))]
    assert sorted(names) == sorted([*HTML, r"$'caf\xe9.txt'"])


def test_a_dry_run_reads_nothing(host, checkpoint):
    before = host.json("checkpoint", "list")
    rows = host.json("checkpoint", "create", "nightly", "--dry-run")
    assert ("read", str(host.site)) in [(row["action"], row["what"]) for row in rows]
    assert host.json("checkpoint", "list") == before


def test_one_file_comes_back_whatever_its_name(host, checkpoint, tmp_path):
    page = "page-7.html"
    host.run("checkpoint", "get", checkpoint, host.site / page, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == HTML[page]
    host.run("checkpoint", "get", checkpoint, os.fsencode(host.site) + b"/" + ODD, "-o", tmp_path / "odd")
    assert (tmp_path / "odd").read_bytes() == b"odd name"
    _, err = host.run("checkpoint", "get", checkpoint, host.site / "no", "-o", tmp_path / "no", code=4)
    assert err.startswith("error: ")
    assert not (tmp_path / "no").exists()


def test_what_was_lost_comes_back_and_what_is_there_is_kept(host, checkpoint):
    (host.site / "page-1.html").unlink()
    (host.site / "page-2.html").write_bytes(b"newer")
    _, err = host.run("restore", "create", checkpoint, "--wait")
    assert f"Karbor::Host::Directory {host.site} → in its place: available" in err
    assert (host.site / "page-1.html").read_bytes() == HTML["page-1.html"]
    assert (host.site / "page-2.html").read_bytes() == b"newer"


def test_overwriting_needs_yes(host, checkpoint):
    (host.site / "page-3.html").write_bytes(b"newer")
    _, err = host.run("restore", "create", checkpoint, "--overwrite", code=5)
    assert "hint: --yes says that this is wanted" in err
    assert (host.site / "page-3.html").read_bytes() == b"newer"
    host.run("restore", "create", checkpoint, "--overwrite", "--yes", "--wait")
    assert (host.site / "page-3.html").read_bytes() == HTML["page-3.html"]


def test_one_file_is_restored_elsewhere(host, checkpoint):
    target = host.site / "restored"
    host.run("restore", "create", checkpoint, "--path", host.site / "page-4.html", "--to", target, "--wait")
    assert (target / "page-4.html").read_bytes() == HTML["page-4.html"]
    shutil.rmtree(target)


def test_a_terminal_is_asked_and_sees_a_bar(host, checkpoint):
    (host.site / "page-5.html").unlink()
    code, seen = host.at_terminal("restore", "create", checkpoint, "--wait", answer="n\n")
    assert (code, "nothing was restored" in seen) == (11, True)
    code, seen = host.at_terminal("restore", "create", checkpoint, "--wait", answer="y\n")
    assert (code, (host.site / "page-5.html").exists()) == (0, True)
    assert "restore nightly" in seen


def test_a_checkpoint_is_proved(host, checkpoint):
    assert host.json("verification", "create", checkpoint, "--wait")["level"] == "data"
    operations = [item["operation_type"] for item in host.json("operation-log", "list")]
    assert {"protect", "verify"} <= set(operations)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["plan", "show", "nosuch"], 4),
        (["plan", "create", "p", "nosuch"], 4),
        (["plan", "create", "p", "shop", "--provider", "nosuch"], 4),
        (["plan", "create", "", "shop"], 2),
        (["plan", "list", "--sort", "nosuch"], 2),
        (["--endpoint", "http://127.0.0.1:1/v1/p", "plan", "list"], 7),
    ],
)
def test_an_error_is_a_line_and_a_code(host, argv, code):
    out, err = host.run(*argv, code=code)
    assert out == ""
    assert err.startswith("error: ")


def test_a_wrong_token_is_told_apart(host):
    endpoint = (host.state / "endpoint").read_text().strip()
    host.run("--endpoint", endpoint, "--token", "wrong", "plan", "list", code=3)


def test_the_bank_opens_by_paper_and_by_plain_restic(host, checkpoint, tmp_path):
    paper = tmp_path / "paper"
    paper.write_text(host.manage("key", "export", "-f", "value", "-c", "key"))
    host.manage("key", "check", "--key", paper)
    other = "karbor-root-key-1 PB4HQ6DY-PB4HQ6D-YPB4HQ6-DYPB4HQ-6DYPB4H-Q6DYPB4-HQ6DYPB-4HQ6DY"
    host.manage("key", "check", code=2, stdin=other)
    added = json.loads(host.manage("key", "add", "This host", "-f", "json", stdin="a recovery passphrase\n"))
    environ = {**os.environ, "RESTIC_PASSWORD": "a recovery passphrase", "RESTIC_CACHE_DIR": str(tmp_path / "cache")}
    restic = ["restic", "-r", added["repository"], "--no-lock", "snapshots", "--json"]
    (snapshot,) = json.loads(subprocess.run(restic, env=environ, capture_output=True, check=True).stdout)
    assert f"checkpoint={checkpoint}" in snapshot["tags"]
    host.manage("key", "remove", "This host", added["key"][:8])
    assert subprocess.run(restic, env=environ, capture_output=True, check=False).returncode != 0


def test_damage_in_the_bank_is_found_and_what_it_affects_is_named(host, checkpoint):
    (row,) = json.loads(host.manage("bank", "show", "This host", "-f", "json"))
    assert row["checkpoints"] >= 1
    assert json.loads(host.manage("bank", "check", "This host", "--data", "-f", "json")) == []
    copy = host.state.parent / "copy"
    shutil.copytree(host.state, copy)
    for name in ("karbor.conf", "providers.d/host.conf"):
        (copy / name).write_text((copy / name).read_text().replace(str(host.state), str(copy)))
    pack = max((copy / "bank").rglob("data/*/*"), key=lambda path: path.is_file() and path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[1000] ^= 1
    pack.write_bytes(content)
    damage = json.loads(host.manage("--state", copy, "bank", "check", "This host", "--data", "-f", "json", code=9))
    assert {item["object"].rpartition("/")[2] for item in damage} == {pack.name}
    assert (checkpoint, True) in [(item["checkpoint"], "page-" in (item["path"] or "")) for item in damage]
    shutil.rmtree(copy)


@contextlib.contextmanager
def gate(host):
    """While it is open only after `release`, the application's `before` command holds every protect back. Yields a
    function that waits until a protect stands there, and one that lets it through.
    """
    opened, reached = host.state.parent / "opened", host.state.parent / "reached"
    declared = host.state / "hosts.d" / "shop.yaml"
    plain = declared.read_text()
    script = f"touch {reached}; while ! test -e {opened}; do sleep 0.1; done"
    declared.write_text(plain + f"before:\n- command: [/bin/sh, -c, '{script}']\n")

    def wait(waiting: subprocess.Popen[str]) -> None:
        while not reached.exists():
            assert waiting.poll() is None, waiting.communicate()
            time.sleep(0.05)

    yield wait, opened.touch
    declared.write_text(plain)
    opened.unlink()
    reached.unlink()


def test_waiting_outlives_a_service_that_is_killed_and_started_elsewhere(host, checkpoint):
    with gate(host) as (wait, release):
        waiting = host.begin("checkpoint", "create", "nightly", "--wait", "-f", "json")
        wait(waiting)
        host.kill()
        release()
        host.start()
        out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, err
    assert json.loads(out)["status"] == "available"


def test_who_waits_learns_of_a_cancel(host, checkpoint):
    with gate(host) as (wait, release):
        waiting = host.begin("checkpoint", "create", "nightly", "--wait", "-f", "json")
        wait(waiting)
        (under_way,) = [item for item in host.json("checkpoint", "list") if item["status"] == "protecting"]
        host.run("checkpoint", "cancel", under_way["id"])
        release()
        out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 11, err
    assert json.loads(out)["status"] == "cancelled"


def test_a_checkpoint_is_deleted(host, checkpoint):
    doomed = host.value("checkpoint", "create", "nightly", "--wait", "-c", "id")
    _, err = host.run("checkpoint", "delete", doomed, "--wait")
    assert f"checkpoint {doomed} is deleted" in err
    assert doomed not in host.value("checkpoint", "list", "-c", "id")
    assert host.json("checkpoint", "show", doomed)["status"] == "deleted"


def test_a_lost_database_loses_no_checkpoint(host, checkpoint, tmp_path):
    listed = [item for item in host.json("checkpoint", "list") if item["status"] == "available"]
    shown = host.json("checkpoint", "show", checkpoint)
    paper = tmp_path / "paper"
    paper.write_text(host.manage("key", "export", "-f", "value", "-c", "key"))
    host.stop()
    for file in host.state.glob("karbor.db*"):
        file.unlink()
    (counted,) = json.loads(host.manage("recover", "--key", paper, "-f", "json"))
    assert (counted["checkpoints"] - counted["deleted"], counted["plans"], counted["present"]) == (len(listed), 1, 0)
    (again,) = json.loads(host.manage("recover", "-f", "json"))
    assert (again["checkpoints"], again["present"]) == (0, counted["checkpoints"])
    host.start()
    same = ("id", "status", "plan", "created_at", "logical_bytes", "survives")
    assert [[item[name] for name in same] for item in host.json("checkpoint", "list")] == [
        [item[name] for name in same] for item in listed
    ]
    assert host.json("checkpoint", "show", checkpoint)["resources"] == shown["resources"]
    (host.site / "page-9.html").unlink()
    host.run("restore", "create", checkpoint, "--wait")
    assert (host.site / "page-9.html").read_bytes() == HTML["page-9.html"]
    host.run("checkpoint", "create", "nightly", "--wait")
