"""Chaos: real worker processes on a real database are killed, stopped and continued until enough have died; then the
audit says whether anything was lost, done twice or left behind.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import msgspec
from tests.faults.chaos_worker import compose, serve
from tests.ledger import PROVIDER, THING

from karbor.bank.checkpoints import held
from karbor.bank.rootkey import make_key_file
from karbor.bank.vault.check import EVERYTHING, check
from karbor.domain.checkpoint import Checkpoint
from karbor.domain.context import Caller
from karbor.domain.operation import Restore
from karbor.protection.catalogue import Query

if TYPE_CHECKING:
    from pathlib import Path

    from karbor.app import Application

CALLER = Caller(user_id="u", project_id="c" * 32, roles=("member",))
LEASE = 3.0
# Forks workers from a process that has imported everything: a worker lives again in milliseconds.
NURSERY = multiprocessing.get_context("forkserver")
NURSERY.set_forkserver_preload(["tests.faults.chaos_worker"])
CONFIG = """\
[DEFAULT]
state_path = {folder}
host_resources = True
[database]
connection = {url}
[worker]
threads = 3
lease = {lease}
heartbeat = 0.5
max_tries = 1000
drain = 2
"""


class Audit(msgspec.Struct, kw_only=True):
    """What the chaos left. Everything but `kills`, `checkpoints` and `takeovers` must be zero or empty."""

    kills: int = 0
    stops: int = 0
    checkpoints: int = 0
    lost: int = 0
    duplicates: int = 0
    orphans: int = 0
    stuck: int = 0
    wrong: list[str] = msgspec.field(default_factory=list)


class Chaos:
    """Some runs, some workers, and somebody who kills them."""

    def __init__(self, folder: Path, url: str, *, seed: int, workers: int = 2) -> None:
        self.folder, self.dice, self.audit = folder, random.Random(seed), Audit()
        folder.mkdir(parents=True, exist_ok=True)
        config = CONFIG.format(folder=folder, url=url or f"sqlite:///{folder}/karbor.db", lease=LEASE)
        (folder / "karbor.conf").write_text(config)
        (folder / "things").write_text("server disk net\ndisk\nnet\nother disk\nbad disk\n")
        make_key_file(folder / "root.key", os.urandom)
        self.app, self.world = compose(folder)
        self.app.upgrade_database()
        self.workers: list[Any] = [None] * workers
        self.plans: dict[str, Any] = {}

    def close(self) -> None:
        """End what is left of the workers, and let go of the database."""
        self._end_workers(signal.SIGKILL)
        self.app.database.close()

    # --- the work

    def ask(self) -> None:
        """Begin one more operation: mostly protects, some of them bound to fail, restores and deletes of what there is."""
        what = self.dice.random()
        known = self._listed(Checkpoint, {"status": "available"})
        if known and what < 0.2:
            chosen = self.dice.choice(known)
            self._try(lambda: self.app.service.delete_checkpoint(CALLER, PROVIDER, chosen.id))
        elif known and what < 0.4:
            chosen = self.dice.choice(known)
            self._try(
                lambda: self.app.service.restore(
                    CALLER,
                    provider_id=PROVIDER,
                    checkpoint_id=chosen.id,
                    parameters={THING: {"restore_name": chosen.id}},
                )
            )
        else:
            root = "bad" if what > 0.9 else self.dice.choice(["server", "other"])
            self.app.service.protect(CALLER, PROVIDER, self._plan(root).id, {})

    def _plan(self, root: str) -> Any:
        if root not in self.plans:
            self.plans[root] = self.app.service.create_plan(
                CALLER,
                name=root,
                description=None,
                provider_id=PROVIDER,
                resources=[self.world.things[root]],
                parameters={},
            )
        return self.plans[root]

    def _try(self, ask: Any) -> None:
        from karbor.errors import Conflict, KarborError

        try:
            ask()
        except Conflict:
            pass
        except KarborError as error:
            self.audit.wrong.append(f"a request failed: {error}")

    def _listed(self, kind: Any, filters: dict[str, Any]) -> list[Any]:
        return self.app.catalogue.list(kind, Query(scope=CALLER.project_id, filters=filters))

    # --- the chaos

    def run(self, kills: int, *, seconds: float) -> Audit:
        """Kill until `kills` workers have died, then let the survivors finish, then look."""
        ends = time.monotonic() + seconds
        while self.audit.kills < kills and time.monotonic() < ends:
            self._keep_working(odds=150)
            if len(self._busy()) < 6:
                self.ask()
            self._hurt()
        self._end_workers(signal.SIGKILL)
        calm = time.monotonic() + 120
        while self._busy() and time.monotonic() < calm:
            self._keep_working(odds=0)
            time.sleep(0.2)
        self._end_workers(signal.SIGTERM)
        return self._look()

    def _keep_working(self, odds: int) -> None:
        for i, process in enumerate(self.workers):
            if process is None or process.exitcode is not None:
                if process is not None and process.exitcode == -signal.SIGKILL:
                    self.audit.kills += 1
                elif process is not None and process.exitcode:
                    self.audit.wrong.append(f"a worker ended with {process.exitcode}")
                self.workers[i] = NURSERY.Process(target=serve, args=(self.folder, self.dice.randrange(1 << 30), odds))
                self.workers[i].start()

    def _hurt(self) -> None:
        """Kill a worker at a random moment, or stop one until others have taken over, and continue it then."""
        time.sleep(self.dice.uniform(0.05, 0.5))
        victim = self.dice.choice(self.workers)
        if victim is None or victim.pid is None or victim.exitcode is not None:
            return
        what = self.dice.random()
        if what < 0.15:
            os.kill(victim.pid, signal.SIGKILL)
        elif what < 0.18:
            os.kill(victim.pid, signal.SIGSTOP)
            time.sleep(LEASE + 1.5)
            os.kill(victim.pid, signal.SIGCONT)
            self.audit.stops += 1

    def _end_workers(self, number: int) -> None:
        for process in self.workers:
            if process is not None and process.pid is not None and process.exitcode is None:
                os.kill(process.pid, signal.SIGCONT)
                os.kill(process.pid, number)
                process.join(30)
                if process.exitcode is None:
                    self.audit.wrong.append("a worker did not end")
                    process.kill()
                    process.join()
        self.workers = [None] * len(self.workers)

    def _busy(self) -> list[Any]:
        found = [self._listed(Checkpoint, {"status": status}) for status in ("protecting", "deleting")]
        return [each for group in (*found, self._listed(Restore, {"status": "in_progress"})) for each in group]

    # --- the audit

    def _look(self) -> Audit:
        audit, app = self.audit, self.app
        checkpoints = self._listed(Checkpoint, {})
        restores = self._listed(Restore, {})
        audit.checkpoints = len(checkpoints)
        audit.stuck = len(self._busy())
        audit.wrong += [
            f"{each.plan_name}: {each.status}: {each.reason}" for each in checkpoints if not _expected(each)
        ]
        audit.wrong += [f"restore {each.status}: {each.reason}" for each in restores if each.status != "success"]
        self._look_outside(checkpoints, restores)
        self._look_into_bank(app, checkpoints)
        return audit

    def _look_outside(self, checkpoints: list[Checkpoint], restores: list[Restore]) -> None:
        entries = self.world.all()
        tags = [tag for tag, _, _ in entries]
        self.audit.duplicates += len(tags) - len(set(tags))
        available = {each.id: len(each.states) for each in checkpoints if each.status == "available"}
        for kind, expected in (
            ("temporary", 0),
            ("snapshot", sum(available.values())),
            ("restored", sum(len(each.restored) for each in restores)),
        ):
            found = sum(entry[1] == kind for entry in entries)
            self.audit.orphans += max(0, found - expected)
            self.audit.lost += max(0, expected - found)

    def _look_into_bank(self, app: Application, checkpoints: list[Checkpoint]) -> None:
        repository = app.vaults.open(app.providers.get(PROVIDER), CALLER.project_id)
        kept = {each.snapshot_id: each.checkpoint_id for each in held(repository)}
        wanted = {each.snapshot_id: each.id for each in checkpoints if each.status == "available"}
        self.audit.lost += len(wanted.keys() - kept.keys())
        self.audit.orphans += len(kept.keys() - wanted.keys())
        report = check(repository, snapshots=set(wanted), rotation=EVERYTHING)
        self.audit.wrong += [f"{finding.key}: {finding.problem}" for finding in report.findings]


def _expected(checkpoint: Checkpoint) -> bool:
    return checkpoint.status in ({"error", "deleted"} if checkpoint.plan_name == "bad" else {"available", "deleted"})
