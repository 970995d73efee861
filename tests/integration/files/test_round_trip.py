"""What is restored is what was protected, by us and by plain restic, in both directions."""

from __future__ import annotations

import os

from .conftest import everything, needs_restic, needs_root, same


@needs_root
def test_everything_comes_back_as_it_was(trees, source, tmp_path):
    everything(source)
    figures = trees.protect(source)
    assert figures.skipped == ()
    restored = trees.restore(figures.node, tmp_path / "target")
    assert (restored.skipped, restored.files) == ((), figures.files)
    same(source, tmp_path / "target")


@needs_root
@needs_restic
def test_restic_restores_what_we_wrote(trees, source, tmp_path):
    everything(source)
    (source / "dangling").unlink()  # this restic keeps the target of a link as text
    trees.commit(trees.protect(source).node)
    assert "no errors were found" in trees.restic("check", "--read-data")
    trees.restic("restore", "latest", "--target", str(tmp_path / "target"))
    same(source, tmp_path / "target" / "data", holes=False)


@needs_root
@needs_restic
def test_we_restore_what_restic_wrote(trees, source, tmp_path):
    everything(source)
    (source / "dangling").unlink()
    trees.restic("backup", str(source))
    trees.repository.refresh_index()
    ((_, snapshot),) = trees.repository.snapshots()
    node = None
    tree = snapshot.tree
    for part in source.parts[1:]:
        (node,) = trees.repository.load_tree(tree)
        assert node.name == os.fsencode(part)
        tree = node.subtree
    restored = trees.restore(node, tmp_path / "target")
    assert restored.skipped == ()
    same(source, tmp_path / "target")


@needs_root
@needs_restic
def test_a_tree_has_the_name_that_restic_gives_it(trees, source):
    """To the byte: whoever backs up the same directory with restic into our bank stores nothing of it again."""
    everything(source)
    for large in ("dangling", "large", "large-too", "sparse", "hole-only", "exactly-one-blob"):
        (source / large).unlink()  # restic cuts files from 512 KiB on
    ours = trees.protect(source).node
    trees.commit(ours)
    trees.restic("backup", str(source))
    trees.repository.refresh_index()
    snapshot = next(found for _, found in trees.repository.snapshots() if found.paths == (str(source),))
    tree = snapshot.tree
    for _ in source.parts[1:]:
        (node,) = trees.repository.load_tree(tree)
        tree = node.subtree
    stored = {node.name: node for node in trees.repository.load_tree(tree)}
    for mine in trees.repository.load_tree(ours.subtree):
        assert stored[mine.name] == mine
    assert tree == ours.subtree
