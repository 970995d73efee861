"""Walking a stored tree: every node below it, a directory before what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from karbor.bank.vault.nodes import Node
    from karbor.bank.vault.repository import Repository

MAX_DEPTH = 4096
"""Directories in directories; deeper ones than any file system can name are refused."""


def walk(
    repository: Repository, tree: bytes, *, enter: Callable[[bytes], bool] = lambda _tree: True
) -> Iterator[tuple[bytes, Node]]:
    """(path, node) of everything below the tree `tree`, paths relative to it. A directory whose tree `enter` refuses
    is named but not walked.
    """
    stack = [(b"", iter(repository.load_tree(tree)))]
    while stack:
        folder, nodes = stack[-1]
        node = next(nodes, None)
        if node is None:
            stack.pop()
            continue
        path = folder + node.name
        yield path, node
        if node.type == "dir" and enter(node.subtree):
            if len(stack) >= MAX_DEPTH:
                raise Damaged(f"{repository.prefix}tree/{tree.hex()}", f"it is deeper than {MAX_DEPTH} directories")
            stack.append((path + b"/", iter(repository.load_tree(node.subtree))))
