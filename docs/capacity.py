"""Measures the capacity table of explanation.md: what the index of one TiB of disk image costs at each chunk size.

A real repository gets index files that list as many chunks as a TiB has. Our reader and plain restic then open it.
Run it with the path of a scratch folder; it prints one line of JSON per chunk size.
"""
# ruff: noqa: INP001, T201

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.index import INDEX_BLOBS, encode_index
from karbor.bank.vault.pack import Blob
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.segments import PackEntry
from karbor.bank.vault.snapshot import Snapshot

TIB = 1 << 40
PACK = 16 << 20
PREFIX, PASSPHRASE = "capacity/", "capacity"
CHUNKS = [1 << bits for bits in range(18, 23)]


class HostClock:
    """The host's time."""

    def now(self) -> datetime:
        """The time of day."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def prepare(folder: Path, chunk: int) -> int:
    """A repository whose index lists a TiB of chunks; the bytes of its index files."""
    bank = FilesystemBank(str(folder / "bank"))
    repository = Repository.create(bank, PREFIX, PASSPHRASE, clock=HostClock())
    with repository.writer() as writer:
        tree = writer.save_tree([])
    snapshot = Snapshot(time=datetime.now(UTC), tree=tree, paths=("/",))
    repository.put_snapshot(*repository.prepare_snapshot(snapshot))
    per_pack = max(PACK // chunk, 1)
    left = TIB // chunk
    while left:
        count = min(left, INDEX_BLOBS)
        packs = [
            PackEntry(
                os.urandom(32),
                [
                    Blob("data", os.urandom(32), at * (chunk // 2), chunk // 2, chunk)
                    for at in range(min(per_pack, count - first))
                ],
            )
            for first in range(0, count, per_pack)
        ]
        repository.documents.put("index", encode_index(packs))
        left -= count
    return sum(each.size for each in bank.list(f"{PREFIX}index/"))


def opened(folder: Path, cache: str) -> dict[str, float]:
    """Open the repository in this process: seconds of CPU, and MiB of anonymous memory that it came to hold."""
    before, began = _anonymous(), time.process_time()
    place = Path(cache) if cache else None
    repository = Repository.open(
        FilesystemBank(str(folder / "bank")), PREFIX, PASSPHRASE, clock=HostClock(), cache_dir=place
    )
    repository.refresh_index()
    return {
        "cpu_s": round(time.process_time() - began, 2),
        "mib": _anonymous() - before,
        "blobs": len(repository.index),
    }


def _anonymous() -> int:
    return _status("self", "RssAnon")


def _status(pid: int | str, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{name}:"))


def restic(folder: Path) -> dict[str, float]:
    """List a snapshot with plain restic: seconds of CPU, and its peak memory in MiB."""
    environment = {**os.environ, "RESTIC_PASSWORD": PASSPHRASE, "RESTIC_REPOSITORY": f"{folder}/bank/{PREFIX}"}
    command = ["restic", "--no-cache", "--no-lock", "ls", "latest"]
    began, peak = os.times(), 0
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            peak = max(peak, _status(process.pid, "VmHWM"))
        except (FileNotFoundError, StopIteration):
            break
        time.sleep(0.005)
    if process.wait():
        raise SystemExit("restic cannot open the repository")
    ended = os.times()
    cpu = ended.children_user + ended.children_system - began.children_user - began.children_system
    return {"cpu_s": round(cpu, 2), "mib": peak}


def _apart(folder: Path, cache: str) -> dict[str, float]:
    words = [sys.executable, __file__, "open", str(folder), cache]
    found: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return found


def main(folder: str) -> None:
    """Every chunk size."""
    for chunk in CHUNKS:
        place = Path(folder) / str(chunk)
        place.mkdir(parents=True)
        size = prepare(place, chunk)
        cache = str(place / "cache")
        row = {
            "chunk_kib": chunk >> 10,
            "chunks": TIB // chunk,
            "index_mib_in_bank": round(size / 2**20, 1),
            "without_cache": _apart(place, ""),
            "first_with_cache": _apart(place, cache),
            "again_with_cache": _apart(place, cache),
            "restic": restic(place),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "open":
        print(json.dumps(opened(Path(sys.argv[2]), sys.argv[3])))
    else:
        main(sys.argv[1])
