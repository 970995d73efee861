"""Plain restic on what we wrote: it finds no error and gives everything back."""

from __future__ import annotations

import hashlib
import os

import pytest

from karbor.bank.vault.crypto import HUMAN_KDF
from karbor.bank.vault.resource_vault import ResourceVault
from karbor.sdk.local_image import FileImage
from karbor.sdk.vault import TreeOptions


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate((40 << 20) + 12345)
        for at in (0, 10 << 20, 25 << 20):
            file.seek(at)
            file.write(os.urandom(300_000) + b"text " * 100_000)
    return path


@pytest.fixture
def write_image(repository, image):
    def write(previous=None, changed=None):
        file = os.open(image, os.O_RDONLY)
        try:
            with repository.writer() as writer:
                vault = ResourceVault(repository, writer, previous_tree=previous)
                return bytes.fromhex(vault.write_image(FileImage(file), changed=changed).tree)
        finally:
            os.close(file)

    return write


def test_an_empty_repository(repository, restic, restic_json, check):
    check()
    assert restic_json("snapshots") == []
    assert '"version": 2' in restic("cat", "config")


def test_a_recovery_passphrase_opens_it(repository, restic):
    repository.add_key("for the tenant", kdf=HUMAN_KDF, owner="tenant")
    assert "tenant" in restic("key", "list", RESTIC_PASSWORD="for the tenant")
    assert "wrong password" in restic("snapshots", RESTIC_PASSWORD="guessed", fails=True)


def test_an_image_and_its_increments(repository, image, write_image, commit, restic, restic_json, check, tmp_path):
    tree = write_image()
    first = commit(tree, "checkpoint=1", "plan=p")
    before = hashlib.sha256(image.read_bytes()).digest()
    with image.open("r+b") as file:
        file.seek(12 << 20)
        file.write(b"changed")
    second = commit(write_image(tree, [(12 << 20, 7)]), "checkpoint=2")
    check()
    shown = {snapshot["id"]: snapshot for snapshot in restic_json("snapshots")}
    assert set(shown) == {first, second}
    assert shown[first]["tags"] == ["checkpoint=1", "plan=p"]
    assert shown[first]["paths"] == ["/plan/p"]
    assert f"{image.stat().st_size} " in restic("ls", "-l", second)
    assert restic("dump", second, "/data", text=False) == image.read_bytes()
    restic("restore", first, "--target", tmp_path / "restored")
    assert hashlib.sha256((tmp_path / "restored" / "data").read_bytes()).digest() == before


def test_a_sparse_restore_is_sparse(image, write_image, commit, restic, tmp_path):
    commit(write_image())
    if "--sparse" not in restic("restore", "--help"):
        pytest.skip("this restic cannot restore sparsely")
    restic("restore", "latest", "--sparse", "--target", tmp_path / "restored")
    restored = tmp_path / "restored" / "data"
    assert restored.read_bytes() == image.read_bytes()
    assert restored.stat().st_blocks < 1.5 * image.stat().st_blocks


def test_what_restic_forgets_and_prunes_leaves_the_rest_to_us(
    repository, reopen, image, write_image, commit, restic, check
):
    tree = write_image()
    first = commit(tree, "checkpoint=1")
    with image.open("r+b") as file:
        file.seek(10 << 20)
        file.write(os.urandom(400_000))
    second_tree = write_image(tree, [(10 << 20, 400_000)])
    commit(second_tree, "checkpoint=2")
    held = reopen()
    reader = ResourceVault(held, None, data_tree=second_tree)
    reader.verify()
    restic("forget", first, "--prune", "--max-unused", "0")
    check()
    assert [snapshot.tag("checkpoint") for _, snapshot in reopen().snapshots()] == ["2"]
    # Through a repository that was open meanwhile, with the index of before, and through a fresh one.
    for opened in (held, reopen()):
        assert b"".join(ResourceVault(opened, None, data_tree=second_tree).read_stream()) == image.read_bytes()
    # And what is written now does not rely on what is gone.
    third = write_image(second_tree)
    commit(third)
    check()


def test_a_directory_is_to_the_byte_what_restic_makes_of_it(repository, commit, restic, restic_json, check, tmp_path):
    root = tmp_path / "tree"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "file").write_bytes(b"content" * 1000)
    (root / "empty").write_bytes(b"")
    (root / "link").symlink_to("deep/<&>ü")
    for name in (b'quote"back\\slash', b"bytes\xff\xfe", "ü\u2028\u200b😀".encode(), b"line\nbreak", b"<&>"):
        (root / os.fsdecode(name)).write_bytes(name)
    os.link(root / "empty", root / "hard")
    os.mkfifo(root / "fifo")
    os.setxattr(root / "deep", "user.note", b"\0\xff")
    (root / "deep").chmod(0o1750)
    os.utime(root / "empty", ns=(5, 1_700_000_000_123_456_789))
    directory = os.open(root, os.O_RDONLY)
    with repository.writer() as writer:
        written = ResourceVault(repository, writer).write_tree(directory, TreeOptions())
    os.close(directory)
    tree = bytes.fromhex(written.tree)
    commit(tree)
    check()
    ours = repository.load_tree(repository.load_tree(tree)[0].subtree)
    restic("backup", "--force", root)
    snapshot = restic_json("snapshots", "latest")[0]
    theirs = bytes.fromhex(snapshot["tree"])
    for part in str(root).strip("/").split("/"):
        theirs = next(node for node in repository.load_tree(theirs) if node.name == part.encode()).subtree
    assert repository.load_tree(theirs) == ours
    assert theirs == repository.load_tree(tree)[0].subtree
