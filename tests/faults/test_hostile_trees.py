"""Attacks: crafted trees in the bank, and somebody who swaps directories for links while a tree is read or written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import threading
import time
from collections import Counter
from functools import partial

import pytest

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.files_read import MAX_DEPTH, restore_tree
from karbor.bank.vault.files_target import _scratch
from karbor.bank.vault.files_write import write_tree
from karbor.bank.vault.nodes import Node, encode_tree
from karbor.bank.vault.repository import Repository
from karbor.errors import Damaged, KarborError, ResourceFailed
from karbor.sdk.vault import RestoreOptions, TreeOptions
from karbor.system import SystemClock

SAFE = RestoreOptions()
REPLACING = RestoreOptions(overwrite=True)
POWERFUL = RestoreOptions(overwrite=True, owners=True, set_id_bits=True, devices=True, security_attributes=True)
RACE_SECONDS = 1.5


@pytest.fixture
def repository(tmp_path):
    bank = FilesystemBank(str(tmp_path / "bank"))
    yield Repository.create(bank, "provider/project-g1/", "of the tests", clock=SystemClock())
    bank.close()


@pytest.fixture
def outside(tmp_path):
    """What must never change."""
    folder = tmp_path / "outside"
    folder.mkdir(mode=0o755)
    (folder / "precious").write_text("precious")
    os.utime(folder, ns=(1, 1))
    before = _state(folder)
    yield folder
    assert _state(folder) == before


def _state(folder):
    found = [(path.name, path.lstat(), path.is_file() and path.read_text()) for path in [folder, *folder.rglob("*")]]
    return [(name, status.st_mode, status.st_uid, status.st_mtime_ns, text) for name, status, text in found]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def opened(path):
    path.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def restore(repository, tree, target, options=SAFE):
    with opened(target) as root:
        return restore_tree(repository, directory(b"data", tree), root, options)


def save(repository, *nodes):
    """A tree, sorted as a tree must be."""
    with repository.writer() as writer:
        return writer.save_tree(sorted(nodes, key=lambda node: node.name))


def save_raw(repository, raw):
    with repository.writer() as writer:
        return writer.save("tree", raw)


def directory(name, tree):
    return Node(name=name, type="dir", mode=0o755, subtree=tree)


def blob(repository, data):
    with repository.writer() as writer:
        return writer.save("data", data)


def file(repository, name, data=b"evil", **named):
    return Node(
        **{"name": name, "type": "file", "mode": 0o644, "size": len(data), "content": blob(repository, data), **named}
    )


# --- crafted trees


NAMES = [b"..", b".", b"a/b", b"/etc/evil", b"../../evil", b"nul\0", b"x" * 256, b"/"]


@pytest.mark.parametrize("options", [SAFE, POWERFUL])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_names_are_listed(repository, outside, tmp_path, name, options):
    below = save(repository, file(repository, b"evil"))
    for node in (
        file(repository, name),
        directory(name, below),
        Node(name=name, type="symlink", linktarget=b"/etc"),
        Node(name=name, type="fifo"),
    ):
        restored = restore(repository, save(repository, node, file(repository, b"good")), tmp_path / "target", options)
        assert restored.skipped_count == {"name": 1}
    assert names(tmp_path / "target") == ["good"]
    assert names(tmp_path) == ["bank", "outside", "target"]


def test_an_empty_name_is_listed(repository, tmp_path):
    raw = encode_tree([file(repository, b"x")]).replace(b'"name":"x"', b'"name":""')
    assert restore(repository, save_raw(repository, raw), tmp_path / "target").skipped_count == {"name": 1}


def test_a_name_twice_is_damage(repository, outside, tmp_path):
    """The classic: first a link, then a directory of the same name to write through it."""
    link = encode_tree([Node(name=b"x", type="symlink", linktarget=os.fsencode(outside))])
    below = save(repository, file(repository, b"evil"))
    raw = link[:-3] + b"," + encode_tree([directory(b"x", below)]).removeprefix(b'{"nodes":[')
    with pytest.raises(Damaged, match="order"):
        restore(repository, save_raw(repository, raw), tmp_path / "target", POWERFUL)


def test_a_link_of_an_earlier_restore_is_not_followed(repository, outside, tmp_path):
    link = save(repository, Node(name=b"x", type="symlink", mode=0o777, linktarget=os.fsencode(outside)))
    tree = save(repository, directory(b"x", save(repository, file(repository, b"precious"), file(repository, b"evil"))))
    restore(repository, link, tmp_path / "target")
    restored = restore(repository, tree, tmp_path / "target")
    assert [(one.path, one.reason) for one in restored.skipped] == [("x", "exists")]
    assert (tmp_path / "target" / "x").is_symlink()
    restored = restore(repository, tree, tmp_path / "target", REPLACING)
    assert restored.skipped_count.get("exists") is None
    assert names(tmp_path / "target" / "x") == ["evil", "precious"]
    assert not (tmp_path / "target" / "x").is_symlink()


def test_a_link_in_place_of_a_file_is_replaced_not_written_through(repository, outside, tmp_path):
    tree = save(repository, file(repository, b"x"))
    target = tmp_path / "target"
    target.mkdir()
    (target / "x").symlink_to(outside / "precious")
    (target / os.fsdecode(_scratch(b"x"))).symlink_to(outside / "precious")
    assert restore(repository, tree, target).skipped_count["exists"] == 1
    (target / os.fsdecode(_scratch(b"x"))).symlink_to(outside / "precious")
    assert "exists" not in restore(repository, tree, target, REPLACING).skipped_count
    assert [path.name for path in target.iterdir()] == ["x"]
    assert not (target / "x").is_symlink()


def test_hard_links_reach_only_what_this_restore_wrote(repository, outside, tmp_path):
    inode = (outside / "precious").stat()
    pretender = {"inode": inode.st_ino, "device_id": inode.st_dev, "links": 3}
    tree = save(
        repository,
        file(repository, b"a", **pretender),
        file(repository, b"b", b"other", **pretender),
        file(repository, b"c", **pretender),
    )
    restore(repository, tree, tmp_path / "target", POWERFUL)
    found = {path.name: path for path in (tmp_path / "target").iterdir()}
    assert found["a"].stat().st_ino == found["c"].stat().st_ino != inode.st_ino
    assert found["b"].stat().st_ino not in (found["a"].stat().st_ino, inode.st_ino)
    assert found["b"].read_text() == "other"


@pytest.mark.parametrize(
    "change",
    [
        {"size": 5}, {"size": 3}, {"size": 1 << 62}, {"content": b"\1" * 32}, {"content": b""},
    ],
)  # fmt: skip
def test_content_that_is_not_what_the_node_says_is_damage(repository, tmp_path, change):
    tree = save(repository, file(repository, b"x", **change))
    with pytest.raises(Damaged):
        restore(repository, tree, tmp_path / "target")
    assert names(tmp_path / "target") == []


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"nodes":7}', b'{"nodes":[{}]}', b"\xff" * 99])
def test_a_tree_that_is_none_is_damage(repository, tmp_path, raw):
    subtree = save_raw(repository, raw + b" ")
    with pytest.raises(Damaged):
        restore(repository, save(repository, directory(b"x", subtree)), tmp_path / "target")


def test_a_tree_without_end_is_refused(repository, tmp_path):
    """A tree cannot hold its own hash, but it can be as deep as anybody likes."""
    tree = save(repository)
    for _ in range(MAX_DEPTH + 1):
        tree = save(repository, directory(b"d", tree))
    with pytest.raises(ResourceFailed, match="directories deep"):
        restore(repository, tree, tmp_path / "target")


@pytest.mark.skipif(os.geteuid() != 0, reason="what only root may do must not be done")
def test_impossible_metadata_is_listed(repository, tmp_path):
    odd = {"mode": 0o7777, "uid": 2**64 - 1, "gid": 2**40, "mtime": -(2**70), "atime": 2**70}
    attributes = (
        (b"", b"x"), (b"no-name-space", b"x"), (b"nul\0nul", b"x"), (b"system.posix_acl_access", b"garbage"),
        (b"user.big", b"x" * 70_000), (b"user." + b"n" * 300, b"x"),
    )  # fmt: skip
    tree = save(
        repository,
        file(repository, b"a", xattrs=attributes, **odd),
        Node(name=b"b", type="symlink", linktarget=b"target", **odd),
        Node(name=b"c", type="symlink", linktarget=b""),
        Node(name=b"d", type="symlink", linktarget=b"nul\0"),
        Node(name=b"e", type="symlink", linktarget=b"x" * 5000),
        Node(name=b"f", type="chardev", device=2**63, mode=0o600),
        Node(name=b"g", type="socket"),
        directory(b"h", save(repository)),
    )
    restored = restore(repository, tree, tmp_path / "target", POWERFUL)
    assert names(tmp_path / "target")[:2] == ["a", "b"]
    assert {"owner", "attribute", "socket", "name"} <= restored.skipped_count.keys()
    assert (tmp_path / "target" / "a").read_text() == "evil"


@pytest.mark.skipif(os.geteuid() != 0, reason="what only root may do must not be done")
def test_without_the_options_nothing_powerful_is_made(repository, tmp_path):
    tree = save(
        repository,
        file(repository, b"shell", mode=0o6755, xattrs=((b"security.capability", b"\1" * 20),), uid=0),
        Node(name=b"disk", type="dev", device=os.makedev(8, 0), mode=0o666),
        Node(name=b"memory", type="chardev", device=os.makedev(1, 1), mode=0o666),
    )
    restored = restore(repository, tree, tmp_path / "target", REPLACING)
    assert restored.skipped_count == {"set-id bits": 1, "security attribute": 1, "device": 2}
    assert names(tmp_path / "target") == ["shell"]
    shell = tmp_path / "target" / "shell"
    assert (stat.S_IMODE(shell.stat().st_mode), os.listxattr(shell)) == (0o755, [])


# --- races


class Swapper:
    """Again and again puts a link where a directory or file is, and the real thing, or what was made there, back.

    The directory that holds it is held open, so that what is swapped is swapped also while that one is away.
    """

    def __init__(self, folder, name, link_to):
        self.folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.name, self.aside, self.link_to = name, f"{name}-aside", link_to
        self.count = 0

    def __call__(self):
        with contextlib.suppress(OSError):
            os.rename(self.name, self.aside, src_dir_fd=self.folder, dst_dir_fd=self.folder)
            os.symlink(self.link_to, self.name, dir_fd=self.folder)
            self.count += 1
            time.sleep(0.0005)  # for the others to meet it
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(os.stat(self.name, dir_fd=self.folder, follow_symlinks=False).st_mode):
                os.unlink(self.name, dir_fd=self.folder)
        try:
            os.rename(self.aside, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except OSError:
            # The restore made a new one meanwhile.
            shutil.rmtree(self.name, ignore_errors=True, dir_fd=self.folder)
            os.rename(self.aside, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)


@contextlib.contextmanager
def meddling(*acts):
    """Other threads that do something again and again."""
    done = threading.Event()

    def run(act):
        while not done.is_set():
            with contextlib.suppress(OSError):
                act()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def race(act, enough):
    """Do it for a while, and on until the others have had their chance too."""
    begin = time.monotonic()
    turns = 0
    while time.monotonic() < begin + RACE_SECONDS or turns < 5 or not enough():
        act()
        turns += 1
        assert time.monotonic() < begin + 120, "the others never came to meddle"


@pytest.mark.parametrize("options", [SAFE, POWERFUL])
def test_a_directory_swapped_for_a_link_while_it_is_restored(repository, outside, tmp_path, options):
    files = [file(repository, b"f%d" % number, b"evil %d" % number) for number in range(20)]
    deeper = save(repository, *files, file(repository, b"precious"))
    tree = save(repository, directory(b"d", save(repository, directory(b"e", deeper), file(repository, b"precious"))))
    target = tmp_path / "target"
    restore(repository, tree, target)

    def again():
        with contextlib.suppress(KarborError):
            restore(repository, tree, target, options)

    swappers = [Swapper(target, "d", outside), Swapper(target / "d", "e", outside)]
    with meddling(*swappers):
        race(again, lambda: min(swapper.count for swapper in swappers) > 10)


def test_files_and_scratch_names_swapped_for_links_while_they_are_restored(repository, outside, tmp_path):
    twins = {"inode": 7, "device_id": 7, "links": 2}
    tree = save(
        repository,
        file(repository, b"a", b"x" * 5000),
        file(repository, b"l1", b"linked", **twins),
        file(repository, b"l2", b"linked", **twins),
        Node(name=b"s", type="symlink", linktarget=b"somewhere", uid=4321, gid=4321),
        Node(name=b"p", type="fifo", mode=0o666, uid=4321, gid=4321),
    )
    target = tmp_path / "target"
    restore(repository, tree, target)
    precious = outside / "precious"

    planted = Counter()

    def plant(name, make):
        path = target / os.fsdecode(name)
        path.unlink(missing_ok=True)
        make(precious, path)
        planted[name] += 1

    def again():
        with contextlib.suppress(KarborError):
            restore(repository, tree, target, POWERFUL)

    own = (b"a", b"l1", b"l2", b"s", b"p")
    scratch = tuple(map(_scratch, own))
    with meddling(
        *(partial(plant, name, os.symlink) for name in (*own, *scratch)),
        *(partial(plant, name, os.link) for name in scratch),
    ):
        race(again, lambda: min(planted[name] for name in (*own, *scratch)) > 10)


def test_a_directory_swapped_for_a_link_while_it_is_protected(repository, outside, tmp_path):
    source = tmp_path / "source"
    deep = source / "d" / "e"
    deep.mkdir(parents=True)
    for number in range(20):
        (deep / f"f{number}").write_text("mine")
    (source / "precious").write_text("mine")
    secret = hashlib.sha256(b"precious").digest()
    links = 0

    def again():
        nonlocal links
        with opened(source) as root, repository.writer() as writer, contextlib.suppress(ResourceFailed):
            links += stored_links(repository, write_tree(writer, root, TreeOptions()).node, writer)

    swappers = [
        Swapper(source, "d", outside), Swapper(source / "d", "e", outside), Swapper(source, "precious", outside / "precious"),
    ]  # fmt: skip
    with meddling(*swappers):
        race(again, lambda: links and min(swapper.count for swapper in swappers) > 10)
    repository.refresh_index()
    assert not repository.index.has("data", secret)


def stored_links(repository, node, writer):
    writer.flush()
    return sum(
        below.type == "symlink" or (below.type == "dir" and stored_links(repository, below, writer))
        for below in repository.load_tree(node.subtree)
    )
