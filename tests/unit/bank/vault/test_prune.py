"""Prune: frees what nothing needs, and never what a snapshot or a run may need, whenever it is cut off."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from tests.memory_bank import MemoryBank

from karbor.bank.vault.locks import HeldLock
from karbor.bank.vault.nodes import Node
from karbor.bank.vault.prune import Pruner
from karbor.bank.vault.prune_mark import read_mark
from karbor.bank.vault.prune_plan import PruneLimits
from karbor.bank.vault.reader import Content
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.snapshot import Snapshot
from karbor.bank.vault.walk import walk
from karbor.bank.vault.wireformat import go_json, go_time
from karbor.errors import BankFull, Damaged, Refused


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


@pytest.fixture
def epochs():
    return Epochs()


@pytest.fixture
def pruner(repository, epochs):
    def make(**options):
        return Pruner(repository, epochs, incarnation="p1", **({"grace": timedelta()} | options))

    return make


def file_node(content, size):
    return Node(name=b"data", type="file", content=content, size=size, links=1)


def save(repository, blobs):
    """Blobs as a file in a snapshot of its own; the snapshot's id."""
    with repository.writer() as writer:
        content = b"".join(writer.save("data", blob) for blob in blobs)
        tree = writer.save_tree([file_node(content, sum(map(len, blobs)))])
    return commit(repository, tree)


def commit(repository, tree):
    name, sealed = repository.prepare_snapshot(Snapshot(time=repository.clock.now(), tree=tree, paths=("/p",)))
    repository.put_snapshot(name, sealed)
    return name


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


def packs(repository):
    return {stat.key[-64:] for stat in repository.documents.stats("data")}


def test_what_nothing_needs_goes_and_the_rest_stays(repository, pruner):
    blobs = [os.urandom(10_000) for _ in range(6)]
    first = save(repository, blobs[:3])
    dead = packs(repository)
    second = save(repository, blobs[3:])
    repository.forget(first)
    plan = pruner().plan()
    assert {use.pack.hex() for use in plan.dead} == dead
    assert {use.reason for use in plan.dead} == {"not needed"}
    assert (plan.repack, plan.snapshots, plan.packs) == ((), 1, 4)
    assert packs(repository) > dead
    assert pruner().mark() == plan
    swept = pruner().sweep()
    assert (swept.deleted_packs, swept.freed_bytes, swept.kept_packs) == (2, plan.reclaimable, 0)
    assert not packs(repository) & dead
    assert contents(repository) == {second: b"".join(blobs[3:])}
    assert pruner().sweep().postponed == "there is no mark to sweep"


def test_living_parts_of_mostly_dead_packs_are_copied(repository, pruner):
    blobs = [os.urandom(10_000) for _ in range(6)]
    first = save(repository, blobs)
    second = save(repository, blobs[:2])
    repository.forget(first)
    assert [use.reason for use in pruner().plan().repack] == ["mostly not needed"]
    assert pruner(limits=PruneLimits(dead_share=0.9)).plan().repack == ()
    assert pruner(limits=PruneLimits(copy_bytes=100)).plan().repack == ()
    before = sum(stat.size for stat in repository.documents.stats("data"))
    pruner().mark()
    assert contents(repository) == {second: b"".join(blobs[:2])}
    swept = pruner().sweep()
    assert sum(stat.size for stat in repository.documents.stats("data")) < before / 2
    assert swept.deleted_packs == 2
    assert contents(repository) == {second: b"".join(blobs[:2])}


def test_many_small_packs_are_joined(repository, pruner):
    kept = {save(repository, [b"%d" % number * 100]): b"%d" % number * 100 for number in range(20)}
    assert len(packs(repository)) == 40
    pruner().mark()
    pruner().sweep()
    assert len(packs(repository)) == 2
    assert len(list(repository.documents.names("index"))) == 1
    assert contents(repository) == kept


def test_packs_of_writers_that_died_go(repository, pruner):
    writer = repository.writer()
    writer.save("data", b"x")
    for slot in writer._slots["data"]:
        writer._send(slot)
    plan = pruner().mark()
    assert [use.reason for use in plan.dead] == ["in no index file"]
    assert pruner().sweep().deleted_packs == 1


def test_a_run_of_an_older_epoch_is_waited_for_and_what_it_needs_stays(repository, epochs, pruner):
    blob = os.urandom(10_000)
    repository.forget(save(repository, [blob]))
    epochs.runs.append(epochs.current())
    writer = repository.writer()
    content = writer.save("data", blob)
    assert writer.added_bytes == 0
    pruner().mark()
    assert "have not ended" in pruner().sweep().postponed
    tree = writer.save_tree([file_node(content, len(blob))])
    writer.flush()
    name = commit(repository, tree)
    epochs.runs.clear()
    assert pruner().sweep().kept_packs >= 1
    assert contents(repository) == {name: blob}


def test_a_run_of_the_new_epoch_writes_again_what_is_marked(repository, epochs, pruner):
    blob = os.urandom(10_000)
    repository.forget(save(repository, [blob]))
    pruner().mark()
    epochs.runs.append(epochs.current())
    name = save(repository, [blob])
    assert pruner().sweep().deleted_packs == 2
    assert contents(repository) == {name: blob}
    # And who still has the index of before relies on nothing of it.
    again = save(repository, [blob])
    assert contents(repository) == {name: blob, again: blob}


def test_the_grace_is_waited_for(repository, pruner, clock):
    repository.forget(save(repository, [b"x" * 100]))
    pruner().mark()
    waiting = pruner(grace=timedelta(hours=1))
    assert "the grace ends at 2026-11-22T13:00:0" in waiting.sweep().postponed
    clock.seconds += 3600
    assert waiting.sweep().deleted_packs == 2


def test_a_mark_is_swept_before_the_next(repository, pruner):
    repository.forget(save(repository, [b"x" * 100]))
    pruner().mark()
    with pytest.raises(Refused, match="epoch 2"):
        pruner().mark()
    pruner().sweep()
    pruner().mark()


def test_a_lock_of_plain_restic_postpones_the_sweep(repository, pruner):
    repository.forget(save(repository, [b"x" * 100]))
    pruner().mark()
    lock = HeldLock(time=go_time(repository.now_ns()), hostname="desk", username="admin", pid=5)
    name = repository.documents.put("locks", go_json(lock))
    assert "admin@desk" in pruner().sweep().postponed
    repository.documents.delete("locks", name)
    assert pruner().sweep().deleted_packs == 2


def test_snapshots_of_the_catalogue_count_though_the_listing_lags(repository, pruner, monkeypatch):
    name = save(repository, [b"x" * 100])
    gone = save(repository, [b"y" * 100])
    repository.forget(gone)
    real = type(repository.documents).names
    monkeypatch.setattr(
        type(repository.documents),
        "names",
        lambda self, folder: iter(()) if folder == "snapshots" else real(self, folder),
    )
    pruner(roots=[name, gone]).mark()
    pruner(roots=[name, gone]).sweep()
    monkeypatch.undo()
    assert contents(repository) == {name: b"x" * 100}


def test_a_damaged_repository_is_left_alone(repository, pruner, bank):
    name = save(repository, [b"x" * 100])
    tree = repository.snapshot(name).tree
    repository.forget(save(repository, [b"y" * 100]))
    bank.delete(repository.pack_path(repository.index.place("tree", tree).pack))
    before = packs(repository)
    with pytest.raises(Damaged, match="is missing"):
        pruner().mark()
    assert packs(repository) == before
    assert read_mark(repository.documents) is None
    assert not list(repository.documents.names("locks"))


def test_a_mark_that_was_cut_off_is_made_again(repository, epochs, pruner, monkeypatch):
    repository.forget(save(repository, [b"x" * 100]))
    monkeypatch.setattr(epochs, "raise_to", lambda _: None)
    pruner().mark()
    monkeypatch.undo()
    assert "cut off" in pruner().sweep().postponed
    pruner().mark()
    assert pruner().sweep().deleted_packs == 2


def test_a_full_bank_can_be_pruned(clock, epochs):
    bank = MemoryBank()
    repository = Repository.create(bank, "p/", "secret", clock=clock)
    blobs = [os.urandom(200_000) for _ in range(4)]
    half = save(repository, blobs)
    kept = save(repository, blobs[:1])
    gone = save(repository, [os.urandom(300_000)])
    repository.forget(half)
    repository.forget(gone)
    bank.room = sum(map(len, bank.objects.values()))
    with pytest.raises(BankFull):
        save(repository, [os.urandom(1000)])
    bank.room = sum(map(len, bank.objects.values()))
    pruner = Pruner(repository, epochs, incarnation="p", grace=timedelta())
    plan = pruner.mark()
    assert plan.dead
    assert pruner.sweep().freed_bytes > 300_000
    assert contents(repository) == {kept: blobs[0]}
    assert "karbor-ballast" in bank.objects
    save(repository, [os.urandom(1000)])
