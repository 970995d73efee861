"""Bad luck of a real service: full, foreign, read-only and missing banks, a stop in the middle, a lost database.
Work ends with its reason or goes on, and no earlier checkpoint is harmed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.standalone import Standalone, place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standalone import Item

SMALL, LARGE, HUGE = 1 << 20, 40 << 20, 256 << 20
BANK_BYTES, BIGGER_BYTES = 24 << 20, 1536 << 20
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    service = Standalone(tmp_path_factory.mktemp("luck"))
    for name, size in (("small", SMALL), ("large", LARGE), ("huge", HUGE)):
        folder = service.home / name
        folder.mkdir()
        (folder / "data").write_bytes(os.urandom(size))
        service.declare(name, folder)
    foreign = service.home / "foreign"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"not ours")
    service.offer("foreign", foreign)
    device = Device(service.home / "device")
    service.offer("device", device.bank)
    service.device = device
    if os.geteuid() == 0:
        device.plug()
    service.start()
    yield service
    service.stop()
    if os.geteuid() == 0:
        device.unplug()


class Device:
    """A small disk: a file system in memory that is seen at the bank's place while it is plugged in."""

    def __init__(self, place: Path) -> None:
        self._disk, self.bank = place.with_name("disk"), place
        for path in (self._disk, self.bank):
            path.mkdir()
        self._plugged = False

    def plug(self) -> None:
        if not self._plugged:
            mount("-t", "tmpfs", "-o", f"size={BANK_BYTES},mode=0700", "disk", self._disk)
            self._plugged = True
        mount("--bind", self._disk, self.bank)

    def unplug(self) -> None:
        """Whoever has it open keeps it."""
        if self.bank.is_mount():
            self.eject()
        subprocess.run(["umount", "-l", self._disk], check=True)

    def eject(self) -> None:
        subprocess.run(["umount", "-l", self.bank], check=True)

    def remount(self, options: str) -> None:
        mount("-o", f"remount,{options}", self._disk)

    def harm(self, how: str) -> None:
        if how == "eject":
            self.eject()
        else:  # what is being written to holds it off for a moment
            while subprocess.run(
                ["mount", "-o", "remount,ro", self._disk], capture_output=True, check=False
            ).returncode:
                time.sleep(0.001)

    def heal(self, how: str) -> None:
        if how == "eject":
            self.plug()
        else:
            self.remount("rw")

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Somebody has taken the last byte."""
        filler = self._disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield
        filler.unlink()


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def plan(service: Standalone, name: str, provider: str = "main") -> Item:
    return service.plan(service.application(name), provider=service.provider(provider)["id"], name=name)


def fails(service: Standalone, plan: Item, cause: str) -> Item:
    """Protect by the command: it fails with the cause, and so say the API and the operation log. The checkpoint."""
    line = service.complaint(10, "checkpoint", "create", plan["id"], "--wait")
    assert cause in line
    checkpoints = service.get(f"/providers/{plan['provider_id']}/checkpoints")
    newest = next(each for each in checkpoints if each["id"] in line)
    assert newest["status"] == "error"
    assert cause in newest["reason"]
    entry = service.logged("protect", newest)
    assert (entry["status"], cause in entry["error_info"]) == ("error", True)
    return newest


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_bank_in_a_folder_of_somebody_else(service):
    foreign = service.home / "foreign"
    fails(service, plan(service, "small", "foreign"), f"{foreign} is not a Karbor bank")
    assert files(foreign) == {"holiday.jpg"}
    (shown,) = [each for each in service.manage("bank", "list") if each["provider"] == "foreign"]
    assert "holiday.jpg" in shown["problem"]
    assert service.protect(plan(service, "small"))["status"] == "available"


@root
def test_a_bank_that_is_full(service):
    first = service.protect(plan(service, "small", "device"))
    assert first["status"] == "available", first["reason"]
    large = plan(service, "large", "device")
    failed = fails(service, large, f"the bank has no room: writing {service.device.bank}/")
    with service.device.filled():
        assert service.is_whole(first)
        assert comes_back(service, first)
    assert service.http("DELETE", place(failed))[0] == 200
    assert service.ended(place(failed))["status"] == "deleted"
    service.device.remount(f"size={BIGGER_BYTES}")
    again = service.protect(large)
    assert again["status"] == "available", again["reason"]
    assert service.is_whole(again)
    assert service.is_whole(first)


def comes_back(service: Standalone, checkpoint: Item) -> bool:
    """Whether a checkpoint of the small application can be restored."""
    data = service.home / "small" / "data"
    content = data.read_bytes()
    data.unlink()
    status, begun = service.restore(checkpoint)
    assert status == 200, begun
    return service.ended(f"/restores/{begun['id']}")["status"] == "success" and data.read_bytes() == content


@root
def test_a_bank_that_may_only_be_read(service):
    small = plan(service, "small", "device")
    first = service.protect(small)
    service.device.remount("ro")
    assert service.is_whole(first)
    assert comes_back(service, first)
    (service.home / "small" / "data").write_bytes(os.urandom(SMALL))
    fails(service, small, "Read-only file system")
    service.device.remount("rw")
    again = service.protect(small)
    assert again["status"] == "available", again["reason"]
    assert service.is_whole(again)


@root
@pytest.mark.parametrize(("harm", "cause"), [("ro", "Read-only file system"), ("eject", "is not there any more")])
def test_a_bank_that_fails_in_the_middle_of_a_protect(service, harm, cause):
    device, huge = service.device, plan(service, "huge", "device")
    first = service.protect(plan(service, "small", "device"))
    begun = in_the_middle(service, huge, device.bank)
    device.harm(harm)
    ended = service.ended(place(begun))
    assert ended["status"] == "error"
    assert cause in ended["reason"]
    assert cause in service.logged("protect", begun)["error_info"]
    device.heal(harm)
    assert service.is_whole(first)
    begun = in_the_middle(service, huge, device.bank)
    device.harm(harm)
    device.heal(harm)
    ended = service.ended(place(begun))
    assert ended["status"] == "available", ended["reason"]
    assert service.is_whole(ended)


def in_the_middle(service: Standalone, plan: Item, bank: Path) -> Item:
    """A protect of something new and huge whose first packs are in the bank."""
    (service.home / "huge" / "data").write_bytes(os.urandom(HUGE))

    def packs() -> int:
        return len(list(bank.glob("*/*/data/*/*")))

    known = packs()
    begun = service.begin(plan)
    service.until(lambda: packs() > known)
    return begun


@root
def test_a_bank_whose_disk_is_taken_away_and_brought_back(service):
    small, bank = plan(service, "small", "device"), service.device.bank
    first = service.protect(small)
    service.device.eject()
    fails(service, small, f"the bank's folder {bank} is not there any more (is its disk mounted?)")
    assert files(bank) == set()
    service.device.plug()
    assert service.is_whole(first)
    assert service.protect(small)["status"] == "available"


@root
def test_a_bank_whose_disk_is_missing_at_the_start(service):
    small, bank = plan(service, "small", "device"), service.device.bank
    first = service.protect(small)
    service.stop()
    service.device.eject()
    service.start()
    failed = fails(service, small, f"is {bank} the bank that it was?")
    assert not any(path.name in {"config", "keys", "data"} for path in bank.rglob("*"))
    service.complaint(9, "restore", "create", first["id"], "--yes")
    service.device.plug()
    assert service.is_whole(first)
    assert service.protect(small)["status"] == "available"
    assert service.get(place(failed))["status"] == "error"


def snapshots(service: Standalone) -> int:
    return len(list(service.bank.glob("*/*/snapshots/*")))


def test_a_stop_in_the_middle_of_a_protect(service):
    huge = plan(service, "huge")
    service.protect(plan(service, "small"))
    known = snapshots(service)
    begun = in_the_middle(service, huge, service.bank)
    asked = time.monotonic()
    service.stop()
    assert time.monotonic() - asked < 30
    assert snapshots(service) == known
    service.start()
    ended = service.ended(place(begun))
    assert ended["status"] == "available", ended["reason"]
    assert ended["logical_bytes"] == HUGE
    assert service.logged("protect", begun)["status"] == "available"
    assert service.is_whole(ended)


def test_an_earlier_checkpoint_that_cannot_be_read_costs_only_time(service):
    small = plan(service, "small")
    known = set(service.bank.glob("*/*/snapshots/*"))
    lost = service.protect(small)
    (snapshot,) = set(service.bank.glob("*/*/snapshots/*")) - known
    content = snapshot.read_bytes()
    snapshot.unlink()
    assert service.complaint(9, "restore", "create", lost["id"], "--yes").endswith(f"{snapshot.name} is missing")
    again = service.protect(small)
    assert again["status"] == "available", again["reason"]
    assert service.is_whole(again)
    snapshot.write_bytes(content)
    assert service.is_whole(lost)


def test_the_database_is_lost(service):
    def listed() -> dict[str, str]:
        found = [
            each
            for provider in service.get("/providers")
            for each in service.get(f"/providers/{provider['id']}/checkpoints")
        ]
        return {each["id"]: each["protection_plan"]["name"] for each in found if each["status"] == "available"}

    before = listed()
    service.stop()
    for file in service.state.glob("karbor.db*"):
        file.unlink()
    rows = service.manage("recover", code=8)  # the folder of somebody else cannot be read, and keeps no other
    assert sum(row["checkpoints"] - row["deleted"] for row in rows) == len(before) > 0
    service.start()
    assert listed() == before
    assert service.protect(plan(service, "small"))["status"] == "available"
