"""What a restore replaces, keeps, leaves out and refuses, and that doing it twice changes nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from karbor.bank.vault.files_read import restore_tree
from karbor.bank.vault.files_target import NewContent
from karbor.errors import Conflict, Damaged, InvalidInput, NotFound, ResourceFailed
from karbor.sdk.vault import RestoreOptions

from .conftest import AS_IT_WAS, described, everything, needs_root, opened, same
from .test_protect import Meddler, fill, mounted, unprivileged

OVERWRITE = RestoreOptions(overwrite=True, owners=True, set_id_bits=True, devices=True, security_attributes=True)


def inodes(root):
    return {str(path.relative_to(root)): path.lstat().st_ino for path in root.rglob("*")}


@needs_root
def test_restoring_twice_keeps_everything_that_is_there(trees, source, tmp_path):
    everything(source)
    node = trees.protect(source).node
    target = tmp_path / "target"
    first = trees.restore(node, target)
    before = inodes(target)
    for options in (AS_IT_WAS, OVERWRITE):
        again = trees.restore(node, target, options)
        assert (again.skipped, again.files, again.logical_bytes) == ((), first.files, first.logical_bytes)
        assert inodes(target) == before
        same(source, target)


@needs_root
@pytest.mark.parametrize("turns", [1, 3, 10])
def test_a_restore_that_was_stopped_is_finished_by_the_next(trees, source, tmp_path, turns):
    everything(source)
    node = trees.protect(source).node

    class Stop(Exception):
        pass

    def stop():
        raise Stop

    with pytest.raises(Stop):
        trees.restore(node, tmp_path / "target", progress=Meddler(stop, pieces=[turns]))
    restored = trees.restore(node, tmp_path / "target")
    assert restored.skipped == ()
    same(source, tmp_path / "target")


def test_a_scratch_file_of_a_killed_restore_is_taken_over(trees, source, tmp_path, monkeypatch):
    fill(source, "a", "b")
    node = trees.protect(source).node
    monkeypatch.setattr("karbor.bank.vault.files_target._remove", lambda directory, name: None)
    monkeypatch.setattr("karbor.bank.vault.files_target._name", lambda *arguments, **named: None)
    trees.restore(node, tmp_path / "target")
    assert all(name.startswith(".karbor-") for name in inodes(tmp_path / "target"))
    assert len(inodes(tmp_path / "target")) == 2
    monkeypatch.undo()
    fill(tmp_path / "target", "b")  # equal by content, not by time: it exists
    restored = trees.restore(node, tmp_path / "target")
    assert [(one.path, one.reason) for one in restored.skipped] == [("b", "exists")]
    assert sorted(inodes(tmp_path / "target")) == ["a", "b"]


def test_what_exists_is_not_replaced_unless_asked(trees, source, tmp_path):
    fill(source, "file", "sub/file", "becomes-directory/x")
    (source / "link").symlink_to("file")
    os.mkfifo(source / "fifo")
    node = trees.protect(source).node
    target = tmp_path / "target"
    fill(target, "file", "sub/file", "link", "fifo", "becomes-directory", "stranger")
    (target / "file").write_text("of somebody else")
    before = described(target)
    restored = trees.restore(node, target)
    assert {(one.path, one.reason) for one in restored.skipped} == {
        ("file", "exists"), ("sub/file", "exists"), ("link", "exists"), ("fifo", "exists"), ("becomes-directory", "exists"),
    }  # fmt: skip
    after = described(target)
    assert {path: before[path] for path in before if path not in (".", "sub")} == {
        path: after[path] for path in before if path not in (".", "sub")
    }
    restored = trees.restore(node, target, OVERWRITE)
    assert restored.skipped == ()
    (target / "stranger").unlink()
    os.utime(target, ns=(0, source.stat().st_mtime_ns))
    same(source, target)


def test_a_directory_is_never_replaced_by_something_else(trees, source, tmp_path):
    fill(source, "file")
    (source / "link").symlink_to("file")
    node = trees.protect(source).node
    fill(tmp_path / "target", "file/precious", "link/precious")
    restored = trees.restore(node, tmp_path / "target", OVERWRITE)
    assert {(one.path, one.reason) for one in restored.skipped} == {("file", "exists"), ("link", "exists")}
    assert (tmp_path / "target" / "file" / "precious").exists()
    assert (tmp_path / "target" / "link" / "precious").exists()


@pytest.mark.parametrize("change", ["content", "mode", "mtime", "attribute"])
def test_in_place_only_what_differs_is_written(trees, source, tmp_path, change):
    fill(source, "a", "b")
    node = trees.protect(source).node
    shutil.copytree(source, tmp_path / "as-it-was", symlinks=True)
    before = source.joinpath("b").stat()
    kept = (source / "a").stat().st_ino
    if change == "content":
        (source / "b").write_text("B")
        os.utime(source / "b", ns=(0, before.st_mtime_ns))
    elif change == "mode":
        (source / "b").chmod(0o777)
    elif change == "mtime":
        os.utime(source / "b", ns=(0, 1))
    else:
        os.setxattr(source / "b", "user.x", b"y")
    restored = trees.restore(node, source, OVERWRITE)
    assert restored.skipped == ()
    same(tmp_path / "as-it-was", source)
    assert (source / "a").stat().st_ino == kept


def test_an_outside_name_of_a_replaced_file_is_untouched(trees, source, tmp_path):
    """In place means a new file: what else links to the old one keeps its bytes and mode."""
    fill(source, "file")
    (source / "file").chmod(0o600)
    node = trees.protect(source).node
    (source / "file").write_text("other")
    (source / "file").chmod(0o666)
    os.link(source / "file", tmp_path / "outside")
    trees.restore(node, source, OVERWRITE)
    assert (tmp_path / "outside").read_text() == "other"
    assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o666


# --- options


@needs_root
def test_by_default_nothing_is_given_that_could_give_power(trees, source, tmp_path):
    fill(source, "file", "theirs", "capable")
    (source / "file").chmod(0o6755)
    (source / "sub").mkdir()
    (source / "sub").chmod(0o2777)
    os.chown(source / "theirs", 1234, 5678)
    os.setxattr(source / "capable", "security.capability", bytes.fromhex("0100000200000000000000000000000000000000"))
    os.setxattr(source / "capable", "trusted.x", b"x")
    os.setxattr(source / "capable", "user.x", b"x")
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    restored = trees.restore(trees.protect(source).node, tmp_path / "target", RestoreOptions())
    assert {(one.path, one.reason, one.detail) for one in restored.skipped} == {
        ("file", "set-id bits", ""), ("sub", "set-id bits", ""), ("theirs", "owner", ""), ("null", "device", ""),
        ("capable", "security attribute", "security.capability"), ("capable", "security attribute", "trusted.x"),
    }  # fmt: skip
    assert restored.skipped_count == {"set-id bits": 2, "owner": 1, "device": 1, "security attribute": 2}
    found = {path.name: path.stat() for path in (tmp_path / "target").iterdir()}
    assert stat.S_IMODE(found["file"].st_mode) == 0o755
    assert stat.S_IMODE(found["sub"].st_mode) == 0o777
    assert found["theirs"].st_uid == 0
    assert "null" not in found
    assert os.listxattr(tmp_path / "target" / "capable") == ["user.x"]


def test_inherited_acls_do_not_stay(trees, source, tmp_path):
    fill(source, "file")
    node = trees.protect(source).node
    target = tmp_path / "target"
    target.mkdir()
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", target], check=True)
    trees.restore(node, target)
    assert os.listxattr(target / "file") == []
    same(source, target)


# --- one path


def test_one_file_comes_back_alone(trees, source, tmp_path):
    fill(source, "a/b/file", "a/b/other", "a/other", "other")
    (source / "a").chmod(0o750)
    node = trees.protect(source).node
    restored = trees.restore(node, tmp_path / "target", path="a/b/file")
    assert (restored.files, restored.logical_bytes) == (1, len("a/b/file"))
    assert sorted(inodes(tmp_path / "target")) == ["a", "a/b", "a/b/file"]
    assert stat.S_IMODE((tmp_path / "target" / "a").stat().st_mode) == 0o750
    assert (tmp_path / "target" / "a" / "b" / "file").stat().st_mtime_ns == (source / "a/b/file").stat().st_mtime_ns


def test_one_directory_comes_back_whole_and_leaves_those_above_alone(trees, source, tmp_path):
    fill(source, "a/b/c/file", "a/b/other", "a/other")
    node = trees.protect(source).node
    target = tmp_path / "target"
    (target / "a").mkdir(parents=True, mode=0o711)
    os.utime(target / "a", ns=(0, 5))
    trees.restore(node, target, path="/a/b/")
    same(source / "a" / "b", target / "a" / "b")
    assert stat.S_IMODE((target / "a").stat().st_mode) == 0o711
    assert sorted(os.fspath(path.relative_to(target)) for path in (target / "a").iterdir()) == ["a/b"]


@pytest.mark.parametrize("path", ["nothing", "a/nothing", "a/file/below", "..", "a/../a"])
def test_a_path_that_is_not_there_is_not_found(trees, source, tmp_path, path):
    fill(source, "a/file")
    node = trees.protect(source).node
    with pytest.raises(NotFound, match="not in the checkpoint"):
        trees.restore(node, tmp_path / "target", path=path)


# --- failures


def test_two_restores_to_one_place_exclude_each_other(trees, source, tmp_path):
    fill(source, "file")
    node = trees.protect(source).node
    (tmp_path / "target").mkdir()
    with opened(tmp_path / "target") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another restore"):
            trees.restore(node, tmp_path / "target")
    trees.restore(node, tmp_path / "target")


@needs_root
def test_a_full_target_is_said(trees, source, tmp_path):
    (source / "large").write_bytes(os.urandom(3 << 20))
    node = trees.protect(source).node
    with mounted("tmpfs", tmp_path / "target", "-o", "size=1m"):
        with pytest.raises(ResourceFailed, match="large: No space left on device"):
            trees.restore(node, tmp_path / "target")
        assert list((tmp_path / "target").iterdir()) == []


def test_damage_is_said_and_leaves_no_half_file(trees, source, tmp_path):
    fill(source, "file")
    node = trees.protect(source).node
    (stored,) = trees.repository.load_tree(node.subtree)
    (place,) = trees.repository.index.places("data", stored.content)
    with Path(trees.bank.location, trees.repository.pack_path(place.pack)).open("r+b") as file:
        file.seek(place.offset + 20)
        file.write(b"\0")
    with pytest.raises(Damaged, match=place.pack.hex()):
        trees.restore(node, tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_only_a_directory_can_be_restored_as_one(trees, source, tmp_path):
    fill(source, "file")
    (stored,) = trees.repository.load_tree(trees.protect(source).node.subtree)
    with pytest.raises(InvalidInput, match="no directory"):
        trees.restore(stored, tmp_path / "target")


def test_descriptors_are_given_back(trees, source, tmp_path):
    fill(source, "a/b/c/file", "a/b/link")
    os.link(source / "a/b/link", source / "a/linked")
    node = trees.protect(source).node
    before = len(list(Path("/proc/self/fd").iterdir()))
    trees.restore(node, tmp_path / "target")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 10_000])
def test_zeros_become_holes_and_nothing_else_does(tmp_path, offset):
    block = 4096
    data = b"".join((b"a" * 100, bytes(5 * block), b"b", bytes(3 * block), b"c" * block, bytes(2 * block)))
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(offset + len(data))
        NewContent(file.fileno()).write_at(offset, data)
    assert (tmp_path / "file").read_bytes() == bytes(offset) + data
    assert (tmp_path / "file").stat().st_blocks * 512 <= 7 * block


@needs_root
def test_an_unprivileged_restore_says_what_it_could_not_give(trees, source, tmp_path):
    everything(source)
    node = trees.protect(source).node
    target = tmp_path / "target"
    target.mkdir()
    for path in (Path(trees.bank.location), *Path(trees.bank.location).rglob("*"), target):
        os.chown(path, 65534, 65534)
    with opened(target) as root, unprivileged():
        restored = restore_tree(trees.repository, node, root, OVERWRITE)
        again = restore_tree(trees.repository, node, root, RestoreOptions(overwrite=True))
    assert restored.skipped_count.keys() == {"owner", "device", "attribute"}
    assert restored.skipped_count["device"] == 2
    assert [one.detail for one in restored.skipped if one.path == "large" and one.reason == "attribute"] == [
        "trusted.of-karbor: Operation not permitted"
    ]
    assert (target / "large").read_bytes() == (source / "large").read_bytes()
    assert again.files == restored.files
    found = {name: (entry[0], entry[3], entry[6]) for name, entry in described(target).items()}
    wanted = {name: (entry[0], entry[3], entry[6]) for name, entry in described(source).items()}
    assert {name for name in wanted if found.get(name) != wanted[name]} <= {"disk", "null", "setuid", "setgid"}
