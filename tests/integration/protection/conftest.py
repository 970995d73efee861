"""The whole service in one process, on SQLite and a folder, with a plugin whose outside world is a ledger on disk."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from karbor.app import Application
from karbor.bank.rootkey import make_key_file
from karbor.bank.stores.filesystem import open_bank
from karbor.domain.context import Caller
from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import Resource
from karbor.errors import ResourceFailed, Unavailable
from karbor.protection.inventory import Inventory
from karbor.providers import Provider, Providers
from karbor.sdk.protectable import Protectable
from karbor.sdk.protection import Protection
from karbor.settings import read

if TYPE_CHECKING:
    from pathlib import Path

THING = "Test::Thing"
PROVIDER = "11111111-2222-4333-8444-555555555555"
CALLER = Caller(user_id="u", project_id="p" * 32, project_name="demo", roles=("member",))


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    restore_name: str | None = None


class Things(Protectable):
    """Resources are lines of a file; what they depend on stands in their extra_info."""

    type = THING
    parents = (THING,)

    def __init__(self, world: World) -> None:
        self.world = world

    def list(self, session):
        if self.world.listing_fails:
            raise Unavailable("the ledger cannot be listed")
        return list(self.world.things.values())

    def dependents(self, session, parents):
        known = {thing.id: thing for thing in self.list(session)}
        return {parent.key: [known[i] for i in (parent.extra_info or {}).get("needs", [])] for parent in parents}


class Ledger(Protection):
    """Makes entries in a ledger, tagged, so that every double and every orphan can be counted."""

    name = "test-ledger"
    types = (THING,)
    restore_options = Options

    def __init__(self, world: World) -> None:
        self.world = world

    def _of(self, op, what: str) -> str:
        return str((op.resource.extra_info or {}).get(what, ""))

    def preflight_protect(self, op):
        yield PreflightItem(resource=op.resource.key, action="read", what=op.resource.name)

    def preflight_restore(self, op):
        refused = "refuse" in self._of(op, "restore")
        yield PreflightItem(
            resource=op.resource.key,
            action="refuse" if refused else "create",
            what=op.options.get("restore_name") or op.resource.id,
            reason="told to" if refused else "",
        )

    def protect_prepare_finish(self, op) -> None:
        op.once("snapshot", lambda tag: self.world.make(tag, "snapshot"), self.world.find)

    def protect_main(self, op) -> None:
        mode = self._of(op, "protect")
        op.defer("temporary", lambda: self.world.remove_kind(op.resource.id, "temporary"))
        op.once("temporary", lambda tag: self.world.make(tag, "temporary", op.resource.id), self.world.find)
        if mode == "slow":
            op.poll(lambda: self.world.released.is_set() or None, every=0.05, deadline=60)
        if mode == "hang":
            op.poll(lambda: None, every=0.05, deadline=0.3, name="the backup")
        if mode == "fail":
            raise ResourceFailed("the disk has a bad sector", hint="replace it")
        if mode == "raise":
            raise ZeroDivisionError("oops")
        if mode == "flaky" and self.world.count("tries") < 2:
            self.world.add("tries")
            raise Unavailable("come back later")
        op.vault.write_stream(iter([op.resource.id.encode() * 1000]))
        op.save({"snapshot": op.made("snapshot")}, location="bank", consistency="crash")

    def protect_undo(self, op) -> None:
        made = op.made("snapshot")
        if made:
            self.world.remove(made)

    def restore_main(self, op) -> None:
        data = b"".join(op.vault.read_stream())
        assert data == op.resource.id.encode() * 1000
        new = op.once("new", lambda tag: self.world.make(tag, "restored", op.resource.id), self.world.find)
        op.register(Resource(type=THING, id=new, name=op.options.get("restore_name") or op.resource.name))
        if self._of(op, "restore") == "fail":
            raise ResourceFailed("no room in the new place")

    def restore_undo(self, op) -> None:
        made = op.made("new")
        if made:
            self.world.remove(made)

    def verify_main(self, op) -> None:
        op.vault.verify()

    def delete_main(self, op) -> None:
        self.world.remove(op.saved["snapshot"])


class World:
    """The outside: a ledger of what exists, and what the test wants to go wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.things: dict[str, Resource] = {}
        self.listing_fails = False
        self.released = threading.Event()
        self._lock = threading.Lock()
        path.write_text("{}")

    def _change(self, work):
        with self._lock:
            entries = json.loads(self.path.read_text())
            result = work(entries)
            self.path.write_text(json.dumps(entries))
            return result

    def thing(self, ident: str, **extra: Any) -> Resource:
        self.things[ident] = Resource(type=THING, id=ident, name=f"thing {ident}", extra_info=extra or None)
        return self.things[ident]

    def make(self, tag: str, kind: str, of: str = "") -> str:
        return self._change(
            lambda entries: (
                entries.setdefault(f"{kind}-{len(entries)}-{tag[-8:]}", [tag, kind, of]) and list(entries)[-1]
            )
        )

    def find(self, tag: str) -> str | None:
        return self._change(lambda entries: next((name for name, (own, *_) in entries.items() if own == tag), None))

    def remove(self, name: str) -> None:
        self._change(lambda entries: entries.pop(name, None))

    def remove_kind(self, of: str, kind: str) -> None:
        self._change(lambda entries: [entries.pop(n) for n, e in list(entries.items()) if e[1:] == [kind, of]])

    def add(self, kind: str) -> None:
        self._change(lambda entries: entries.setdefault(f"{kind}{len(entries)}", ["", kind, ""]))

    def count(self, kind: str) -> int:
        return self._change(lambda entries: sum(entry[1] == kind for entry in entries.values()))


class Running:
    """The service, with one worker on threads of this process."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "ledger.json")
        config = folder / "karbor.conf"
        config.write_text(
            f"[DEFAULT]\nstate_path = {folder}\nhost = here\nhost_resources = True\n[worker]\nthreads = 3\n"
        )
        make_key_file(folder / "root.key", lambda size: bytes(range(size)))
        self.app = Application(read([config]))
        self.plugin = Ledger(self.world)
        self.grace = "0"
        self.bank = folder / "bank"
        self.app.__dict__["providers"] = Providers([self._provider()], {})
        self.app.__dict__["inventory"] = Inventory({THING: Things(self.world)}, {})
        self.app.upgrade_database()
        self.service = self.app.service
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.app.run_worker, args=(self.stop,), daemon=True)

    def _provider(self) -> Provider:
        sections = {"provider": {"id": [PROVIDER], "name": ["test"], "delete_grace": ["0"]}}
        return Provider(sections, "test.conf", lambda: open_bank({"path": str(self.bank)}), [self.plugin])

    def plan(self, *resources: Resource):
        return self.service.create_plan(
            CALLER, name="plan", description=None, provider_id=PROVIDER, resources=list(resources), parameters={}
        )

    def wait(self, look, *, seconds: float = 60):
        """Poll until `look()` gives something that is under way no longer."""
        ticks = int(seconds / 0.05)
        for _ in range(ticks):
            found = look()
            if found.status not in {"protecting", "in_progress", "deleting"}:
                return found
            threading.Event().wait(0.05)
        raise AssertionError(f"not over after {seconds} s: {found}")

    def protect(self, *resources: Resource):
        begun = self.service.protect(CALLER, PROVIDER, self.plan(*resources).id, {})
        return self.wait(lambda: self.service.checkpoint(CALLER, PROVIDER, begun.id))


@pytest.fixture
def running(tmp_path: Path):
    service = Running(tmp_path)
    service.thread.start()
    yield service
    service.world.released.set()
    service.stop.set()
    service.thread.join(30)
    assert not service.thread.is_alive()
