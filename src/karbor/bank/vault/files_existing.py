"""What is there already where something is restored: equal things are kept, so that a repeated restore changes nothing."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from karbor.bank.vault.files_target import is_hole, old_file
from karbor.bank.vault.reader import Content

if TYPE_CHECKING:
    from karbor.bank.vault.files_metadata import Metadata
    from karbor.bank.vault.nodes import Node
    from karbor.bank.vault.repository import Repository

_PIECE = 1 << 20


class Existing:
    """Compares files of the target with nodes."""

    def __init__(self, repository: Repository, metadata: Metadata) -> None:
        self._repository, self._metadata = repository, metadata

    def is_equal_file(self, directory: int, node: Node, identity: tuple[int, int] | None) -> bool:
        """Whether the entry is a file with the node's content and metadata and, if `identity` is given, that one."""
        file = old_file(directory, node.name)
        if file is None:
            return False
        try:
            found = os.fstat(file)
            return (
                found.st_size == node.size
                and identity in (None, (found.st_dev, found.st_ino))
                and self._metadata.equal(file, found, node)
                and self._has_content(file, node)
            )
        finally:
            os.close(file)

    def _has_content(self, file: int, node: Node) -> bool:
        """Compare by hash, without fetching anything."""
        offset = 0
        zeros: dict[int, bytes] = {}
        for number, size in enumerate(Content.of(self._repository, [node]).sizes.tolist()):
            if is_hole(file, offset, size):
                if size not in zeros:
                    zeros[size] = hashlib.sha256(bytes(size)).digest()
                digest = zeros[size]
            else:
                digest = _digest(file, offset, size)
            if digest != node.content[32 * number : 32 * number + 32]:
                return False
            offset += size
        return True


def _digest(file: int, offset: int, size: int) -> bytes:
    """The hash of a range of a file, or of what there is of it."""
    digest = hashlib.sha256()
    end = offset + size
    while offset < end and (piece := os.pread(file, min(_PIECE, end - offset), offset)):
        digest.update(piece)
        offset += len(piece)
    return digest.digest()
