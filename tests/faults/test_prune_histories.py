"""Random lives of a repository: backups, forgetting, prunes and crashes in any order, and nothing needed is ever lost."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from tests.memory_bank import Crash, MemoryBank, SetClock

from karbor.bank.vault.locks import remove_locks
from karbor.bank.vault.nodes import Node
from karbor.bank.vault.prune import Pruner
from karbor.bank.vault.prune_mark import read_mark
from karbor.bank.vault.prune_plan import PruneLimits
from karbor.bank.vault.reader import Content
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.snapshot import Snapshot
from karbor.bank.vault.walk import walk
from karbor.errors import BankFull


class Epochs:
    """The service's part: the epoch and the runs that recorded one."""

    def __init__(self):
        self.epoch, self.runs = 1, []

    def current(self):
        return self.epoch

    def raise_to(self, epoch):
        self.epoch = epoch

    def older_runs_ended(self, epoch):
        return all(recorded >= epoch for recorded in self.runs)


def file_node(content, size):
    return Node(name=b"data", type="file", content=content, size=size, links=1)


def contents(repository):
    """Everything that snapshots hold, read through a repository that was just opened."""
    fresh = repository.reopened()
    snapshots = dict(fresh.snapshots())
    fresh.refresh_index()
    return {
        name: b"".join(map(content.load, range(len(content))))
        for name, snapshot in snapshots.items()
        for _, node in walk(fresh, snapshot.tree)
        for content in [Content.of(fresh, [node])]
    }


class History:
    """A random life of a repository, and what it must hold at every moment."""

    def __init__(self, seed):
        self.chance, self.clock = random.Random(seed), SetClock()
        self.bank, self.epochs, self.incarnation = MemoryBank(), Epochs(), 0
        self.repository = Repository.create(self.bank, "p/", "secret", clock=self.clock)
        self.blobs = [self.chance.randbytes(self.chance.choice([50, 5000])) for _ in range(12)]
        self.held, self.runs = {}, []

    def step(self):
        action = self.chance.choice([self.begin, self.write, self.write, self.end, self.forget, self.mark, self.sweep])
        # Some of the service's processes die in the middle of what they do, and some banks are full for a while.
        fate = self.chance.random()
        if fate < 0.2:
            self.bank.writes_left = self.chance.randrange(8)
        elif fate < 0.3:
            self.bank.room = sum(map(len, self.bank.objects.values())) + self.chance.randrange(10_000)
        try:
            action()
        except (Crash, BankFull):
            self.restart()
        finally:
            self.bank.writes_left = self.bank.room = None

    def restart(self):
        """All runs of the dead process have ended badly; another one removes its locks."""
        self.bank.writes_left = self.bank.room = None
        self.runs.clear()
        self.epochs.runs.clear()
        remove_locks(self.repository, f"i{self.incarnation}")
        self.incarnation += 1
        self.repository = Repository.open(self.bank, "p/", "secret", clock=self.clock)

    def begin(self):
        self.epochs.runs.append(self.epochs.current())
        self.runs.append((self.epochs.current(), self.repository.writer(), []))

    def write(self):
        if not self.runs:
            return
        _, writer, written = self.chance.choice(self.runs)
        for blob in self.chance.sample(self.blobs, 2):
            writer.save("data", blob)
            written.append(blob)
        if self.chance.random() < 0.5:
            writer.flush()

    def end(self):
        if not self.runs:
            return
        run = self.runs.pop(self.chance.randrange(len(self.runs)))
        epoch, writer, written = run
        if self.chance.random() < 0.8 and written:
            content = b"".join(writer.save("data", blob) for blob in written)
            tree = writer.save_tree([file_node(content, sum(map(len, written)))])
            writer.flush()
            snapshot = Snapshot(time=self.clock.now(), tree=tree, paths=("/p",))
            name, sealed = self.repository.prepare_snapshot(snapshot)
            self.repository.put_snapshot(name, sealed)
            self.held[name] = b"".join(written)
        self.epochs.runs.remove(epoch)

    def forget(self):
        if self.held:
            name = self.chance.choice(sorted(self.held))
            self.repository.forget(name)
            del self.held[name]

    def pruner(self):
        limits = PruneLimits(dead_share=self.chance.choice([0.0, 0.3]))
        name = f"i{self.incarnation}"
        return Pruner(self.repository, self.epochs, incarnation=name, grace=timedelta(), limits=limits)

    def mark(self):
        mark = read_mark(self.repository.documents)
        if mark is None or mark.swept or mark.epoch > self.epochs.current():
            self.pruner().mark()

    def sweep(self):
        self.pruner().sweep()


@pytest.mark.parametrize("seed", range(300))
def test_no_history_loses_what_a_snapshot_needs(seed):
    live(seed)


@pytest.mark.long
def test_no_history_of_ten_thousand_loses_what_a_snapshot_needs():
    for seed in range(300, 10_300):
        live(seed)


def live(seed):
    history = History(seed)
    for _ in range(40):
        history.step()
        assert contents(history.repository) == history.held
    # In the end nothing is left that nothing needs.
    history.restart()
    mark = read_mark(history.repository.documents)
    if mark is None or mark.swept or mark.epoch > history.epochs.current():
        history.pruner().mark()
    history.sweep()
    history.pruner().mark()
    history.sweep()
    assert contents(history.repository) == history.held
    plan = Pruner(history.repository, history.epochs, incarnation="end", grace=timedelta()).plan()
    assert plan.dead == ()
