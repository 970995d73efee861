"""Protecting into a bank that fails, loses answers, repeats requests and fills up: done, or a clear end, and nothing
that was there before is harmed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from random import Random

import pytest

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.files_read import restore_tree
from karbor.bank.vault.files_write import write_tree
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.snapshot import Snapshot
from karbor.bank.wrappers import Retrying
from karbor.errors import BankError, BankFull
from karbor.sdk.contract.faulty import Chances, Fault, FaultyBank
from karbor.sdk.vault import RestoreOptions, TreeOptions
from karbor.system import SystemClock

PREFIX, PASSPHRASE = "provider/project-g1/", "of the tests"
CHANCES = Chances(
    of={"fail": 0.05, "lost answer": 0.05, "throttle": 0.05, "delay": 0.02, "twice": 0.05, "late repeat": 0.05}
)
RUNS = 25


def fill(root, seed):
    chance = Random(seed)
    for number in range(30):
        path = root / f"d{number % 4}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.choice((10, 1000, 200_000))) * chance.choice((1, 3)))


def opened(path):
    path.mkdir(exist_ok=True)
    return os.open(path, os.O_RDONLY)


def protect(bank, source):
    """One checkpoint; returns the directory's node, or raises."""
    repository = Repository.open(bank, PREFIX, PASSPHRASE, clock=SystemClock())
    with repository.writer() as writer:
        root = opened(source)
        try:
            node = write_tree(writer, root, TreeOptions()).node
        finally:
            os.close(root)
        tree = writer.save_tree([node])
    snapshot = Snapshot(time=SystemClock().now(), tree=tree, paths=("/data",))
    repository.put_snapshot(*repository.prepare_snapshot(snapshot))
    return node


def restored_equals(store, node, source, target):
    repository = Repository.open(store, PREFIX, PASSPHRASE, clock=SystemClock())
    repository.refresh_index()
    into = opened(target)
    assert restore_tree(repository, node, into, RestoreOptions(owners=True)).skipped == ()
    os.close(into)
    assert subprocess.run(["diff", "-r", source, target], check=False).returncode == 0
    shutil.rmtree(target)


@pytest.fixture
def store(tmp_path):
    store = FilesystemBank(str(tmp_path / "bank"))
    Repository.create(store, PREFIX, PASSPHRASE, clock=SystemClock())
    yield store
    store.close()


def restic_finds_nothing_wrong(store):
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    command = ["restic", "-r", f"{store.location}/{PREFIX}", "--no-cache", "check", "--read-data"]
    environment = {"RESTIC_PASSWORD": PASSPHRASE, "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("retried", [False, True])
def test_a_run_ends_clean_or_finishes(store, tmp_path, retried):
    first = tmp_path / "first"
    fill(first, 0)
    kept = protect(store, first)
    finished = faults = 0
    for seed in range(1, RUNS + 1):
        source = tmp_path / "source"
        shutil.rmtree(source, ignore_errors=True)
        fill(source, seed // 3)  # some of it is in the bank already
        faulty = FaultyBank(store, chances=CHANCES, seed=seed)
        try:
            node = protect(Retrying(faulty, attempts=9, sleep=lambda seconds: None) if retried else faulty, source)
        except BankError:
            node = None
        faulty.settle()
        faults += len(faulty.happened)
        if node is not None:
            finished += 1
            restored_equals(store, node, source, tmp_path / "target")
    restored_equals(store, kept, first, tmp_path / "target")
    restic_finds_nothing_wrong(store)
    assert faults > RUNS
    assert finished == RUNS if retried else 0 < finished < RUNS


@pytest.mark.parametrize("folder", ["data", "index", "snapshots"])
def test_a_bank_without_room_ends_the_run_and_harms_nothing(store, tmp_path, folder):
    first, second = tmp_path / "first", tmp_path / "second"
    fill(first, 0)
    fill(second, 1)
    kept = protect(store, first)
    full = FaultyBank(store, script=[Fault(kind="full", call="put", key=f"{PREFIX}{folder}/", times=99)])
    with pytest.raises(BankFull):
        protect(Retrying(full, sleep=lambda seconds: None), second)
    restored_equals(store, kept, first, tmp_path / "target")
    restic_finds_nothing_wrong(store)
    restored_equals(store, protect(store, second), second, tmp_path / "target")
