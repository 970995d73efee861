"""The index on the local disk: segments as files that are mapped, so that a repository of any size opens in milliseconds.

Only a cache: a segment is valid while every index file that it was made of exists in the bank, and whatever is missing
or does not fit is read from the bank again. Several processes may share the folder.

A file is ``magic, u64 sources, u64 packs, u64 rows``, then the sources (32 bytes each), the packs, the keys and the rows.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING

import numpy as np

from karbor.bank.vault.segments import KEY, PACK_ID, ROW, Segment, merge
from karbor.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MAGIC = b"KBINDEX1"
_HEAD = struct.Struct("<8sQQQ")
_SUFFIX = ".segment"


class IndexCache:
    """The cached segments of one repository in `folder`, which is made where it is missing (0700)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"the index cache {folder} cannot be made: {error.strerror}") from error

    def load(self, live: frozenset[str]) -> list[Segment]:
        """The segments whose sources are all in `live`, the largest first and none that another one covers; the files of
        the others are removed."""
        found = [(path, _map(path)) for path in sorted(self._folder.glob(f"*{_SUFFIX}"))]
        kept: list[Segment] = []
        covered: set[str] = set()
        for path, segment in sorted(found, key=lambda item: -len(item[1].sources) if item[1] else 0):
            if segment is None or not segment.sources <= live or segment.sources <= covered:
                path.unlink(missing_ok=True)
                continue
            kept.append(segment)
            covered |= segment.sources
        return kept

    def _path(self, sources: frozenset[str]) -> Path:
        return self._folder / (hashlib.sha256("".join(sorted(sources)).encode()).hexdigest()[:32] + _SUFFIX)

    def store(self, parts: Sequence[Segment]) -> Segment:
        """One mapped segment of several. Its file appears whole or not at all."""
        sources = frozenset().union(*(part.sources for part in parts))
        rows, packs = sum(map(len, parts)), sum(len(part.packs) for part in parts)
        path = self._path(sources)
        scratch = path.with_suffix(f".{os.getpid()}.new")
        try:
            with scratch.open("w+b") as file:
                file.write(
                    _HEAD.pack(_MAGIC, len(sources), packs, rows) + b"".join(map(bytes.fromhex, sorted(sources)))
                )
                file.truncate(_size(len(sources), packs, rows))
            keys_at = _HEAD.size + 32 * (len(sources) + packs)
            arrays = (
                np.memmap(scratch, KEY, "r+", keys_at, (rows,)),
                np.memmap(scratch, ROW, "r+", keys_at + 8 * rows, (rows,)),
                np.memmap(scratch, PACK_ID, "r+", keys_at - 32 * packs, (packs,)),
            )
            merge(parts, arrays)
            for array in arrays:
                array.flush()
            scratch.rename(path)
            for part in parts:  # what has been mapped stays readable
                if part.sources < sources:
                    self._path(part.sources).unlink(missing_ok=True)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise Unavailable(f"the index cache {path} cannot be written: {error.strerror}") from error
        stored = _map(path)
        if stored is None:
            raise Unavailable(f"the index cache {path} cannot be read back")
        return stored


def _size(sources: int, packs: int, rows: int) -> int:
    return _HEAD.size + 32 * (sources + packs) + (KEY.itemsize + ROW.itemsize) * rows


def _map(path: Path) -> Segment | None:
    """A segment from its file; None where it is not whole."""
    try:
        raw = np.memmap(path, np.uint8, "r")
        magic, sources, packs, rows = _HEAD.unpack(raw[: _HEAD.size].tobytes())
    except (OSError, ValueError, struct.error):
        return None
    if magic != _MAGIC or len(raw) != _size(sources, packs, rows):
        return None
    at = _HEAD.size
    names = raw[at : at + 32 * sources].tobytes()
    at += 32 * sources
    pack_ids = raw[at : at + 32 * packs].view(PACK_ID)
    at += 32 * packs
    keys = raw[at : at + 8 * rows].view(KEY)
    table = raw[at + 8 * rows :].view(ROW)
    return Segment(keys, table, pack_ids, frozenset(names[i : i + 32].hex() for i in range(0, len(names), 32)))
