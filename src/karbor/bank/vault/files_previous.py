"""What an earlier checkpoint knows of a directory: files that have not changed are taken over without being opened."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import msgspec

from karbor.errors import Damaged, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from karbor.bank.vault.files_scope import Scope
    from karbor.bank.vault.nodes import Node
    from karbor.bank.vault.writer import Writer

_FEW = 32 * 40
"""Bytes of ids up to which asking for each is quicker than for all."""


class Previous:
    """One directory's tree in an earlier checkpoint; empty where there is none, or where it cannot be read any more."""

    def __init__(self, writer: Writer, tree: bytes) -> None:
        self.tree = tree
        self._writer = writer
        self._nodes: dict[bytes, Node] = {}
        if tree:
            try:
                self._nodes = {node.name: node for node in writer.repository.load_tree(tree)}
            except (Damaged, ObjectMissing):
                return  # everything is read again

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def subtree(self, name: str) -> bytes:
        """The tree of a directory in this one; empty where there was none."""
        node = self._nodes.get(os.fsencode(name))
        return node.subtree if node else b""

    def still_holds(self, nodes: list[Node]) -> bool:
        """Whether the tree is what these nodes make, and is in the bank."""
        return nodes == list(self._nodes.values()) and self._writer.has("tree", self.tree)

    def unchanged(self, directory: int, names: Iterable[str], scope: Scope) -> dict[str, Node]:
        """The nodes of the files among these entries that are as they were, and whose blobs are all in the bank."""
        nodes = {}
        for name in names:
            old = self._nodes.get(os.fsencode(name))
            if old is None or old.type != "file":
                continue
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                continue  # whoever reads the entry says what is the matter
            if _same(old, found) and not scope.never(found):
                nodes[name] = old if old.device_id == found.st_dev else _moved(old, found)
        if self._missing(nodes.values()):
            return {name: node for name, node in nodes.items() if not self._missing([node])}
        return nodes

    def _missing(self, nodes: Iterable[Node]) -> bool:
        content = b"".join(node.content for node in nodes)
        if len(content) > _FEW:
            return len(self._writer.locate("data", content).missing) > 0
        return not all(self._writer.has("data", content[at : at + 32]) for at in range(0, len(content), 32))


def _same(old: Node, found: os.stat_result) -> bool:
    return (
        stat.S_ISREG(found.st_mode)
        and old.inode == found.st_ino
        and old.size == found.st_size
        and old.mtime == found.st_mtime_ns
        and old.ctime == found.st_ctime_ns
    )


def _moved(old: Node, found: os.stat_result) -> Node:
    """The node of a file whose file system has another device number now."""
    return msgspec.structs.replace(old, device_id=found.st_dev)
