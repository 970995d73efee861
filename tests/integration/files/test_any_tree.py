"""Any tree comes back as it was, increments of any change included."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import Trees, same

BLOCK = 4096
NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))
LONG_NAMES = st.sampled_from([b"x" * 255, "é".encode() * 127, b"\xff" * 255, b"\n" * 200])
TIMES = st.integers(-(2**33) * 10**9, 2**33 * 10**9)
MODES = st.integers(0, 0o1777)
ATTRIBUTES = st.dictionaries(st.sampled_from(["user.a", "user.b", "user.é"]), st.binary(max_size=100), max_size=2)
PIECES = st.lists(st.one_of(st.binary(max_size=50), st.integers(0, 40).map(lambda blocks: blocks * BLOCK)), max_size=5)
"""Data, and numbers of bytes to leave out."""
REPEATS = st.sampled_from([1, 1, 1, 30_000])

FILES = st.tuples(st.just("file"), PIECES, REPEATS, MODES, TIMES, ATTRIBUTES)
SYMLINKS = st.tuples(st.just("symlink"), st.binary(min_size=1, max_size=40).filter(lambda text: 0 not in text), TIMES)
FIFOS = st.tuples(st.just("fifo"), MODES, TIMES)
LINKS = st.tuples(st.just("link"), st.integers(0, 20))
LEAVES = st.one_of(FILES, FILES, SYMLINKS, FIFOS, LINKS)


def folders(below):
    entries = st.dictionaries(st.one_of(NAMES, LONG_NAMES), below, max_size=5)
    return st.tuples(st.just("dir"), entries, MODES, TIMES, ATTRIBUTES)


TREES = folders(st.recursive(LEAVES, folders, max_leaves=12))


def make(path: Path, tree: tuple, files: list[Path]) -> None:
    kind, first, *rest = tree
    if kind == "dir":
        mode, times, attributes = rest
        path.mkdir(exist_ok=True)
        for name, below in first.items():
            make(path / os.fsdecode(name), below, files)
        decorate(path, mode, times, attributes)
    elif kind == "file":
        repeats, mode, times, attributes = rest
        with path.open("wb") as file:
            for piece in first:
                file.seek(piece, os.SEEK_CUR) if isinstance(piece, int) else file.write(piece * repeats)
            file.truncate()
        decorate(path, mode, times, attributes)
        files.append(path)
    elif kind == "symlink":
        path.symlink_to(os.fsdecode(first))
        os.utime(path, ns=(0, rest[0]), follow_symlinks=False)
    elif kind == "fifo":
        os.mkfifo(path)
        decorate(path, first, rest[0], {})
    elif files:
        os.link(files[first % len(files)], path)


def decorate(path: Path, mode: int, times: int, attributes: dict) -> None:
    for name, value in attributes.items():
        os.setxattr(path, name, value)
    path.chmod(mode)
    os.utime(path, ns=(0, times))


def change(path: Path, tree: tuple) -> None:
    """Make another tree of it: what has no place in the new one goes."""
    for below in path.iterdir():
        if os.fsencode(below.name) in tree[1] and below.is_file():
            continue
        if below.is_dir() and not below.is_symlink():
            shutil.rmtree(below)
        else:
            below.unlink()
    kept = {name: below for name, below in tree[1].items() if not (path / os.fsdecode(name)).exists()}
    make(path, ("dir", kept, *tree[2:]), [])


@settings(max_examples=60, deadline=None)
@given(first=TREES, second=TREES)
def test_any_tree_comes_back(first, second):
    with tempfile.TemporaryDirectory() as scratch:
        trees = Trees(Path(scratch) / "bank")
        source = Path(scratch) / "source"
        make(source, first, [])
        before = trees.protect(source)
        assert before.skipped == ()
        trees.restore(before.node, Path(scratch) / "first")
        same(source, Path(scratch) / "first")
        change(source, second)
        after = trees.protect(source, previous=before.node.subtree)
        assert after.skipped == ()
        assert trees.restore(after.node, Path(scratch) / "second").skipped == ()
        same(source, Path(scratch) / "second")
        trees.bank.close()
