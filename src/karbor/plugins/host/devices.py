"""Is a disk image in use? Mounted devices, swap areas and what lies on top of a device, as the kernel shows them.

Facts: proc(5) for mountinfo and swaps; the kernel's ABI documents for /sys/dev/block and loop devices.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from karbor.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOUNTS = Path("/proc/self/mountinfo")
_SWAPS = Path("/proc/swaps")
_BLOCK = Path("/sys/dev/block")
_LOOPS = Path("/sys/block")


def check_unused(path: str, status: os.stat_result) -> None:
    """Raise `Refused` where a disk image is mounted, a swap area, or below another device.

    It looks only; whoever writes to a device opens it exclusively as well.
    """
    for swap in _swap_areas():
        if _same(swap, status):
            raise Refused(f"{path} is a swap area")
    devices = [number(status.st_rdev)] if stat.S_ISBLK(status.st_mode) else list(_loops_on(status))
    for device in devices:
        for part in (device, *_partitions(device)):
            if part in _mounted():
                raise Refused(f"{path} is mounted at {_mounted()[part]}", hint="unmount it first")
            for holder in _names(_BLOCK / part / "holders"):
                raise Refused(f"{path} is in use by {holder}")


def number(rdev: int) -> str:
    """A device number as /proc and /sys write it."""
    return f"{os.major(rdev)}:{os.minor(rdev)}"


def _mounted() -> dict[str, str]:
    """Mount points by device number."""
    rows = (line.split() for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines())
    return {row[2]: row[4] for row in rows}


def _swap_areas() -> Iterator[os.stat_result]:
    for line in _SWAPS.read_bytes().splitlines()[1:]:
        path = line.split()[0].decode("unicode_escape").encode("latin-1")
        try:
            yield Path(os.fsdecode(path)).stat()
        except OSError:
            continue  # swapped off meanwhile


def _partitions(device: str) -> Iterator[str]:
    for name in _names(_BLOCK / device):
        found = _BLOCK / device / name / "dev"
        if found.is_file():
            yield found.read_text(encoding="ascii").strip()


def _loops_on(status: os.stat_result) -> Iterator[str]:
    """Loop devices whose backing file this is."""
    for name in _names(_LOOPS):
        backing = _LOOPS / name / "loop" / "backing_file"
        try:
            file = Path(os.fsdecode(backing.read_bytes().rstrip(b"\n"))).stat()
            if _same(file, status):
                yield (_LOOPS / name / "dev").read_text(encoding="ascii").strip()
        except OSError:
            continue  # no loop device, or detached meanwhile


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    if stat.S_ISBLK(one.st_mode) and stat.S_ISBLK(other.st_mode):
        return one.st_rdev == other.st_rdev
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
