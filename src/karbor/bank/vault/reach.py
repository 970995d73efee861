"""Everything that snapshots refer to, each tree read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from karbor.bank.vault.pack import BlobKind
from karbor.errors import Damaged, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from karbor.bank.vault.marks import Marks
    from karbor.bank.vault.repository import Repository

_BATCH = 1 << 17
"""Blob ids that are looked up together."""


class Lost(msgspec.Struct, frozen=True):
    """A blob that a snapshot needs and that cannot be had: `key` is the bank object to blame."""

    kind: BlobKind
    id: bytes
    key: str
    reason: str


class Reach:
    """Marks what is reachable from trees and tells `lost` what is not there."""

    def __init__(self, repository: Repository, marks: Marks, lost: Callable[[Lost], None]) -> None:
        self._repository, self._marks, self._lost = repository, marks, lost
        self._ids = bytearray()

    def add(self, trees: Iterable[bytes]) -> None:
        """Mark everything below `trees`, themselves included. What was marked before is not read again."""
        stack = [self._mark("tree", b"".join(trees))]
        while stack:
            if not stack[-1]:
                stack.pop()
                continue
            below = self._read(stack[-1].pop())
            if below:
                stack.append(self._mark("tree", below))
        self._mark_data()

    def _read(self, tree: bytes) -> bytes:
        """Note what the files of a tree are made of; the ids of its directories."""
        try:
            nodes = self._repository.load_tree(tree)
        except (Damaged, ObjectMissing) as error:
            self._lost(Lost("tree", tree, error.key, reason_of(error)))
            return b""
        for node in nodes:
            self._ids += node.content
        if len(self._ids) >= 32 * _BATCH:
            self._mark_data()
        return b"".join(node.subtree for node in nodes)

    def _mark_data(self) -> None:
        ids, self._ids = bytes(self._ids), bytearray()
        self._mark("data", ids)

    def _mark(self, kind: BlobKind, ids: bytes) -> list[bytes]:
        """Mark blobs; those that had no mark before."""
        unique = np.unique(np.frombuffer(ids, "V32"))
        fresh, missing = self._marks.mark(kind, unique.tobytes())
        for at in missing:
            blob = unique[at].tobytes()
            error = self._repository.unknown_blob(kind, blob)
            self._lost(Lost(kind, blob, error.key, error.reason))
        return [blob.tobytes() for blob in unique[fresh]]


def reason_of(error: Damaged | ObjectMissing) -> str:
    """What is wrong with the object that an error names."""
    return error.reason if isinstance(error, Damaged) else "it is missing"
