"""Looking into a resource's data without restoring it: what a path holds, and a file in it for range reads.

A resource's tree holds the node `data` (a directory or a file) or, of a very large image, `data.0000`, `data.0001` …;
paths are relative to the directory, and the empty path of an image names the image.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from karbor.bank.vault.reader import Content
from karbor.bank.vault.wireformat import go_time
from karbor.errors import InvalidInput, NotFound
from karbor.sdk.vault import Entry

if TYPE_CHECKING:
    from karbor.bank.vault.nodes import Node
    from karbor.bank.vault.repository import Repository

_DATA = re.compile(rb"data(\.\d{4,})?")


def data_nodes(repository: Repository, tree: bytes) -> tuple[Node, ...]:
    """The nodes of a resource's tree that are its data."""
    return tuple(node for node in repository.load_tree(tree) if _DATA.fullmatch(node.name))


def find(repository: Repository, tree: bytes, path: str) -> tuple[Node, ...]:
    """What lies at `path` in a resource's data: one node, or the parts of an image. `NotFound` where nothing does."""
    nodes = data_nodes(repository, tree)
    for part in _parts(path):
        folder = nodes[0] if len(nodes) == 1 else None
        if folder is None or folder.type != "dir":
            raise NotFound(f"{path}: there is no directory to look into")
        nodes = tuple(node for node in repository.load_tree(folder.subtree) if node.name == part)
        if not nodes:
            raise NotFound(f"{path}: {part.decode('utf-8', 'replace')} is not in the checkpoint")
    if not nodes:
        raise NotFound("the resource stored no data in the vault")
    return nodes


def entries(repository: Repository, tree: bytes, path: str = "") -> list[Entry]:
    """What the directory at `path` holds; of anything else, itself."""
    nodes = find(repository, tree, path)
    if nodes[0].type == "dir":
        return [_entry(node) for node in repository.load_tree(nodes[0].subtree)]
    first = _entry(nodes[0])
    if len(nodes) == 1:
        return [first]
    return [msgspec.structs.replace(first, name="data", size=sum(node.size for node in nodes))]


def open_file(repository: Repository, tree: bytes, path: str = "") -> Content:
    """The file at `path`, or the image, for reading any range."""
    nodes = find(repository, tree, path)
    if nodes[0].type != "file":
        raise InvalidInput(f"{path or 'the resource'} is no file but a {nodes[0].type}", field="path")
    return Content.of(repository, nodes)


def _parts(path: str) -> list[bytes]:
    return [part for part in path.encode("utf-8", "surrogateescape").split(b"/") if part]


def _entry(node: Node) -> Entry:
    return Entry(
        name=node.name.decode("utf-8", "surrogateescape"),
        type=node.type,
        size=node.size,
        mode=node.mode,
        modified=go_time(node.mtime),
        target=node.linktarget.decode("utf-8", "surrogateescape"),
    )
