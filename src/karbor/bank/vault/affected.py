"""What damage affects: which checkpoints, which paths in them, which bytes of those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from karbor.bank.vault.reader import Content
from karbor.errors import KarborError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from karbor.bank.vault.nodes import Node
    from karbor.bank.vault.reach import Lost
    from karbor.bank.vault.repository import Repository
    from karbor.bank.vault.snapshot import Snapshot

MAX_LISTED = 1000
"""Affected things that are listed for one finding."""


class Affected(msgspec.Struct, frozen=True):
    """One damaged file or directory: the checkpoint (a snapshot's id and its tag), the path from the snapshot's root with
    bytes that are not UTF-8 as escapes, and the damaged (offset, length) of a file; none where all of it is."""

    snapshot: str
    checkpoint: str
    path: str
    ranges: tuple[tuple[int, int], ...] = ()


def affected_by(
    repository: Repository, snapshots: Mapping[str, Snapshot], lost: Iterable[Lost]
) -> dict[str, list[Affected]]:
    """By bank object: what of `snapshots` needs the `lost` blobs."""
    search = _Search(repository, lost)
    for snapshot_id, snapshot in snapshots.items():
        for key, path, ranges in search.below(snapshot.tree, b""):
            listed = search.found.setdefault(key, [])
            if len(listed) < MAX_LISTED:
                shown = path.decode("utf-8", "backslashreplace")
                listed.append(Affected(snapshot_id, snapshot.tag("checkpoint"), shown, ranges))
    return search.found


class _Search:
    def __init__(self, repository: Repository, lost: Iterable[Lost]) -> None:
        self._repository = repository
        self._blame = {(blob.kind, blob.id): blob.key for blob in lost}
        data = sorted(blob for kind, blob in self._blame if kind == "data")
        self._data = np.frombuffer(b"".join(data), "V32")
        self._clean: set[bytes] = set()
        self.found: dict[str, list[Affected]] = {}

    def below(self, tree: bytes, path: bytes) -> Iterator[tuple[str, bytes, tuple[tuple[int, int], ...]]]:
        """(bank object, path, ranges) of what is damaged below a tree; a tree without damage is looked at once."""
        if tree in self._clean:
            return
        if (key := self._blame.get(("tree", tree))) is not None:
            yield key, path, ()
            return
        clean = True
        for node in self._repository.load_tree(tree):
            for hit in self._in_node(node, path + b"/" + node.name):
                clean = False
                yield hit
        if clean:
            self._clean.add(tree)

    def _in_node(self, node: Node, path: bytes) -> Iterator[tuple[str, bytes, tuple[tuple[int, int], ...]]]:
        if node.type == "dir" and node.subtree:
            yield from self.below(node.subtree, path)
        bad = np.isin(np.frombuffer(node.content, "V32"), self._data)
        if not bad.any():
            return
        by_key: dict[str, list[int]] = {}
        for at in np.flatnonzero(bad).tolist():
            by_key.setdefault(self._blame["data", node.content[32 * at : 32 * at + 32]], []).append(at)
        for key, positions in by_key.items():
            yield key, path, self._ranges(node, positions)

    def _ranges(self, node: Node, positions: list[int]) -> tuple[tuple[int, int], ...]:
        """The bytes of some chunks; none where not even their sizes are known any more."""
        try:
            content = Content(self._repository, node.content)
        except KarborError:
            return ()
        return tuple(content.ranges(np.array(positions)))
