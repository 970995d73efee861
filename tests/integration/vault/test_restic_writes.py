"""What restic wrote, read by us; both writing at once; and the locks that keep them from harming one another."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from karbor.bank.vault.locks import RepositoryLock
from karbor.bank.vault.nodes import Node
from karbor.bank.vault.reader import Content
from karbor.bank.vault.walk import walk
from karbor.errors import Unavailable


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "large").write_bytes(os.urandom(9_000_000))
    (root / "zeros").write_bytes(bytes(5_000_000))
    (root / "sub" / "small").write_bytes(b"text\n" * 5000)
    (root / "sub" / "none").write_bytes(b"")
    return root


def files_of(repository):
    repository.refresh_index()
    (_, snapshot) = max(repository.snapshots(), key=lambda item: item[1].time)
    return {
        path.rpartition(b"/")[2].decode(): b"".join(Content.of(repository, [node]).stream())
        for path, node in walk(repository, snapshot.tree)
        if node.type == "file"
    }


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("compression", ["auto", "off", "max"])
def test_we_read_what_restic_wrote(repository, reopen, restic, folder, compression):
    restic("backup", folder, "--compression", compression)
    assert files_of(reopen()) == contents(folder)


def test_we_read_what_restic_repacked(repository, reopen, restic, folder, check):
    restic("backup", folder)
    (folder / "sub" / "small").write_bytes(b"other\n" * 9000)
    (folder / "large").unlink()
    restic("backup", folder)
    held = reopen()
    first = files_of(held)
    restic("forget", "--keep-last", "1", "--prune", "--max-unused", "0", "--group-by", "")
    files = contents(folder)
    assert first == files_of(held) == files_of(reopen()) == files
    check()


def test_restic_makes_a_repository_that_we_open(bank, restic, folder, host_clock):
    from karbor.bank.vault.repository import Repository

    restic("init", "--repository-version", "2")
    restic("backup", folder)
    opened = Repository.open(bank, "provider/project-g1/", "integration", clock=host_clock)
    assert files_of(opened) == contents(folder)


def test_three_writers_at_once(repository, reopen, restic, folder, commit, check):
    """Two of ours, each with a repository of its own as in two processes, and one restic."""
    blobs = [os.urandom(50_000) for _ in range(30)]
    trees, errors = [], []

    def write(own):
        try:
            opened = reopen()
            with opened.writer() as writer:
                ids = b""
                for number, blob in enumerate([*blobs, own, *blobs]):
                    ids += writer.save("data", blob)
                    if number % 20 == 0:
                        writer.flush()
                node = Node(name=b"data", type="file", content=ids, size=60 * 50_000 + len(own), links=1)
                trees.append(writer.save_tree([node]))
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=write, args=(own,)) for own in (b"one", b"two")]
    for thread in threads:
        thread.start()
    restic("backup", folder)
    for thread in threads:
        thread.join()
    assert not errors
    for tree in trees:
        commit(tree)
    check()
    assert len(list(repository.snapshots())) == 3


def test_a_plain_prune_refuses_while_we_write_and_works_afterwards(repository, restic, commit, check):
    with RepositoryLock(repository, incarnation="one"), repository.writer() as writer:
        content = writer.save("data", b"in flight")
        writer.flush()
        assert "already locked" in restic("prune", fails=True)
        restic("snapshots")
        restic("unlock")  # removes stale locks only, and ours is none
        assert "already locked" in restic("prune", fails=True)
        tree = writer.save_tree([Node(name=b"data", type="file", content=content, size=9, links=1)])
        writer.flush()
        commit(tree)
    restic("prune")
    check()


def test_our_exclusive_lock_stops_restic_and_restic_s_stops_us(repository, restic, folder, bank, tmp_path):
    with RepositoryLock(repository, incarnation="one", exclusive=True):
        assert "already locked" in restic("backup", folder, fails=True)
    restic("backup", folder)
    environment = {"RESTIC_PASSWORD": "integration", "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    holder = subprocess.Popen(
        ["restic", "-r", f"{bank.location}/{repository.prefix}", "check", "--read-data", "--limit-download", "1"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not list(repository.documents.names("locks")) and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(Unavailable, match=f"process {holder.pid}"), RepositoryLock(repository, incarnation="two"):
            pass
    finally:
        holder.terminate()
        holder.wait(30)


WRITER = """
import os, sys, time
from datetime import UTC, datetime
from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault import pack, repository, writer
from karbor.bank.vault.locks import RepositoryLock
pack.PACK_TARGET = 200_000
writer.INDEX_BLOBS = 20
class Clock:
    now = staticmethod(lambda: datetime.now(UTC)); monotonic = staticmethod(time.monotonic); sleep = staticmethod(time.sleep)
opened = repository.Repository.open(FilesystemBank(sys.argv[1]), sys.argv[2], "integration", clock=Clock())
with RepositoryLock(opened, incarnation=str(os.getpid())), opened.writer() as out:
    print("writing", flush=True)
    while True:
        out.save("data", os.urandom(20_000)); out.save_tree([])
"""


def test_a_writer_killed_at_any_moment_harms_nothing(repository, reopen, restic, folder, bank, check):
    restic("backup", folder)
    for round_number in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, bank.location, repository.prefix], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "writing\n"
        time.sleep(0.05 + 0.07 * round_number)
        child.kill()
        child.wait()
        child.stdout.close()
    restic("unlock", "--remove-all")
    check()
    assert files_of(reopen()) == contents(folder)
    restic("prune")
    check()
    assert files_of(reopen()) == contents(folder)
