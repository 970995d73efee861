"""One worker process of the chaos suite: the real worker, with a ledger for a cloud, that may kill itself anywhere.

With the given odds (one in so many) the process ends by SIGKILL on either side of every call of the journal and of
every change outside.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
from typing import TYPE_CHECKING

from tests.ledger import PROVIDER, THING, Ledger, Things, World

from karbor.app import Application
from karbor.bank.stores.filesystem import open_bank
from karbor.protection.inventory import Inventory
from karbor.providers import Provider, Providers
from karbor.settings import read

if TYPE_CHECKING:
    from pathlib import Path

STEPS = ("claim", "finish", "finish_many", "record", "records", "all_records", "steps")


def compose(folder: Path, interrupt=lambda: None) -> tuple[Application, World]:
    """The service over the folder of one chaos run."""
    world = World(folder / "ledger.db", interrupt)
    for line in (folder / "things").read_text().splitlines():
        ident, *needs = line.split()
        world.thing(ident, needs=needs, **({"protect": "fail"} if ident.startswith("bad") else {}))
    app = Application(read([folder / "karbor.conf"]))
    sections = {"provider": {"id": [PROVIDER], "name": ["chaos"], "delete_grace": ["0"]}}
    provider = Provider(sections, "chaos", lambda: open_bank({"path": str(folder / "bank")}), [Ledger(world)])
    app.__dict__["providers"] = Providers([provider], {})
    app.__dict__["inventory"] = Inventory({THING: Things(world)}, {})
    return app, world


class Dicey:
    """A journal whose every call may be the process's last, before or after it took place."""

    def __init__(self, journal, interrupt) -> None:
        self._journal, self._interrupt = journal, interrupt

    def __getattr__(self, name):
        call = getattr(self._journal, name)
        if name not in STEPS:
            return call

        def dicey(*arguments, **named):
            self._interrupt()
            answer = call(*arguments, **named)
            self._interrupt()
            return answer

        return dicey


def serve(folder: Path, seed: int, odds: int) -> None:
    """Be a worker until told to stop, or until the dice fall so."""
    with (folder / "workers.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    logging.basicConfig(level=logging.WARNING, format=f"{os.getpid()} %(message)s", force=True)
    dice = random.Random(seed)

    def interrupt() -> None:
        if odds and dice.randrange(odds) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    app, _ = compose(folder, interrupt)
    app.__dict__["journal"] = Dicey(app.journal, interrupt)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    app.run_worker(stop)
