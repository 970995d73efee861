"""What a protect reads, takes over, leaves out and refuses."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path

import pytest

from karbor.bank.vault.files_write import MAX_DEPTH, write_tree
from karbor.errors import InvalidInput, ResourceFailed
from karbor.sdk.vault import TreeOptions

from .conftest import everything, needs_root, opened, same


def names(trees, node):
    """Paths of everything in a stored tree."""
    found = []
    for below in trees.repository.load_tree(node.subtree):
        name = os.fsdecode(below.name)
        found.append(name)
        if below.type == "dir":
            found += [f"{name}/{deeper}" for deeper in names(trees, below)]
    return found


def fill(root, *paths):
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path)


@contextlib.contextmanager
def mounted(kind, path, *options):
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", kind, *options, kind, path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@contextlib.contextmanager
def unprivileged():
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


# --- increments


@needs_root
def test_an_unchanged_tree_is_not_read_again(trees, source):
    everything(source)
    first = trees.protect(source)
    second = trees.protect(source, previous=first.node.subtree)
    assert (second.read_bytes, second.added_bytes) == (0, 0)
    assert (second.node, second.files, second.logical_bytes) == (first.node, first.files, first.logical_bytes)


def test_only_what_changed_is_read(trees, source, tmp_path):
    fill(source, "a/one", "a/two", "b/three")
    first = trees.protect(source)
    (source / "a" / "two").write_text("changed")
    fill(source, "c/new")
    (source / "b" / "three").unlink()
    second = trees.protect(source, previous=first.node.subtree)
    assert second.read_bytes == len("changed") + len("c/new")
    trees.restore(second.node, tmp_path / "target")
    same(source, tmp_path / "target")


@pytest.mark.parametrize("change", ["content", "mtime", "mode", "attribute", "replaced"])
def test_every_kind_of_change_is_seen(trees, source, tmp_path, change):
    fill(source, "file")
    file = source / "file"
    first = trees.protect(source)
    before = file.stat()
    if change == "content":
        file.write_text("ELIF")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "mtime":
        os.utime(file, ns=(0, 1))
    elif change == "mode":
        file.chmod(0o600)
    elif change == "attribute":
        os.setxattr(file, "user.x", b"y")
    else:
        (source / "other").write_text("ELIF")
        os.utime(source / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
        (source / "other").replace(file)
    second = trees.protect(source, previous=first.node.subtree)
    assert second.node.subtree != first.node.subtree
    trees.restore(second.node, tmp_path / "target")
    same(source, tmp_path / "target")


def test_a_previous_tree_that_is_lost_is_no_obstacle(trees, source, tmp_path):
    fill(source, "one", "two")
    figures = trees.protect(source, previous=b"\x01" * 32)
    assert figures.read_bytes == len("onetwo")
    trees.restore(figures.node, tmp_path / "target")
    same(source, tmp_path / "target")


def test_an_inherited_blob_that_is_marked_dead_is_stored_again(trees, source):
    fill(source, "one", "two")
    first = trees.protect(source)
    dead = frozenset(
        place.pack
        for node in trees.repository.load_tree(first.node.subtree)
        for place in trees.repository.index.places("data", node.content)
    )
    with opened(source) as root, trees.repository.writer(dead=dead) as writer:
        second = write_tree(writer, root, TreeOptions(), previous=first.node.subtree)
    assert second.read_bytes == len("onetwo")
    assert second.added_bytes > 0


# --- what is left out


def test_excludes_leave_out_and_are_counted(trees, source):
    fill(source, "a.tmp", "keep", "sub/b.tmp", "cache/x", "sub/cache/y", "logs/deep/er/z", "build", "sub/build/out")
    options = TreeOptions(excludes=("*.tmp", "cache/", "/logs/**", "build/"))
    figures = trees.protect(source, options)
    assert sorted(names(trees, figures.node)) == ["build", "keep", "logs", "sub"]
    assert figures.skipped_count == {"excluded": 6}
    assert {one.path for one in figures.skipped} == {
        "a.tmp",
        "sub/b.tmp",
        "cache",
        "sub/cache",
        "logs/deep",
        "sub/build",
    }


def test_a_negated_pattern_is_refused(trees, source):
    with pytest.raises(InvalidInput, match="negation"):
        trees.protect(source, TreeOptions(excludes=("!keep",)))


def test_a_tagged_cache_keeps_its_tag_only(trees, source):
    fill(source, "real/x", "cache/x", "cache/sub/y", "fake/x", "fake/CACHEDIR.TAG")
    (source / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    figures = trees.protect(source)
    wanted = ["cache", "cache/CACHEDIR.TAG", "fake", "fake/CACHEDIR.TAG", "fake/x", "real", "real/x"]
    assert sorted(names(trees, figures.node)) == wanted
    assert [(one.path, one.reason) for one in figures.skipped] == [("cache", "cache")]
    assert "cache/sub/y" in names(trees, trees.protect(source, TreeOptions(skip_caches=False)).node)


def test_a_socket_is_listed(trees, source):
    fill(source, "keep")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(source):
        listening.bind("socket")
        figures = trees.protect(source)
    assert names(trees, figures.node) == ["keep"]
    assert [(one.path, one.reason) for one in figures.skipped] == [("socket", "socket")]


def test_the_service_s_own_things_never_enter(trees, source, tmp_path):
    fill(source, "keep", "bank/data", "sub/keys")
    os.link(source / "sub" / "keys", source / "another-name")
    options = TreeOptions(never=(str(source / "bank"), str(source / "sub" / "keys"), str(tmp_path / "nothing")))
    figures = trees.protect(source, options)
    assert sorted(names(trees, figures.node)) == ["keep", "sub"]
    assert {(one.path, one.reason) for one in figures.skipped} == {
        ("bank", "never"), ("sub/keys", "never"), ("another-name", "never"),
    }  # fmt: skip
    for inside in (source / "bank", source):
        with pytest.raises(ResourceFailed, match="own bank"):
            trees.protect(inside, TreeOptions(never=(str(source),)))


@needs_root
def test_mounts_stay_empty_directories(trees, source):
    fill(source, "keep")
    with mounted("tmpfs", source / "tmpfs"), mounted("proc", source / "proc"):
        fill(source, "tmpfs/file")
        figures = trees.protect(source)
        assert sorted(names(trees, figures.node)) == ["keep", "proc", "tmpfs"]
        assert {(one.path, one.reason) for one in figures.skipped} == {
            ("tmpfs", "other file system"), ("proc", "pseudo file system"),
        }  # fmt: skip
        figures = trees.protect(source, TreeOptions(one_file_system=False))
        assert sorted(names(trees, figures.node)) == ["keep", "proc", "tmpfs", "tmpfs/file"]
        with pytest.raises(ResourceFailed, match="pseudo"):
            trees.protect(source / "proc")


# --- what changes meanwhile


class Meddler:
    """A progress callback that does something after the n-th piece was read."""

    def __init__(self, act, *, pieces=None):
        self.act, self.pieces, self.calls = act, pieces, 0

    def __call__(self, done, total):
        self.calls += 1
        if self.pieces is None or self.calls in self.pieces:
            self.act()


def test_a_file_that_changes_once_is_read_again(trees, source, tmp_path):
    fill(source, "file")
    meddler = Meddler(lambda: (source / "file").write_text("changed"), pieces=[1])
    figures = trees.protect(source, progress=meddler)
    assert figures.skipped == ()
    assert figures.read_bytes == len("file") + len("changed")
    trees.restore(figures.node, tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "changed"


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_a_file_that_never_holds_still_is_listed(trees, source, tmp_path, size):
    (source / "file").write_bytes(b"x" * size)

    def append():
        with (source / "file").open("ab") as file:
            file.write(b"more")

    figures = trees.protect(source, progress=Meddler(append))
    assert [(one.path, one.reason) for one in figures.skipped] == [("file", "changed while read")]
    restored = trees.restore(figures.node, tmp_path / "target")
    assert restored.logical_bytes == figures.logical_bytes
    content = (tmp_path / "target" / "file").read_bytes()
    assert content.rstrip(b"more") == b"x" * size
    with pytest.raises(ResourceFailed, match="file changed while it was read"):
        trees.protect(source, TreeOptions(on_change="fail"), progress=Meddler(append))


def test_a_file_that_is_cut_while_it_is_read(trees, source, tmp_path):
    (source / "file").write_bytes(os.urandom(5 << 20))
    cut = Meddler(lambda: os.truncate(source / "file", 1000), pieces=[1])
    figures = trees.protect(source, progress=cut)
    assert figures.skipped == ()
    trees.restore(figures.node, tmp_path / "target")
    same(source, tmp_path / "target")


def test_a_file_that_vanishes_is_listed(trees, source):
    fill(source, "a", "b", "c")
    figures = trees.protect(source, progress=Meddler((source / "b").unlink, pieces=[1]))
    assert names(trees, figures.node) == ["a", "c"]
    assert [(one.path, one.reason) for one in figures.skipped] == [("b", "vanished")]


def test_a_file_that_becomes_a_link_is_stored_as_one(trees, source):
    fill(source, "a", "b")

    def swap():
        (source / "b").unlink()
        (source / "b").symlink_to("/etc/shadow")

    figures = trees.protect(source, progress=Meddler(swap, pieces=[1]))
    stored = {node.name: node for node in trees.repository.load_tree(figures.node.subtree)}
    assert (stored[b"b"].type, stored[b"b"].linktarget) == ("symlink", b"/etc/shadow")


@needs_root
def test_what_cannot_be_read_is_an_error_that_names_it(trees, source):
    fill(source, "sub/keep", "sub/secret", "locked/file")
    (source / "sub" / "secret").chmod(0)
    (source / "locked").chmod(0)
    writer = trees.repository.writer()
    with opened(source) as root, unprivileged():
        with pytest.raises(ResourceFailed, match="locked: Permission denied"):
            write_tree(writer, root, TreeOptions())
        with pytest.raises(ResourceFailed, match="sub/secret: Permission denied"):
            write_tree(writer, root, TreeOptions(excludes=("locked",)))
        figures = write_tree(writer, root, TreeOptions(excludes=("locked", "secret")))
        assert figures.skipped_count == {"excluded": 2}


def test_a_tree_that_is_too_deep_is_refused(trees, source):
    here = os.open(source, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 1):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(ResourceFailed, match="directories deep"):
        trees.protect(source)
    subprocess.run(["rm", "-rf", source], check=True)


def test_a_stopped_protect_closes_what_it_opened(trees, source):
    fill(source, "a/b/c/file")

    def stop(done, total):
        raise KeyboardInterrupt

    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(KeyboardInterrupt):
        trees.protect(source, progress=stop)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@needs_root
def test_an_absurd_hole_is_refused_and_a_large_one_costs_nothing(trees, source, tmp_path):
    with (source / "large").open("wb") as file:
        file.truncate(1 << 40)
    figures = trees.protect(source)
    assert (figures.logical_bytes, figures.read_bytes) == (1 << 40, 0)
    trees.restore(figures.node, tmp_path / "target")
    assert (tmp_path / "target" / "large").stat().st_size == 1 << 40
    assert (tmp_path / "target" / "large").stat().st_blocks == 0
    assert trees.restore(figures.node, tmp_path / "target").skipped == ()
    with mounted("tmpfs", source / "tmpfs"):
        with (source / "tmpfs" / "absurd").open("wb") as file:
            file.truncate((1 << 63) - 4096)
        with pytest.raises(ResourceFailed, match="absurd has 9223372036854771712 bytes"):
            trees.protect(source / "tmpfs")
