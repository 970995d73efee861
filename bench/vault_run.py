"""One run of our side of bench/vault.py, as a process of its own; prints its result as one line of JSON."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.resource_vault import ResourceVault
from karbor.sdk.local_image import FileImage, FileTarget
from karbor.sdk.vault import RestoreOptions, TreeOptions

if TYPE_CHECKING:
    from karbor.sdk.vault import ImageReader

PREFIX, PASSPHRASE = "bench/", "bench"


class HostClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def main(work: str, bank: str, *arguments: str) -> None:
    opened = FilesystemBank(bank)
    if work == "create":
        Repository.create(opened, PREFIX, PASSPHRASE, clock=HostClock())
        return
    repository = Repository.open(opened, PREFIX, PASSPHRASE, clock=HostClock(), cache_dir=Path(bank + ".cache"))
    if work in ("image", "tree"):
        path, previous, changed = arguments
        file = os.open(path, os.O_RDONLY)
        with repository.writer() as writer:
            vault = ResourceVault(repository, writer, previous_tree=bytes.fromhex(previous) or None)
            if work == "image":
                written = vault.write_image(FileImage(file), changed=json.loads(changed))
            else:
                written = vault.write_tree(file, TreeOptions())
        print(json.dumps({"tree": written.tree, "added": written.added_bytes}))
        return
    path, tree = arguments
    vault = ResourceVault(repository, None, data_tree=bytes.fromhex(tree))
    repository.refresh_index()
    if work == "restore":
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        vault.restore_image(FileTarget(file, vault.image().size))
    elif work == "restore-tree":
        Path(path).mkdir()
        vault.restore_tree(os.open(path, os.O_RDONLY), RestoreOptions())
    elif work == "reads":
        print(json.dumps(random_reads(vault.image())))


def random_reads(image: ImageReader) -> dict[str, float]:
    """Latency of 500 reads of 4 KiB at random places of an open image, in milliseconds."""
    chance = random.Random(5)
    taken = []
    for _ in range(500):
        offset = 4096 * chance.randrange(image.size // 4096)
        began = time.perf_counter()
        image.read(offset, 4096)
        taken.append(1000 * (time.perf_counter() - began))
    taken.sort()
    return {"p50_ms": taken[250], "p95_ms": taken[475]}


if __name__ == "__main__":
    main(*sys.argv[1:])
