"""A folder bank that has no room, and one whose writer is killed: what was there stays whole, what was not is not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from karbor.bank.stores.filesystem import SCRATCH, FilesystemBank
from karbor.errors import BankFull, ObjectMissing

KILLS = 15
WRITER = """
import hashlib, os, sys
from karbor.bank.stores.filesystem import FilesystemBank

bank = FilesystemBank(sys.argv[1])
print("ready", flush=True)
for number in range(1_000_000):
    content = os.urandom(1 << 18) * 4
    digest = hashlib.sha256(content).hexdigest()
    bank.put(f"new/{number % 50}/{digest}", [content], if_absent=True)
    bank.put(f"same/{number % 3}", [digest.encode(), content])
    bank.delete(f"new/{(number + 25) % 50}/{digest}")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_bank_says_so_and_keeps_what_it_has(tmp_path):
    folder = tmp_path / "bank"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    try:
        bank = FilesystemBank(str(folder))
        bank.put("kept", [b"k" * (1 << 20)])
        with pytest.raises(BankFull, match="no room"):
            bank.put("kept", [b"x" * (4 << 20)])
        with pytest.raises(BankFull, match="no room"):
            bank.put("new", [b"x" * (4 << 20)], if_absent=True)
        assert bank.get("kept", limit=1 << 20) == b"k" * (1 << 20)
        assert [one.key for one in bank.list("")] == ["kept"]
        bank.put("small", [b"x" * (2 << 20)])
        bank.close()
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_killed_writer_leaves_whole_objects_only(tmp_path):
    folder = str(tmp_path / "bank")
    seen = 0
    for turn in range(KILLS):
        with subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.02 + 0.017 * turn)
            writer.send_signal(signal.SIGKILL)
        bank = FilesystemBank(folder, clock=lambda: time.time() + 7 * 24 * 3600)
        for found in bank.list(""):
            content = bank.get(found.key, limit=2 << 20)
            digest = found.key.rpartition("/")[2] if found.key.startswith("new/") else content[:64].decode()
            assert hashlib.sha256(content if found.key.startswith("new/") else content[64:]).hexdigest() == digest
            seen += 1
            with contextlib.suppress(ObjectMissing):
                assert bank.stat(found.key).size == len(content)
        bank.close()
        assert list((tmp_path / "bank" / SCRATCH).iterdir()) == []
    assert seen > KILLS
