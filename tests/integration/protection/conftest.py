"""The whole service in one process, on SQLite and a folder, with a plugin whose outside world is a ledger on disk."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.ledger import PROVIDER, THING, Ledger, Things, World

from karbor.app import Application
from karbor.bank.rootkey import make_key_file
from karbor.bank.stores.filesystem import open_bank
from karbor.domain.context import Caller
from karbor.domain.resource import Resource
from karbor.protection.inventory import Inventory
from karbor.providers import Provider, Providers
from karbor.settings import read

CALLER = Caller(user_id="u", project_id="p" * 32, project_name="demo", roles=("member",))


class Running:
    """The service, with one worker on threads of this process."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "ledger.db")
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
