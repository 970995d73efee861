"""`make demo`: a real three-layer application of this host is protected, lost and restored by the real service.

On the way: the service is killed with SIGKILL in the middle of a protect and of a restore, one bit of a copy of the
bank is flipped, and plain restic opens the bank. The last line says how it went.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from demo_application import Shop, Writer, difference, fingerprint, fingerprint_without_holes

if TYPE_CHECKING:
    from collections.abc import Callable

BIN = Path(sys.executable).parent
MIB = 1 << 20
LIMIT = 300


class Failed(Exception):
    """The demonstration did not show what it is there to show."""


class Narrator:
    """Says what is being done: numbered on a terminal and in a file alike."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)


class Service:
    """`karbor standalone` and the `karbor` command against it."""

    def __init__(self, state: Path, narrator: Narrator) -> None:
        self.state, self.say = state, narrator.say
        self.port = _free_port()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [BIN / "karbor", "standalone", "--state", self.state, "--port", str(self.port)]
        log = (self.state.parent / f"{self.state.name}.log").open("a")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            raise Failed(f"the service did not start; see {log.name}")
        self.endpoint = line.split()[1]
        self.token = (self.state / "token").read_text().strip()

    def kill(self) -> None:
        """SIGKILL to every process of the service at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def karbor(self, *arguments: object, check: bool = True) -> str:
        """Run the command; its standard output. Progress goes to the terminal."""
        command = [BIN / "karbor", "--state", self.state, *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if check and done.returncode:
            raise Failed(f"karbor {' '.join(map(str, arguments))} ended with {done.returncode}")
        return done.stdout.strip()

    def get(self, path: str) -> dict[str, object]:
        request = urllib.request.Request(f"{self.endpoint}{path}", headers={"X-Auth-Token": self.token})
        with urllib.request.urlopen(request, timeout=30) as answer:
            body: dict[str, object] = json.load(answer)
        return body

    def follow(self, path: str, envelope: str, *, until: Callable[[], bool] = lambda: False) -> dict[str, object]:
        """Poll until the object is final, or until `until` is true."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if until():
                break
            found = self.get(path)[envelope]
            assert isinstance(found, dict)
            if found["status"] not in {"protecting", "in_progress", "deleting"}:
                return found
            time.sleep(0.01)
        else:
            raise Failed(f"{path} was not over after {LIMIT} seconds")
        return {"status": "under way"}


class Demo:
    """The story, one method per chapter."""

    def __init__(self, work: Path, narrator: Narrator) -> None:
        self.work, self.say = work, narrator.say
        self.shop = Shop(work / "shop")
        self.service = Service(work / "state", narrator)
        self.figures: dict[str, object] = {}
        self.killed = self.resumed = 0

    def run(self) -> None:
        self.build()
        checkpoint = self.protect()
        self.verify(checkpoint)
        self.lose_and_restore(checkpoint)
        self.protect_again()
        self.flip_a_bit(checkpoint)
        self.compare_with_restic(checkpoint)

    def build(self) -> None:
        self.say("building the application: a web site, a disk image of 256 MiB, a database under writes")
        self.shop.build()
        self.service.start()
        hosts = self.work / "state" / "hosts.d" / "shop.yaml"
        hosts.write_text(self.shop.declaration())
        hosts.chmod(0o600)
        self.service.karbor("plan", "create", "shop", "shop")
        provider = self.service.get("/providers")["providers"]
        assert isinstance(provider, list)
        self.provider = provider[0]["id"]

    def protect(self) -> str:
        self.writer = Writer(self.shop.database)
        self.writer.start()
        self.before = fingerprint(self.shop.root, leave_out={self.shop.database.parent})
        rows_before = self.writer.committed()
        self.say(f"protecting {len(self.before)} files while the database is written to")
        began = time.monotonic()
        ident = self.service.karbor("checkpoint", "create", "shop", "-f", "value", "-c", "id")
        path = f"/providers/{self.provider}/checkpoints/{ident}"
        bank = self.service.state / "bank"
        self.kill_midway(path, "checkpoint", "the protect", lambda: _size(bank) > 20 * MIB)
        checkpoint = self.service.follow(path, "checkpoint")
        self.writer.ensure_alive()
        if checkpoint["status"] != "available":
            raise Failed(f"the checkpoint is {checkpoint['status']}: {checkpoint.get('reason')}")
        self.resumed += 1
        self.figures["protect"] = f"{time.monotonic() - began:.1f}s"
        self.figures["bytes"] = checkpoint["logical_bytes"]
        self.rows = (rows_before, self.writer.committed())
        self.say(f"checkpoint {ident} is available; {checkpoint['added_bytes']} bytes were stored")
        return ident

    def kill_midway(self, path: str, envelope: str, what: str, midway: Callable[[], bool]) -> None:
        found = self.service.follow(path, envelope, until=midway)
        if found["status"] != "under way":
            raise Failed(f"{what} was over before it could be killed: {found['status']}")
        self.say(f"SIGKILL to every process of the service in the middle of {what}; starting it again")
        self.service.kill()
        self.killed += 1
        self.service.start()

    def verify(self, checkpoint: str) -> None:
        self.say("verifying: every byte is read back and hashed again")
        self.service.karbor("verification", "create", checkpoint, "--wait", "-f", "json")

    def lose_and_restore(self, checkpoint: str) -> None:
        self.writer.stop()
        self.say("changing and deleting everything")
        self.shop.destroy()
        began = time.monotonic()
        text = self.service.karbor("restore", "create", checkpoint, "--yes", "-f", "json")
        path = f"/restores/{json.loads(text)['id']}"
        self.kill_midway(path, "restore", "the restore", lambda: len(list(self.shop.web.glob("*/*"))) > 200)
        restore = self.service.follow(path, "restore")
        if restore["status"] != "success":
            raise Failed(f"the restore ended as {restore['status']}: {restore.get('reason')}")
        self.resumed += 1
        self.figures["restore"] = f"{time.monotonic() - began:.1f}s"
        self.prove(self.shop.root)
        self.say("restored: every file, mode, time, link and hole as before; the database is whole")

    def prove(self, root: Path, *, holes: bool = True) -> None:
        """The tree under `root` is the one that was protected."""
        before = self.before if holes else fingerprint_without_holes(self.before)
        after = fingerprint(root, leave_out={root / "db"})
        found = difference(before, after if holes else fingerprint_without_holes(after))
        if found:
            raise Failed(f"{len(found)} differences, the first: {found[0]}")
        rows = self.shop.check_database(root / "db" / self.shop.database.name)
        if not self.rows[0] <= rows <= self.rows[1]:
            raise Failed(f"the database has {rows} orders; at the checkpoint it had {self.rows[0]} to {self.rows[1]}")

    def protect_again(self) -> None:
        self.say("protecting again: only what changed is stored")
        text = self.service.karbor("checkpoint", "create", "shop", "--wait", "-f", "json")
        again = json.loads(text)
        self.say(f"the second checkpoint stored {again['added_bytes']} of {again['logical_bytes']} bytes")

    def flip_a_bit(self, checkpoint: str) -> None:
        self.say("flipping one bit in a copy of the bank")
        copy = self.work / "tampered"
        self.service.stop()
        shutil.copytree(self.service.state, copy, symlinks=True)
        self.service.start()
        for name in ("providers.d/host.conf",):
            file = copy / name
            file.write_text(file.read_text().replace(str(self.service.state), str(copy)))
        largest = max((copy / "bank").rglob("data/*/*"), key=lambda path: path.stat().st_size)
        with largest.open("r+b") as pack:
            pack.seek(largest.stat().st_size // 3)
            byte = pack.read(1)[0]
            pack.seek(-1, os.SEEK_CUR)
            pack.write(bytes([byte ^ 1]))
        other = Service(copy, Narrator())
        other.start()
        try:
            other.karbor("verification", "create", checkpoint, "--wait", "-f", "json", check=False)
            found = other.get("/verifications")["verifications"]
            assert isinstance(found, list)
            newest = max(found, key=lambda each: each["created_at_precise"])
            reasons = [reason for reason in newest["resources_reason"].values() if reason]
        finally:
            other.stop()
        named = [reason for reason in reasons if largest.name in reason and "shop" in reason and "data" in reason]
        if newest["status"] != "fail" or not named:
            raise Failed(f"the flipped bit in {largest.name} was not found: {newest}")
        self.say(f"found: {named[0]}")
        self.figures["tamper"] = "found"

    def compare_with_restic(self, checkpoint: str) -> None:
        self.say("opening the bank with plain restic and a recovery passphrase")
        secret = self.work / "recovery-passphrase"
        secret.write_text(secrets.token_hex(16))
        secret.chmod(0o600)
        added = [BIN / "karbor-manage", "--state", self.service.state, "key", "add", self.provider]
        added += ["--passphrase-file", secret]
        subprocess.run(added, check=True, stdout=subprocess.DEVNULL)
        repository = next((self.service.state / "bank").glob("*/*-g1"))
        restic = ["restic", "-r", str(repository), "--password-file", str(secret), "--no-cache"]
        checked = subprocess.run([*restic, "check", "--read-data"], capture_output=True, text=True, check=False)
        if checked.returncode:
            raise Failed(f"restic check: {checked.stderr.strip()}")
        out = self.work / "restic"
        tag = f"checkpoint={checkpoint}"
        got = subprocess.run(
            [*restic, "restore", "latest", "--tag", tag, "--target", str(out)],
            capture_output=True,
            text=True,
            check=False,
        )
        if got.returncode:
            raise Failed(f"restic restore: {got.stderr.strip()}")
        self.shop.assemble(out, self.work / "from-restic")
        # Debian 12's restic writes holes as zeros; the bytes are the same.
        self.prove(self.work / "from-restic", holes=False)
        self.figures["restic"] = "identical"

    def close(self) -> None:
        self.service.stop()
        if hasattr(self, "writer"):
            self.writer.stop()


def _size(folder: Path) -> int:
    """Bytes of the files below a folder that others are changing."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave state, bank and keys there")
    arguments = parser.parse_args()
    narrator = Narrator()
    work = (
        arguments.keep.absolute() if arguments.keep else Path(tempfile.mkdtemp(prefix="karbor-demo-", dir="/var/tmp"))
    )
    work.mkdir(parents=True, exist_ok=True)
    demo = Demo(work, narrator)
    try:
        demo.run()
    except (Failed, OSError, subprocess.SubprocessError, urllib.error.URLError) as error:
        print(f"demo: FAIL {error}")
        return 1
    finally:
        demo.close()
        if arguments.keep:
            narrator.say(f"left in {work}; look: {BIN}/karbor standalone --state {work}/state")
        else:
            shutil.rmtree(work, ignore_errors=True)
    figures = {
        "files": len(demo.before),
        "bytes": demo.figures["bytes"],
        "protect": demo.figures["protect"],
        "restore": demo.figures["restore"],
        "killed": demo.killed,
        "resumed": demo.resumed,
        "tamper": demo.figures["tamper"],
        "restic": demo.figures["restic"],
        "identical": "yes",
    }
    print("demo: PASS " + " ".join(f"{name}={value}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
