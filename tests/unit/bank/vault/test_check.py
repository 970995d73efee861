"""Check: every kind of damage to every object is found, the object is named, and so is what it affects."""

from __future__ import annotations

import hashlib
import os
import random

import pytest

from karbor.bank.vault.affected import Affected
from karbor.bank.vault.check import EVERYTHING, Rotation, check
from karbor.bank.vault.nodes import Node
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.snapshot import Snapshot
from karbor.errors import Cancelled, Damaged, KarborError

CHUNK = 10_000


@pytest.fixture
def checkpoint(repository):
    """Two resources in a checkpoint: its snapshot's id and the chunks of the first."""
    chunks = [os.urandom(CHUNK) for _ in range(5)]
    with repository.writer(1) as writer:
        one = writer.save_tree([_file(b"data", b"".join(writer.save("data", chunk) for chunk in chunks), 5 * CHUNK)])
        two = writer.save_tree([_file(b"data", writer.save("data", b"other"), 5), _file(b"none", b"", 0)])
        root = writer.save_tree([_directory(b"one", one), _directory(b"two", two)])
    return commit(repository, root, "c1"), chunks


def _file(name, content, size):
    return Node(name=name, type="file", content=content, size=size, links=1)


def _directory(name, tree):
    return Node(name=name, type="dir", subtree=tree)


def commit(repository, tree, checkpoint):
    snapshot = Snapshot(time=repository.clock.now(), tree=tree, paths=("/p",), tags=(f"checkpoint={checkpoint}",))
    name, sealed = repository.prepare_snapshot(snapshot)
    repository.put_snapshot(name, sealed)
    return name


def objects(repository):
    return [stat.key for stat in repository.bank.list(repository.prefix)]


def test_a_sound_repository_is_clean(repository, checkpoint):
    report = check(repository, snapshots=[checkpoint[0]], rotation=EVERYTHING)
    assert report.clean
    assert (report.snapshots, report.packs, report.read_packs, report.unused) == (1, 2, 2, ())
    assert report.read_bytes == sum(stat.size for stat in repository.documents.stats("data"))
    assert check(repository).read_packs == 0


def test_an_empty_repository_is_clean(repository):
    assert check(repository, rotation=EVERYTHING).clean


def damaged(raw, seed):
    """A name and new bytes for every kind of damage to an object's bytes."""
    chance = random.Random(seed)
    yield "truncated", raw[: chance.randrange(len(raw))]
    yield "cut by one", raw[:-1]
    yield "empty", b""
    yield "longer", raw + b"\0"
    yield "zeros", bytes(len(raw))
    for _ in range(8):
        bit = chance.randrange(8 * len(raw))
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped)


def findings(repository, clock):
    """What opening and checking finds, as {key: problem}."""
    try:
        opened = Repository.open(repository.bank, repository.prefix, "a secret", clock=clock)
        return {finding.key: finding.problem for finding in check(opened, rotation=EVERYTHING).findings}
    except KarborError as error:
        return {error.message: ""}


def test_damage_of_any_object_is_found_and_the_object_named(repository, checkpoint, bank, clock):
    for key in objects(repository):
        raw = bank.get(key, limit=1 << 30)
        for what, bad in damaged(raw, key):
            bank.put(key, [bad])
            found = findings(repository, clock)
            # A key file that was changed so that it still is one no longer opens: the repository is named then.
            assert any(key in text or ("keys/" in key and "opens no key" in text) for text in found), (key, what, found)
        bank.put(key, [raw])
    assert not findings(repository, clock)


def test_a_missing_object_is_found(repository, checkpoint, bank, clock):
    for key in objects(repository):
        raw = bank.get(key, limit=1 << 30)
        bank.delete(key)
        found = findings(repository, clock)
        if "/snapshots/" in key:
            assert [finding.key for finding in check(repository, snapshots=[checkpoint[0]]).findings] == [key]
        elif "/index/" in key:  # its name is nowhere, but the packs that it named tell
            assert sum("the index file that named it is gone" in problem for problem in found.values()) == 1
            assert f"{repository.prefix}index" in found
        else:
            assert any(key in text or ("keys/" in key and "opens no key" in text) for text in found), (key, found)
        bank.put(key, [raw])


def test_swapped_and_renamed_objects_are_found(repository, checkpoint, bank, clock):
    packs = [key for key in objects(repository) if "/data/" in key]
    one, two = (bank.get(key, limit=1 << 30) for key in packs)
    bank.put(packs[0], [two])
    bank.put(packs[1], [one])
    assert set(packs) <= findings(repository, clock).keys()
    bank.put(packs[0], [one])
    bank.put(packs[1], [two])
    renamed = packs[0][:-4] + "0000"
    bank.put(renamed, [one])
    bank.delete(packs[0])
    assert findings(repository, clock)[packs[0]] == "it is missing"


def test_planted_objects_are_found(repository, checkpoint, bank, clock):
    prefix = repository.prefix
    for key in (
        "stranger",
        "data/ab/not-a-pack",
        f"data/ab/{'cd' * 32}",
        f"index/{'ab' * 32}",
        f"snapshots/{'ab' * 32}",
    ):
        bank.put(prefix + key, [b"planted"])
        assert prefix + key in findings(repository, clock)
        bank.delete(prefix + key)


def test_a_snapshot_put_back_is_found(repository, checkpoint, bank):
    key = f"{repository.prefix}snapshots/{checkpoint[0]}"
    raw = bank.get(key, limit=1 << 20)
    repository.forget(checkpoint[0])
    assert check(repository, snapshots=[]).clean
    bank.put(key, [raw])
    (finding,) = check(repository, snapshots=[]).findings
    assert (finding.key, finding.problem) == (key, "the catalogue does not know it")


def test_what_damage_affects_is_named_to_the_byte(repository, checkpoint, bank):
    snapshot, chunks = checkpoint
    again = commit(repository, repository.snapshot(snapshot).tree, "c2")
    place = repository.index.place("data", hashlib.sha256(chunks[2]).digest())
    path = repository.pack_path(place.pack)
    raw = bytearray(bank.get(path, limit=1 << 30))
    raw[place.offset + 100] ^= 1
    bank.put(path, [raw])
    (finding,) = check(repository, rotation=EVERYTHING).findings
    assert finding.key == path
    assert set(finding.affected) == {
        Affected(name, tag, "/one/data", ((2 * CHUNK, CHUNK),)) for name, tag in ((snapshot, "c1"), (again, "c2"))
    }
    assert check(repository).clean  # the structure is sound; only reading finds it


def test_a_truncated_pack_affects_what_lay_behind_the_cut(repository, checkpoint, bank):
    place = repository.index.place("data", hashlib.sha256(checkpoint[1][3]).digest())
    path = repository.pack_path(place.pack)
    raw = bank.get(path, limit=1 << 30)
    bank.put(path, [raw[: place.offset + 5]])
    (finding,) = check(repository).findings
    assert "bytes in place of" in finding.problem
    assert Affected(checkpoint[0], "c1", "/one/data", ((3 * CHUNK, 2 * CHUNK),)) in finding.affected
    assert {hit.path for hit in finding.affected} == {"/one/data", "/two/data"}


def test_a_lost_tree_affects_all_below_it(repository, checkpoint, bank):
    root = repository.snapshot(checkpoint[0]).tree
    one = next(node for node in repository.load_tree(root) if node.name == b"one").subtree
    path = repository.pack_path(repository.index.place("tree", one).pack)
    bank.delete(path)
    (finding,) = check(repository).findings
    assert finding.affected == (Affected(checkpoint[0], "c1", ""),)


def test_a_damaged_snapshot_affects_itself(repository, checkpoint, bank):
    key = f"{repository.prefix}snapshots/{checkpoint[0]}"
    bank.put(key, [b"x" * 200])
    (finding,) = check(repository).findings
    assert finding.affected == (Affected(checkpoint[0], "", "/"),)


def test_a_blob_with_another_copy_affects_nothing(repository, checkpoint, bank):
    pack = repository.index.place("data", hashlib.sha256(b"other").digest()).pack
    with repository.writer(dead=frozenset({pack})) as writer:
        for blob in (*checkpoint[1], b"other"):
            writer.save("data", blob)
    path = repository.pack_path(pack)
    bank.put(path, [bytes(bank.stat(path).size)])
    (finding,) = check(repository, rotation=EVERYTHING).findings
    assert (finding.key, finding.affected) == (path, ())


def test_two_bad_copies_are_one_loss(repository, checkpoint, bank):
    place = repository.index.place("data", hashlib.sha256(b"other").digest())
    with repository.writer(dead=frozenset({place.pack})) as writer:
        writer.save("data", b"other")
    for pack in {place.pack for place in repository.index.places("data", hashlib.sha256(b"other").digest())}:
        path = repository.pack_path(pack)
        bank.put(path, [bytes(bank.stat(path).size)])
    findings = check(repository, rotation=EVERYTHING).findings
    assert len(findings) == 2
    assert any(hit.path == "/two/data" for finding in findings for hit in finding.affected)


def test_what_other_index_files_name_can_be_read_though_one_is_damaged(repository, checkpoint, bank, clock):
    with repository.writer() as writer:
        late = writer.save("data", b"late")
    names = list(repository.documents.names("index"))
    sizes = {name: bank.stat(f"{repository.prefix}index/{name}").size for name in names}
    path = f"{repository.prefix}index/{min(names, key=sizes.get)}"
    bank.put(path, [b"broken"])
    opened = Repository.open(bank, repository.prefix, "a secret", clock=clock)
    assert opened.load_tree(opened.snapshot(checkpoint[0]).tree)
    with pytest.raises(Damaged, match=path):
        opened.load("data", late)
    with pytest.raises(Damaged, match=path):
        opened.writer()


def test_the_parts_of_a_rotation_read_everything_once(repository):
    for number in range(12):
        with repository.writer() as writer:
            writer.save("data", b"%d" % number)
    reports = [check(repository, rotation=Rotation(part, 5)) for part in range(1, 6)]
    assert sum(report.read_packs for report in reports) == 12
    assert all(report.clean for report in reports)
    assert check(repository, rotation=Rotation(1, 5)) == reports[0]


def test_packs_of_writers_that_died_are_no_damage(repository, checkpoint):
    writer = repository.writer()
    writer.save("data", b"x")
    writer._send(writer._slots["data"][0])
    report = check(repository, rotation=EVERYTHING)
    assert report.clean
    assert len(report.unused) == 1


def test_progress_can_stop_a_check(repository, checkpoint):
    def stop(done, total):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        check(repository, rotation=EVERYTHING, progress=stop)
