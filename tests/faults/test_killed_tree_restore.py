"""A restore that is killed again and again ends, when it is let through, as one that was never disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.files_read import restore_tree
from karbor.bank.vault.files_write import write_tree
from karbor.bank.vault.repository import Repository
from karbor.sdk.vault import RestoreOptions, TreeOptions
from karbor.system import SystemClock

KILLS = 12
PREFIX, PASSPHRASE = "provider/project-g1/", "of the tests"
RESTORE = f"""
import os, sys
from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.browse import data_nodes
from karbor.bank.vault.files_read import restore_tree
from karbor.bank.vault.repository import Repository
from karbor.sdk.vault import RestoreOptions
from karbor.system import SystemClock

repository = Repository.open(FilesystemBank(sys.argv[1]), {PREFIX!r}, {PASSPHRASE!r}, clock=SystemClock())
repository.refresh_index()
(data,) = data_nodes(repository, bytes.fromhex(sys.argv[2]))
target = os.open(sys.argv[3], os.O_RDONLY)
print("ready", flush=True)
restore_tree(repository, data, target, RestoreOptions(overwrite=sys.argv[4] == "overwrite"))
"""


def fill(root):
    """Directories, small and large files, holes, links of both kinds."""
    chance = random.Random(7)
    for number in range(1500):
        path = root / f"d{number % 17}" / f"e{number % 5}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.choice((0, 1, 100, 5000, 70_000))))
        path.chmod(chance.choice((0o600, 0o640, 0o755)))
        os.setxattr(path, "user.number", b"%d" % number)
        os.utime(path, ns=(0, chance.randrange(10**18)))
        if number % 10 == 0:
            os.link(path, root / f"link-{number}")
            (root / f"symlink-{number}").symlink_to(path)
    with (root / "sparse").open("wb") as file:
        file.seek(20 << 20)
        file.write(chance.randbytes(6 << 20))
    for folder in [*root.rglob("*/"), root]:
        if folder.is_dir() and not folder.is_symlink():
            os.utime(folder, ns=(0, 10**18 + 1))


def described(root):
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        attributes = [] if path.is_symlink() else [(name, os.getxattr(path, name)) for name in os.listxattr(path)]
        links = status.st_nlink if path.is_file() and not path.is_symlink() else None
        times = None if path.is_symlink() else status.st_mtime_ns
        found[str(path.relative_to(root))] = status.st_mode, times, links, content, attributes
    return found


@pytest.mark.parametrize("mode", ["overwrite", "keep"])
def test_a_killed_restore_is_finished_by_the_next(tmp_path, mode):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    fill(source)
    bank = FilesystemBank(str(tmp_path / "bank"))
    repository = Repository.create(bank, PREFIX, PASSPHRASE, clock=SystemClock())
    root = os.open(source, os.O_RDONLY)
    with repository.writer() as writer:
        data = write_tree(writer, root, TreeOptions()).node
        tree = writer.save_tree([data])
    os.close(root)
    progress = []
    for turn in range(KILLS):
        arguments = [sys.executable, "-c", RESTORE, bank.location, tree.hex(), str(target), mode]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as restore:
            assert restore.stdout.readline() == b"ready\n"
            time.sleep(0.01 + 0.02 * turn)
            restore.send_signal(signal.SIGKILL)
        progress.append(sum(1 for _ in target.rglob("*")))
    whole = sum(1 for _ in source.rglob("*"))
    assert progress[0] < whole
    assert progress[-1] > 0
    into = os.open(target, os.O_RDONLY)
    restored = restore_tree(repository, data, into, RestoreOptions(overwrite=mode == "overwrite"))
    os.close(into)
    bank.close()
    assert restored.skipped == ()
    assert described(target) == described(source)
