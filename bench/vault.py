"""The vault against plain restic, on the same files, in alternating runs.

    .venv/bin/python bench/vault.py [--size 4G] [--rounds 3] [--files 100000] [--out bench/results/vault.json]

The image is ext4, made of this system's own files, some random data and holes. Each run is a process of its own, ours
with the start of Python in it; CPU is user + system of that process as the kernel counts it, memory its largest resident
set. Both compress with zstd at its default level. Ratios are restic's CPU divided by ours, from the medians of the
rounds. Everything lies in memory (/dev/shm) where it fits, so that the disk is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB, GIB = 1 << 20, 1 << 30
UNITS = {"M": MIB, "G": GIB, "T": GIB << 10}
PREFIX, PASSPHRASE = "bench/", "bench"
OURS = Path(__file__).with_name("vault_run.py")
Run = dict[str, float]


# --- the data


def make_image(path: Path, size: int, scratch: Path) -> None:
    """An ext4 image: 60 % system files, 8 % random data, the rest holes."""
    root = scratch / "content"
    root.mkdir()
    copy_files(root / "system", size * 60 // 100, largest=64 * MIB)
    chance = random.Random(1)
    with (root / "random").open("wb") as file:  # piece by piece: a child's memory is counted from its parent's peak
        for _ in range(size * 8 // 100 // MIB):
            file.write(chance.randbytes(MIB))
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", root, path, f"{size // MIB}M"], check=True)
    shutil.rmtree(root)


def make_tree(root: Path, files: int) -> None:
    """Small system files in their directories, again and again with one line of difference, until there are enough."""
    left = files
    turn = 0
    while left:
        for source in system_files(64 << 10):
            target = root / f"{turn}{source.parent}" / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes() + b"turn %d\n" % turn)
            left -= 1
            if not left:
                return
        turn += 1


def copy_files(root: Path, budget: int, largest: int) -> None:
    for source in system_files(largest):
        target = root / str(source).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        budget -= source.stat().st_size
        if budget < 0:
            return
    raise SystemExit("this system has too few files for an image of that size")


def system_files(largest: int) -> Iterator[Path]:
    for folder in ("/usr/lib", "/usr/share", "/usr/bin", "/usr/include", "/usr/local", "/opt", "/root/.pyenv"):
        for directory, _, names in os.walk(folder):
            for name in sorted(names):
                path = Path(directory, name)
                if not path.is_symlink() and path.is_file() and path.stat().st_size <= largest:
                    yield path


def change(path: Path, share: float, seed: int) -> list[tuple[int, int]]:
    """Rewrite a share of the image's data in runs of 4 KiB to 1 MiB; where."""
    chance = random.Random(seed)
    extents: list[tuple[int, int]] = []
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        left = int(end * share)
        while left > 0:
            length = min(4096 * chance.randint(1, 256), left)
            offset = 4096 * chance.randrange((end - MIB) // 4096)
            file.seek(offset)
            file.write(chance.randbytes(length))
            extents.append((offset, length))
            left -= length
    return extents


# --- measuring


def measured(command: list[str | Path], environment: dict[str, str]) -> tuple[Run, str]:
    """Run a program: CPU, wall and memory of it, and what it printed."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out, env=environment)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - began
        if child.returncode:
            raise SystemExit(f"{command} ended with {child.returncode}")
        out.seek(0)
        text = out.read().decode()
    return {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": wall, "rss_mib": used.ru_maxrss / 1024}, text


class Sides:
    """Both programs on one set of data; `rows` collects what they took, by step and side."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.rows: dict[str, dict[str, list[Run]]] = {}
        self._environment = os.environ | {
            "RESTIC_PASSWORD": PASSPHRASE,
            "RESTIC_REPOSITORY": str(scratch / "restic"),
            "RESTIC_CACHE_DIR": str(scratch / "restic-cache"),
            "PYTHONPYCACHEPREFIX": str(scratch / "bytecode"),
        }
        # Installed software has its bytecode; a checkout may be told not to keep any.
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def fresh(self) -> None:
        """Two new, empty repositories."""
        for name in ("restic", "restic-cache", "ours", "ours.cache"):
            shutil.rmtree(self.scratch / name, ignore_errors=True)
        measured(["restic", "init", "-q", "--repository-version", "2"], self._environment)
        self._ours("create")

    def restic(self, step: str, *arguments: str) -> None:
        run, _ = measured(["restic", "-q", *arguments], self._environment)
        self._note(step, "restic", run | {"stored_mib": stored(self.scratch / "restic")})

    def ours(self, step: str, work: str, *arguments: str) -> Run:
        run, text = self._ours(work, *arguments)
        result = json.loads(text) if text else {}
        figures = {key: value for key, value in result.items() if key != "tree"}
        self._note(step, "ours", run | figures | {"stored_mib": stored(self.scratch / "ours" / PREFIX)})
        return result

    def _ours(self, work: str, *arguments: str) -> tuple[Run, str]:
        return measured([sys.executable, OURS, work, str(self.scratch / "ours"), *arguments], self._environment)

    def _note(self, step: str, side: str, run: Run) -> None:
        self.rows.setdefault(step, {}).setdefault(side, []).append(run)
        print(f"  {step:<18} {side:<7}", " ".join(f"{name}={value:.2f}" for name, value in run.items()), flush=True)

    def ratio(self, step: str, figure: str = "cpu_s") -> float:
        """restic's median divided by ours."""
        return self.median(step, "restic", figure) / self.median(step, "ours", figure)

    def median(self, step: str, side: str, figure: str) -> float:
        return statistics.median(run[figure] for run in self.rows[step][side])


def stored(folder: Path) -> float:
    """MiB in a repository."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MIB


def image_round(sides: Sides, image: Path, number: int) -> None:
    """One life of an image; who goes first alternates."""
    sides.fresh()
    out = sides.scratch / "restored"
    tree = ""

    def write(step: str, changed: object = None) -> None:
        nonlocal tree
        tree = str(sides.ours(step, "image", str(image), tree, json.dumps(changed))["tree"])

    def both(ours: Callable[[], object], restic: Callable[[], object]) -> None:
        for work in (ours, restic) if number % 2 else (restic, ours):
            work()

    def backup(step: str) -> None:
        both(lambda: write(step), lambda: sides.restic(step, "backup", "--force", str(image)))

    backup("first")
    backup("unchanged")
    write("unchanged by list", [])
    change(image, 0.01, number)
    backup("1 % changed")
    write("1 % by list", change(image, 0.01, number + 100))
    both(
        lambda: sides.ours("restore", "restore", str(out), tree),
        lambda: sides.restic("restore", "restore", "latest", "--target", f"{out}.restic"),
    )
    subprocess.run(["cmp", image, out], check=True)
    sides.ours("random reads", "reads", "-", tree)
    out.unlink()
    shutil.rmtree(f"{out}.restic")


def tree_round(sides: Sides, root: Path) -> None:
    sides.fresh()
    out = sides.scratch / "restored-tree"
    tree = str(sides.ours("tree first", "tree", str(root), "", "null")["tree"])
    sides.restic("tree first", "backup", "--force", str(root))
    sides.ours("tree unchanged", "tree", str(root), tree, "null")
    sides.restic("tree unchanged", "backup", str(root))
    sides.ours("tree restore", "restore-tree", str(out), tree)
    sides.restic("tree restore", "restore", "latest", "--target", f"{out}.restic")
    shutil.rmtree(out)
    shutil.rmtree(f"{out}.restic")


def results(sides: Sides, arguments: argparse.Namespace, data: int) -> dict[str, object]:
    gib = data / GIB
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        "restic": subprocess.run(["restic", "version"], capture_output=True, text=True, check=True).stdout.strip(),
        "size_gib": arguments.size / GIB,
        "data_gib": gib,
        "files": arguments.files,
        "rounds": arguments.rounds,
        "first_cpu_ratio": sides.ratio("first"),
        "unchanged_cpu_ratio": sides.ratio("unchanged"),
        "restore_cpu_ratio": sides.ratio("restore"),
        "tree_cpu_ratio": sides.ratio("tree first"),
        "cbt_cpu_s": sides.median("unchanged by list", "ours", "cpu_s"),
        "first_wall_ratio": sides.ratio("first", "wall_s"),
        "first_cpu_s_per_gib": sides.median("first", "ours", "cpu_s") / gib,
        "stored_ratio": 1 / sides.ratio("first", "stored_mib"),
        "random_read_p50_ms": sides.median("random reads", "ours", "p50_ms"),
        "rows": sides.rows,
    }


def size_of(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1].upper()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=size_of, default=4 * GIB, help="of the image, like 4G")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, help="in the tree; 25,000 per GiB of the image by default")
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "vault.json")
    arguments = parser.parse_args()
    arguments.files = arguments.files or min(100_000, 25_000 * arguments.size // GIB)
    for program in ("restic", "mkfs.ext4"):
        if shutil.which(program) is None:
            raise SystemExit(f"this needs {program}: apt install restic e2fsprogs")
    memory = Path("/dev/shm")
    fits = shutil.disk_usage(memory).free > 5 * arguments.size
    with tempfile.TemporaryDirectory(dir=arguments.scratch or (memory if fits else None)) as folder:
        scratch = Path(folder)
        image = scratch / "disk.img"
        make_image(image, arguments.size, scratch)
        data = image.stat().st_blocks * 512
        sides = Sides(scratch)
        for number in range(arguments.rounds):
            print(f"image, round {number + 1} of {arguments.rounds}")
            image_round(sides, image, number)
        image.unlink()
        make_tree(scratch / "tree", arguments.files)
        for number in range(arguments.rounds):
            print(f"{arguments.files} files, round {number + 1} of {arguments.rounds}")
            tree_round(sides, scratch / "tree")
        found = results(sides, arguments, data)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print({name: round(value, 2) for name, value in found.items() if isinstance(value, float)})


if __name__ == "__main__":
    main()
