"""The vault of one resource: images, streams and trees, written, read and looked into."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from karbor.bank.vault.browse import entries, find, open_file
from karbor.bank.vault.resource_vault import ResourceVault
from karbor.errors import Damaged, InvalidInput, NotFound
from karbor.sdk.local_image import FileImage, FileTarget
from karbor.sdk.vault import RestoreOptions, TreeOptions, Vault

SIZE = (3 << 20) + 77


@pytest.fixture
def write(repository):
    """Write by a function of a vault; the tree's id."""

    def write(work, previous=None):
        with repository.writer() as writer:
            written = work(ResourceVault(repository, writer, previous_tree=previous))
        return written, bytes.fromhex(written.tree)

    return write


@pytest.fixture
def read(repository):
    return lambda tree: ResourceVault(repository, None, data_tree=tree)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "application"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "settings").write_bytes(b"verbose = yes\n")
    (root / "big").write_bytes(os.urandom(SIZE))
    (root / "link").symlink_to("etc/settings")
    (root / os.fsdecode(b"odd\xff")).write_bytes(b"")
    return root


@pytest.fixture
def opened():
    """Open descriptors, closed at the end."""
    files = []

    def open_one(path, flags=os.O_RDONLY):
        files.append(os.open(path, flags, 0o600))
        return files[-1]

    yield open_one
    for file in files:
        os.close(file)


def test_it_is_the_vault_that_plugins_know(repository):
    vault: Vault = ResourceVault(repository, None)
    assert vault is not None


def test_an_image_comes_back_with_its_holes(write, read, tmp_path, opened):
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(20 << 20)
        file.write(os.urandom(SIZE))
    written, tree = write(lambda vault: vault.write_image(FileImage(opened(path))))
    assert written.logical_bytes == 64 << 20
    assert SIZE <= written.read_bytes < 5 << 20
    assert SIZE <= written.added_bytes < 5 << 20
    again, same = write(lambda vault: vault.write_image(FileImage(opened(path)), changed=[]), previous=tree)
    assert (same, again.read_bytes, again.added_bytes) == (tree, 0, 0)
    copy = tmp_path / "copy"
    target = FileTarget(opened(copy, os.O_RDWR | os.O_CREAT), 64 << 20)
    assert read(tree).restore_image(target).logical_bytes == 64 << 20
    target.sync()
    assert copy.read_bytes() == path.read_bytes()
    assert copy.stat().st_blocks * 512 < 6 << 20
    assert read(tree).image().read((20 << 20) - 5, 10) == path.read_bytes()[(20 << 20) - 5 :][:10]
    seen = []
    verified = read(tree).verify(progress=lambda done, total: seen.append(done))
    assert verified.logical_bytes == seen[-1] == 64 << 20


def test_an_image_is_restored_over_what_was_there(write, read, tmp_path, opened):
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(4 << 20)
    _, tree = write(lambda vault: vault.write_image(FileImage(opened(path))))
    copy = tmp_path / "copy"
    copy.write_bytes(os.urandom(5 << 20))
    read(tree).restore_image(FileTarget(opened(copy, os.O_RDWR), 4 << 20))
    assert copy.read_bytes() == bytes(4 << 20)


def test_a_stream_comes_back_and_stays_the_same_tree(write, read, clock):
    data = os.urandom(SIZE)
    written, tree = write(lambda vault: vault.write_stream([data[:5], data[5:]]))
    clock.seconds += 10
    assert write(lambda vault: vault.write_stream([data]), previous=tree)[1] == tree
    assert write(lambda vault: vault.write_stream([data + b"x"]), previous=tree)[1] != tree
    assert b"".join(read(tree).read_stream()) == data
    assert (written.logical_bytes, written.read_bytes, written.files) == (SIZE, SIZE, 1)


def test_a_directory_comes_back(write, read, folder, tmp_path, opened):
    written, tree = write(lambda vault: vault.write_tree(opened(folder), TreeOptions()))
    assert (written.files, written.logical_bytes) == (4, SIZE + 14)
    again, _ = write(lambda vault: vault.write_tree(opened(folder), TreeOptions()), previous=tree)
    assert again.read_bytes < SIZE
    target = tmp_path / "target"
    target.mkdir()
    assert read(tree).restore_tree(opened(target), RestoreOptions()).files == 4
    assert (target / "big").read_bytes() == (folder / "big").read_bytes()
    assert (target / "link").readlink() == Path("etc/settings")
    part = tmp_path / "part"
    part.mkdir()
    read(tree).restore_tree(opened(part), RestoreOptions(), path="etc")
    assert [path.name for path in part.rglob("*")] == ["etc", "settings"]
    assert read(tree).verify().logical_bytes == SIZE + 14


def test_a_directory_can_be_looked_into(write, repository, folder, opened):
    _, tree = write(lambda vault: vault.write_tree(opened(folder), TreeOptions()))
    assert [(entry.name, entry.type) for entry in entries(repository, tree)] == [
        ("big", "file"),
        ("etc", "dir"),
        ("link", "symlink"),
        ("odd\udcff", "file"),
    ]
    (settings,) = entries(repository, tree, "/etc/settings")
    assert (settings.size, settings.type) == (14, "file")
    assert open_file(repository, tree, "etc/settings").read(0, 7) == b"verbose"
    assert open_file(repository, tree, "odd\udcff").read(0, 7) == b""
    assert entries(repository, tree, "link")[0].target == "etc/settings"
    for path in ("nothing", "etc/nothing", "big/more"):
        with pytest.raises(NotFound):
            find(repository, tree, path)
    with pytest.raises(InvalidInput, match="no file"):
        open_file(repository, tree, "etc")


def test_an_image_can_be_looked_into(write, repository, memory_image, monkeypatch):
    monkeypatch.setattr("karbor.bank.vault.image.PART", 1 << 20)
    data = os.urandom(SIZE)
    _, tree = write(lambda vault: vault.write_image(memory_image(data)))
    (entry,) = entries(repository, tree)
    assert (entry.name, entry.size) == ("data", SIZE)
    assert open_file(repository, tree).read((1 << 20) - 5, 10) == data[(1 << 20) - 5 :][:10]


def test_what_was_not_stored_is_said(read, write, repository, folder, opened):
    _, tree = write(lambda vault: vault.write_tree(opened(folder), TreeOptions()))
    _, stream = write(lambda vault: vault.write_stream([b"x"]))
    with pytest.raises(InvalidInput, match="directory"):
        read(tree).image()
    with pytest.raises(InvalidInput, match="no directory"):
        read(stream).restore_tree(opened(folder), RestoreOptions())
    with repository.writer() as writer:
        nothing = writer.save_tree([])
    with pytest.raises(NotFound, match="no data"):
        read(nothing).image()
    with pytest.raises(InvalidInput, match="writing"):
        ResourceVault(repository, None).verify()
    with pytest.raises(InvalidInput, match="reading"):
        read(tree).write_stream([b"x"])


def test_verify_names_what_is_damaged(write, read, repository, bank):
    _, tree = write(lambda vault: vault.write_stream([os.urandom(SIZE)]))
    pack = max(bank.list(f"{repository.prefix}data/"), key=lambda stat: stat.size)
    raw = bytearray(bank.get(pack.key, limit=1 << 30))
    raw[1000] ^= 8
    bank.put(pack.key, [raw])
    with pytest.raises(Damaged, match=f"{pack.key} is damaged: .*; it holds bytes of data"):
        read(tree).verify()
    bank.delete(pack.key)
    with pytest.raises(Damaged, match=f"{pack.key} is damaged: it is missing; it holds bytes of data"):
        read(tree).verify()
