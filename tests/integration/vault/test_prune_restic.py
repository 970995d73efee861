"""Our prune under plain restic's eyes: nothing is missing afterwards, also where it was killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from karbor.bank.vault.check import EVERYTHING
from karbor.bank.vault.check import check as check_ours
from karbor.bank.vault.nodes import Node
from karbor.bank.vault.prune import Pruner

PRUNE = """
import json, sys, time
from datetime import UTC, datetime, timedelta
from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault import index, prune
from karbor.bank.vault.prune_plan import PruneLimits
from karbor.bank.vault.repository import Repository
class Clock:
    now = staticmethod(lambda: datetime.now(UTC)); monotonic = staticmethod(time.monotonic); sleep = staticmethod(lambda _: None)
class Epochs:
    epoch = int(sys.argv[3])
    def current(self): return self.epoch
    def raise_to(self, epoch): self.epoch = epoch
    def older_runs_ended(self, epoch): return True
prune.INDEX_BLOBS = 40
opened = Repository.open(FilesystemBank(sys.argv[1]), sys.argv[2], "integration", clock=Clock())
pruner = prune.Pruner(opened, Epochs(), incarnation="child", grace=timedelta(), limits=PruneLimits(dead_share=0.0))
print("pruning", flush=True)
try:
    pruner.mark()
except prune.Refused:
    pass
pruner.sweep()
print("done", flush=True)
"""


class Epochs:
    epoch = 1

    def current(self):
        return self.epoch

    def raise_to(self, epoch):
        self.epoch = epoch

    def older_runs_ended(self, epoch):
        return True


@pytest.fixture
def save(repository, commit):
    """Make a checkpoint of some of a few hundred blobs; its snapshot's id."""
    chance = random.Random(7)
    universe = [chance.randbytes(chance.choice([300, 20_000])) for _ in range(200)]

    def save():
        blobs = chance.sample(universe, 60)
        with repository.writer() as writer:
            content = b"".join(writer.save("data", blob) for blob in blobs)
            node = Node(name=b"data", type="file", content=content, size=sum(map(len, blobs)), links=1)
            inner = writer.save_tree([node])
            tree = writer.save_tree([Node(name=b"volume", type="dir", subtree=inner)])
        return commit(tree)

    return save


def test_what_we_prune_is_clean_for_restic(repository, save, check, restic):
    snapshots = [save() for _ in range(6)]
    for name in snapshots[:4]:
        repository.forget(name)
    pruner = Pruner(repository, Epochs(), incarnation="p", grace=timedelta())
    before = sum(stat.size for stat in repository.documents.stats("data"))
    pruner.mark()
    check()
    assert pruner.sweep().deleted_packs
    check()
    assert sum(stat.size for stat in repository.documents.stats("data")) < before
    restic("prune", "--max-unused", "0")
    check()
    assert check_ours(repository, snapshots=snapshots[4:], rotation=EVERYTHING).clean


def test_a_prune_killed_at_any_moment_is_clean_for_restic_and_goes_on(repository, save, check, restic, bank):
    held = [save() for _ in range(4)]
    chance = random.Random(3)
    for epoch in range(8):
        repository.forget(held.pop(0))
        held.append(save())
        child = subprocess.Popen(
            [sys.executable, "-c", PRUNE, bank.location, repository.prefix, str(10 * epoch + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "pruning\n"
        time.sleep(chance.random() * 0.15)
        child.kill()
        child.wait()
        child.stdout.close()
        restic("unlock", "--remove-all")
        assert "no errors were found" in restic("check")
    check()
    for epoch in (1000, 2000):  # the first may find a mark of a child that was killed
        command = [sys.executable, "-c", PRUNE, bank.location, repository.prefix, str(epoch)]
        assert "done" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    check()
    report = check_ours(repository, snapshots=held, rotation=EVERYTHING)
    assert report.clean
    assert report.unused == ()
