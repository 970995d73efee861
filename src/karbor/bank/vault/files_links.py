"""Hard links of a restored tree: names of one file become names of one file again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from karbor.bank.vault.files_target import new_link, walk_to

if TYPE_CHECKING:
    from karbor.bank.vault.nodes import Node


class _Restored:
    """Where a file that has more links was restored, and how many are still to come."""

    def __init__(self, content: bytes, directory: bytes, name: bytes, identity: tuple[int, int], left: int) -> None:
        self.content, self.directory, self.name, self.identity, self.left = content, directory, name, identity, left


class HardLinks:
    """Remembers, below the descriptor `target`, the first of each group until its last link is restored.

    Nodes are of one file when inode, device and content agree: a crafted inode alone links nothing.
    """

    def __init__(self, target: int, *, overwrite: bool) -> None:
        self._target, self._overwrite = target, overwrite
        self._files: dict[tuple[int, int], _Restored] = {}

    def identity(self, node: Node) -> tuple[int, int] | None:
        """Device and inode of the file that the node is a name of, if that was restored."""
        first = self._first(node)
        return first.identity if first else None

    def remember(self, directory: bytes, node: Node, found: os.stat_result) -> None:
        """The node's file lies at its name in the directory of this path."""
        if node.links > 1:
            restored = _Restored(node.content, directory, node.name, (found.st_dev, found.st_ino), node.links - 1)
            self._files.setdefault((node.device_id, node.inode), restored)

    def make(self, directory: int, node: Node) -> bool:
        """Make the node in an open directory as another name of its file; False where it has to be written.

        Raises `Taken` where something that may not be replaced has its name.
        """
        first = self._first(node)
        if first is None:
            return False
        try:
            source = walk_to(self._target, first.directory)
            try:
                linked = new_link(source, first.name, first.identity, directory, node.name, overwrite=self._overwrite)
            finally:
                os.close(source)
        except OSError:
            return False  # the first one has gone, or the file system has no hard links
        if linked:
            first.left -= 1
            if first.left <= 0:
                del self._files[node.device_id, node.inode]
        return linked

    def _first(self, node: Node) -> _Restored | None:
        first = self._files.get((node.device_id, node.inode)) if node.links > 1 else None
        return first if first and first.content == node.content else None
