"""Bad input to a real service: every case ends in an error that names its cause, in the API, in the command and in the
operation log, and nothing that was there before is harmed.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.standalone import Standalone, directory, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.standalone import Item

PAGES = {f"page-{i}.html": os.urandom(3000) for i in range(5)}
LARGE = 24 << 20
"""Bytes that take the service a moment to read."""
IN_OPEN = 0x20


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    service = Standalone(tmp_path_factory.mktemp("input"))
    site = service.home / "shop"
    site.mkdir()
    for name, content in PAGES.items():
        (site / name).write_bytes(content)
    service.declare("shop", site)
    service.offer("mistaken", service.home / "elsewhere", chunk_size="300")
    service.offer("nameless", service.home / "elsewhere", name="")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def plan(service) -> Item:
    return service.plan(service.application("shop"))


@pytest.fixture(scope="module")
def kept(service, plan) -> Item:
    """The checkpoint that everything else must leave alone."""
    checkpoint = service.protect(plan)
    assert checkpoint["status"] == "available", checkpoint
    return checkpoint


@pytest.fixture(autouse=True)
def unharmed(service, kept):
    """Whatever a test does, the checkpoint before it stays, and none is available whose protect failed."""
    yield
    assert service.get(place(kept))["status"] == "available"
    assert service.is_whole(kept)


@pytest.fixture
def folder(service, request) -> Path:
    """A folder of the test's own on the host."""
    path = service.home / request.node.name.partition("[")[0]
    path.mkdir()
    return path


def test_what_a_plan_may_not_say(service):
    main, shop = service.provider(), service.application("shop")
    before = service.get("/operation_logs")
    for change, cause in (
        ({"resources": [{"type": "OS::Nosuch::Thing", "id": "1", "name": "x"}]}, "OS::Nosuch::Thing"),
        ({"resources": []}, "at least one resource"),
        ({"provider_id": "11111111-2222-4333-8444-555555555555"}, "provider"),
        ({"parameters": {"Karbor::Host::Directory": {"colour": "red"}}}, "colour"),
    ):
        body = {"name": "p", "provider_id": main["id"], "resources": [shop], "parameters": {}, **change}
        fault = service.fault(400, "POST", "/plans", {"plan": body})
        assert fault["error"] == "invalid_input"
        assert cause in fault["message"]
    assert "OS::Nosuch::Thing" in service.complaint(4, "plan", "create", "p", "OS::Nosuch::Thing#1")
    assert "nosuch" in service.complaint(4, "plan", "create", "p", "shop", "--provider", "nosuch")
    service.karbor("plan", "create", "p", code=2)  # no resources
    assert service.get("/operation_logs") == before


def test_bodies_that_are_no_json(service):
    for raw in (b"", b"{", b"[]", b'{"plan": 1}', b"\xff\xfe", b"[" * 100_000):
        fault = service.fault(400, "POST", "/plans", raw)
        assert fault["error"] == "invalid_input"
        assert fault["message"]


def test_a_wrong_token(service):
    assert service.fault(401, "GET", "/plans", token="wrong")["error"] == "not_authenticated"
    endpoint = (service.state / "endpoint").read_text().strip()
    service.complaint(3, "--endpoint", endpoint, "--token", "wrong", "plan", "list")


def test_a_mistake_in_one_provider_is_shown_and_leaves_the_others(service):
    assert [each["name"] for each in service.get("/providers")] == ["main"]
    problems = service.get("/provider_problems")
    assert sorted(problems) == ["mistaken.conf", "nameless.conf"]
    assert "chunk_size is 300" in problems["mistaken.conf"]
    assert "name is missing" in problems["nameless.conf"]
    _, err = service.karbor("provider", "list")
    assert "mistaken.conf" in err
    assert "chunk_size is 300" in err


def test_a_resource_that_is_not_declared_any_more(service, folder):
    (folder / "file").write_text("content")
    service.declare("gone", folder)
    plan = service.plan(service.application("gone"))
    checkpoint = service.protect(plan)
    assert checkpoint["status"] == "available"
    (service.state / "hosts.d" / "gone.yaml").unlink()
    fails(service, plan, "application gone is not declared")
    status, fault = service.restore(checkpoint)
    assert (status, fault["error"]) == (409, "refused")
    assert "is not declared" in fault["message"]
    assert "is not declared" in service.complaint(5, "restore", "create", checkpoint["id"], "--yes")
    never = {"type": "Karbor::Host::Application", "id": "11111111-2222-4333-8444-555555555555", "name": "never"}
    fails(service, service.plan(never), "application never is not declared")


def test_a_restore_to_a_place_that_was_not_declared(service, kept, folder):
    root = folder / "root"
    root.mkdir()
    site = service.home / "shop"
    service.declare("shop", site, restore_roots=[str(root)])
    key = next(key for key in kept["resources_state"] if "Directory" in key)
    logs = service.get("/operation_logs")
    for target in (folder / "out", folder / "root-not", "/etc/karbor-restored", service.state / "x", service.bank):
        status, fault = service.restore(kept, parameters={key: {"restore_path": str(target)}})
        assert (status, fault["error"]) == (409, "refused"), target
        assert str(target) in fault["message"]
    line = service.complaint(5, "restore", "create", kept["id"], "--to", folder / "out", "--yes")
    assert str(folder / "out") in line
    assert service.get("/operation_logs") == logs
    status, begun = service.restore(kept, parameters={key: {"restore_path": str(root / "shop")}})
    assert status == 200
    assert service.ended(f"/restores/{begun['id']}")["status"] == "success"
    assert {each.name: each.read_bytes() for each in (root / "shop").iterdir()} == PAGES


@contextmanager
def restless(path: Path) -> Iterator[None]:
    """Somebody writes to a file all the time."""
    path.write_bytes(os.urandom(LARGE))
    ends = threading.Event()

    def write() -> None:
        with path.open("r+b", buffering=0) as file:
            while not ends.wait(0.001):
                os.pwrite(file.fileno(), os.urandom(8), 0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ends.set()
        writer.join()


def test_a_file_that_changes_while_it_is_read(service, folder):
    service.declare("restless", folder)
    service.declare("strict", directory(folder, on_change="fail"))
    lenient, strict = (service.plan(service.application(name)) for name in ("restless", "strict"))
    with restless(folder / "journal"):
        _, err = service.karbor("checkpoint", "create", lenient["id"], "--wait")
        fails(service, strict, "journal changed while it was read")
    assert f"{folder}: 1 changed while read: journal" in err
    (listed,) = [
        each
        for each in service.get(f"/providers/{lenient['provider_id']}/checkpoints")
        if each["protection_plan"]["id"] == lenient["id"]
    ]
    assert listed["status"] == "available"
    assert {"changed while read": 1} in [state["skipped_count"] for state in listed["resources_state"].values()]


@contextmanager
def when_opened(path: Path, act: Callable[[], None]) -> Iterator[None]:
    """Act as soon as anybody opens a file (inotify(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC)
    assert libc.inotify_add_watch(watch, os.fsencode(path), IN_OPEN) >= 0
    acted = []

    def wait() -> None:
        if select.select([watch], [], [], 60)[0]:
            act()
            acted.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield
    finally:
        waiting.join()
        os.close(watch)
    assert acted, f"nobody opened {path}"


def test_a_file_that_vanishes(service, folder):
    (folder / "a-large").write_bytes(os.urandom(LARGE))
    (folder / "z-fleeting").write_text("here for a moment")
    service.declare("fleeting", folder)
    plan = service.plan(service.application("fleeting"))
    with when_opened(folder / "a-large", (folder / "z-fleeting").unlink):
        checkpoint = service.protect(plan)
    assert checkpoint["status"] == "available", checkpoint["reason"]
    assert f"{folder}: 1 vanished: z-fleeting" in " ".join(checkpoint["warnings"])
    assert {"vanished": 1} in [state["skipped_count"] for state in checkpoint["resources_state"].values()]


def test_a_file_that_may_not_be_read(service, folder):
    secret = folder / "secret"
    secret.write_text("nobody may read this")
    secret.chmod(0)
    (folder / "plain").write_text("everybody may read this")
    service.declare("private", folder)
    fails(service, service.plan(service.application("private")), "cannot read secret: Permission denied")
    service.declare("private", directory(folder, excludes=["secret"]))
    checkpoint = service.protect(service.plan(service.application("private")))
    assert checkpoint["status"] == "available", checkpoint["reason"]
    assert {"excluded": 1} in [state["skipped_count"] for state in checkpoint["resources_state"].values()]


def test_one_resource_of_several_fails(service, folder):
    good, bad = folder / "good", folder / "bad"
    for path in (good, bad):
        path.mkdir()
        (path / "file").write_text("content")
    service.declare("half", good, bad)
    plan = service.plan(service.application("half"))
    shutil.rmtree(bad)
    checkpoint = fails(service, plan, f"{bad}: No such file or directory")
    told = {
        state: reason
        for key, reason in checkpoint["resources_reason"].items()
        if "Directory" in key and (state := checkpoint["resources_status"][key])
    }
    assert f"half > {bad}" in told["error"]
    assert told["available"] == ""
    for verb in (["restore", "create"], ["verification", "create"]):
        assert "is error, not available" in service.complaint(5, *verb, checkpoint["id"])
    assert service.restore(checkpoint)[0] == 409
    service.karbor("checkpoint", "delete", checkpoint["id"], "--wait")
    assert service.get(place(checkpoint))["status"] == "deleted"
    status, fault = service.restore(checkpoint)
    assert (status, fault["error"]) == (409, "conflict")
    assert "is deleted, not available" in fault["message"]


def test_two_restores_to_one_place_and_a_delete_under_them(service, plan):
    checkpoint = service.protect(plan)
    with service.pause():
        status, first = service.restore(checkpoint)
        assert status == 200
        status, fault = service.restore(checkpoint)
        assert (status, fault["error"]) == (409, "conflict")
        assert first["id"] in fault["message"]
        assert str(service.home / "shop") in fault["message"]
        assert first["id"] in service.complaint(5, "restore", "create", checkpoint["id"], "--yes")
        assert "it is being read" in service.fault(409, "DELETE", place(checkpoint))["message"]
        assert "it is being read" in service.complaint(5, "checkpoint", "delete", checkpoint["id"])
    assert service.ended(f"/restores/{first['id']}")["status"] == "success"
    assert service.get(place(checkpoint))["status"] == "available"
    assert service.http("DELETE", place(checkpoint))[0] == 200
    assert service.ended(place(checkpoint))["status"] == "deleted"


def test_declarations_that_others_may_write(service, plan):
    hosts = service.state / "hosts.d"
    hosts.chmod(0o777)
    try:
        cause = f"{hosts} is writable by others"
        assert cause in service.complaint(2, "protectable", "instance", "list", "application")
        fails(service, plan, cause)
    finally:
        hosts.chmod(0o700)
    assert service.protect(plan)["status"] == "available"


def fails(service: Standalone, plan: Item, cause: str) -> Item:
    """Protect by the command: it fails with the cause, and so say the API and the operation log. The checkpoint."""
    line = service.complaint(10, "checkpoint", "create", plan["id"], "--wait")
    assert cause in line
    newest = max(
        (
            each
            for each in service.get(f"/providers/{plan['provider_id']}/checkpoints")
            if each["protection_plan"]["id"] == plan["id"]
        ),
        key=lambda each: each["created_at_precise"],
    )
    assert newest["id"] in line
    assert newest["status"] == "error"
    assert cause in newest["reason"]
    entry = service.logged("protect", newest)
    assert (entry["status"], cause in entry["error_info"]) == ("error", True)
    return newest
