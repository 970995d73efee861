"""A repository of ours and plain restic beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime

import pytest

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.snapshot import Snapshot

PREFIX = "provider/project-g1/"
PASSPHRASE = "integration"


class HostClock:
    def now(self):
        return datetime.now(UTC)

    def monotonic(self):
        return time.monotonic()

    def sleep(self, seconds):
        time.sleep(seconds)


@pytest.fixture
def host_clock():
    return HostClock()


@pytest.fixture
def bank(tmp_path):
    bank = FilesystemBank(str(tmp_path / "bank"))
    yield bank
    bank.close()


@pytest.fixture
def repository(bank, host_clock):
    return Repository.create(bank, PREFIX, PASSPHRASE, clock=host_clock)


@pytest.fixture
def reopen(bank, host_clock):
    return lambda: Repository.open(bank, PREFIX, PASSPHRASE, clock=host_clock)


# Debian's own restic, and a newer one where the variable says where it lies (`fetch_restic.sh` gets it).
PROGRAMS = [name for name in ("restic", os.environ.get("KARBOR_TEST_RESTIC")) if name]


@pytest.fixture(params=PROGRAMS)
def restic(request, bank, tmp_path):
    """Run restic on the repository; its output. It must succeed, or fail where it `fails`."""
    program = shutil.which(request.param)
    assert program, "these tests need restic: apt install restic"
    environment = {
        "PATH": os.environ["PATH"],
        "RESTIC_PASSWORD": PASSPHRASE,
        "RESTIC_REPOSITORY": f"{bank.location}/{PREFIX}",
        "RESTIC_CACHE_DIR": str(tmp_path / "restic-cache"),
        "HOME": str(tmp_path),
    }

    def run(*arguments, fails=False, text=True, **extra):
        done = subprocess.run(
            [program, *map(str, arguments)], env=environment | extra, capture_output=True, check=False, timeout=120
        )
        assert bool(done.returncode) is fails, (arguments, done.returncode, done.stderr.decode("utf-8", "replace"))
        return (done.stdout + done.stderr).decode("utf-8", "replace") if text else done.stdout

    return run


@pytest.fixture
def check(restic):
    """restic finds nothing wrong, reading everything."""

    def check():
        assert "no errors were found" in restic("check", "--read-data")

    return check


@pytest.fixture
def restic_json(restic):
    return lambda *arguments: json.loads(restic(*arguments, "--json", text=False))


@pytest.fixture
def commit(repository):
    """Make a snapshot of a tree; its id."""

    def commit(tree, *tags):
        name, sealed = repository.prepare_snapshot(
            Snapshot(time=datetime.now(UTC), tree=tree, paths=("/plan/p",), tags=tags)
        )
        repository.put_snapshot(name, sealed)
        return name

    return commit
