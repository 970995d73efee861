"""Repositories: made once, opened by the right passphrase, and every kind of damage told by the object's name."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from karbor.bank.vault.crypto import MACHINE_KDF
from karbor.bank.vault.polynomial import irreducible_polynomial, is_irreducible
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.snapshot import Snapshot
from karbor.errors import BankForeign, Damaged, InvalidInput, KarborError, ObjectExists, ObjectMissing

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def test_only_the_right_passphrase_opens(repository, bank, clock):
    assert Repository.open(bank, repository.prefix, "a secret", clock=clock).config == repository.config
    with pytest.raises(BankForeign, match="passphrase"):
        Repository.open(bank, repository.prefix, "another", clock=clock)
    with pytest.raises(ObjectMissing, match="config"):
        Repository.open(bank, "elsewhere/", "a secret", clock=clock)


def test_a_repository_is_made_once(repository, bank, clock):
    with pytest.raises(ObjectExists):
        Repository.create(bank, repository.prefix, "a secret", clock=clock)
    assert Repository.open(bank, repository.prefix, "a secret", clock=clock).config == repository.config


def test_a_creation_that_was_cut_off_is_made_good(bank, clock):
    first = Repository.create(bank, "p/", "a secret", clock=clock)
    bank.delete("p/config")
    second = Repository.create(bank, "p/", "a secret", clock=clock)
    assert second.config.id != first.config.id
    assert len(second.list_keys()) == 1
    assert Repository.open(bank, "p/", "a secret", clock=clock).config == second.config


def test_a_creation_that_lost_a_race_leaves_no_key(bank, clock, monkeypatch):
    monkeypatch.setattr("karbor.bank.vault.repository._require_vacant", lambda *_: None)
    winner = Repository.create(bank, "p/", "a secret", clock=clock)
    with pytest.raises(ObjectExists):
        Repository.create(bank, "p/", "a secret", clock=clock)
    assert len(winner.list_keys()) == 1
    assert Repository.open(bank, "p/", "a secret", clock=clock).config == winner.config


def test_nothing_is_made_over_the_remains_of_a_repository(repository, bank, clock):
    with repository.writer() as writer:
        writer.save("data", b"precious")
    bank.delete(f"{repository.prefix}config")
    with pytest.raises(BankForeign, match="data/"):
        Repository.create(bank, repository.prefix, "a secret", clock=clock)


@pytest.mark.parametrize("prefix", ["", "a", "/a/", "a//b/"])
def test_a_prefix_is_a_folder(bank, clock, prefix):
    with pytest.raises(InvalidInput, match="prefix"):
        Repository.create(bank, prefix, "a secret", clock=clock)


def test_keys_come_and_go_but_the_last(repository, bank, clock):
    (first,) = repository.list_keys()
    second = repository.add_key("for the tenant", kdf=MACHINE_KDF, owner="tenant")
    assert {(key.id, key.owner) for key in repository.list_keys()} == {(first.id, "karbor"), (second, "tenant")}
    opened = Repository.open(bank, repository.prefix, "for the tenant", clock=clock)
    opened.remove_key(first.id)
    with pytest.raises(BankForeign):
        Repository.open(bank, repository.prefix, "a secret", clock=clock)
    with pytest.raises(InvalidInput, match="last"):
        opened.remove_key(second)


def test_versions_that_we_do_not_know_are_refused(repository, bank, clock):
    for version in (1, 3):
        sealed = repository.key.seal(b'{"version":%d,"id":"x","chunker_polynomial":"25b468838dcb75"}' % version)
        bank.put(f"{repository.prefix}config", [sealed])
        with pytest.raises(BankForeign, match=f"version {version}"):
            Repository.open(bank, repository.prefix, "a secret", clock=clock)


def test_a_snapshot_survives_and_its_commit_may_be_repeated(repository, reopen):
    snapshot = Snapshot(time=MOMENT, tree=b"t" * 32, paths=("/plan/x",), tags=("checkpoint=1", "a=b"), parent=b"p" * 32)
    name, sealed = repository.prepare_snapshot(snapshot)
    assert list(repository.snapshots()) == []
    for _ in range(2):
        repository.put_snapshot(name, sealed)
    assert list(reopen().snapshots()) == [(name, snapshot)]
    assert (snapshot.tag("checkpoint"), snapshot.tag("none")) == ("1", "")
    repository.forget(name)
    repository.forget(name)
    assert list(repository.snapshots()) == []
    with pytest.raises(InvalidInput, match="bytes"):
        repository.put_snapshot(name, sealed + b"x")


def test_a_tag_has_no_comma(repository):
    with pytest.raises(InvalidInput, match="comma"):
        repository.prepare_snapshot(Snapshot(time=MOMENT, tree=b"t" * 32, paths=(), tags=("a,b",)))


def test_a_renamed_document_is_found(repository, bank):
    _, sealed = repository.prepare_snapshot(Snapshot(time=MOMENT, tree=b"t" * 32, paths=()))
    bank.put(f"{repository.prefix}snapshots/{'0' * 64}", [sealed])
    with pytest.raises(Damaged, match="0000 is damaged: its hash is not its name"):
        list(repository.snapshots())


def test_swapped_blobs_are_found_though_both_are_authentic(repository, bank):
    with repository.writer() as writer:
        a, b = writer.save("data", b"a" * 1000), writer.save("data", b"b" * 1000)
    one, two = repository.index.place("data", a), repository.index.place("data", b)
    raw = bytearray(bank.get(repository.pack_path(one.pack), limit=1 << 20))
    first = raw[one.offset : one.offset + one.length]
    assert one.length == two.length
    raw[one.offset : one.offset + one.length] = raw[two.offset : two.offset + two.length]
    raw[two.offset : two.offset + two.length] = first
    bank.put(repository.pack_path(one.pack), [raw])
    with pytest.raises(Damaged, match=f"{one.pack.hex()} is damaged: the blob at {one.offset}"):
        repository.load("data", a)


def test_another_copy_is_read_where_one_is_damaged_or_gone(repository, bank):
    with repository.writer() as writer:
        blob = writer.save("data", b"x" * 100)
    first = repository.index.place("data", blob).pack
    with repository.writer(dead=frozenset({first})) as writer:
        writer.save("data", b"x" * 100)
    paths = [repository.pack_path(place.pack) for place in repository.index.places("data", blob)]
    assert len(paths) == 2
    for path in paths:
        raw = bank.get(path, limit=1 << 20)
        bank.put(path, [bytes(len(raw))])
        assert repository.load("data", blob) == b"x" * 100
        bank.delete(path)
        assert repository.load("data", blob) == b"x" * 100
        bank.put(path, [raw])


def test_a_missing_pack_and_an_unknown_blob_are_named(repository, bank):
    with repository.writer() as writer:
        blob = writer.save("data", b"x" * 100)
    path = repository.pack_path(repository.index.place("data", blob).pack)
    bank.delete(path)
    with pytest.raises(ObjectMissing, match=path):
        repository.load("data", blob)
    with pytest.raises(Damaged, match="no index file names the data blob " + "ab" * 32):
        repository.load("data", b"\xab" * 32)


def test_what_another_process_writes_is_found(repository, reopen):
    other = reopen()
    with other.writer() as writer:
        blob = writer.save("data", b"late")
    assert repository.load("data", blob) == b"late"


def test_index_files_that_another_process_replaces_are_followed(repository, reopen, bank):
    with repository.writer() as writer:
        blob = writer.save("data", b"moved")
    reader = reopen()
    reader.refresh_index()
    (old,) = repository.documents.names("index")
    raw = repository.documents.get("index", old)
    repository.documents.put("index", raw)
    repository.documents.delete("index", old)
    assert reader.refresh_index()
    assert not reader.refresh_index()
    assert reader.load("data", blob) == b"moved"


@pytest.mark.parametrize("folder", ["keys", "index", "snapshots"])
def test_files_of_others_are_passed_over(repository, bank, reopen, folder):
    bank.put(f"{repository.prefix}{folder}/tmp-1234", [b"x"])
    opened = reopen()
    assert not opened.refresh_index()
    assert list(opened.snapshots()) == []


def open_and_read(reopen):
    repository = reopen()
    repository.require_sound_index()
    list(repository.snapshots())


def test_damage_of_every_document_is_a_typed_error(repository, bank, reopen):
    with repository.writer() as writer:
        writer.save_tree([])
    repository.put_snapshot(*repository.prepare_snapshot(Snapshot(time=MOMENT, tree=b"t" * 32, paths=())))
    for stat in list(bank.list(repository.prefix)):
        if "/data/" in stat.key:
            continue
        raw = bank.get(stat.key, limit=1 << 20)
        for bad in (raw[: len(raw) // 2], b"", raw[:-1] + bytes([raw[-1] ^ 1])):
            bank.put(stat.key, [bad])
            with pytest.raises(KarborError, match=stat.key if "keys" not in stat.key else "key"):
                open_and_read(reopen)
        bank.put(stat.key, [raw])


def test_polynomials_are_irreducible():
    assert is_irreducible(0x3DA3358B4DC173)  # restic's own example
    assert not is_irreducible(0x3DA3358B4DC173 ^ 1)
    found = irreducible_polynomial(os.urandom)
    assert found.bit_length() == 54
    assert is_irreducible(found)
