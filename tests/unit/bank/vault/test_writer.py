"""The writer: each blob once, durable after flush, and never a half-written thing that counts."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from karbor.bank.vault import pack as pack_module
from karbor.bank.vault.codec import MAX_BLOB
from karbor.bank.vault.workers import share
from karbor.errors import BankError, BankFull, InvalidInput


def keys(repository, folder):
    return [stat.key for stat in repository.bank.list(f"{repository.prefix}{folder}/")]


def test_a_blob_is_stored_once(repository, reopen):
    data = os.urandom(1000)
    with repository.writer() as writer:
        ids = {writer.save("data", data) for _ in range(3)}
        assert writer.store("data", data) == (next(iter(ids)), 0)
    with reopen().writer() as writer:
        writer.save("data", data)
        assert writer.added_bytes == 0
    assert len(ids) == 1
    assert len(keys(repository, "data")) == 1
    assert reopen_load(reopen, "data", ids.pop()) == data


def reopen_load(reopen, kind, blob_id):
    repository = reopen()
    repository.refresh_index()
    return repository.load(kind, blob_id)


def test_data_and_trees_never_share_a_pack(repository, reopen):
    body = b'{"nodes":[]}\n'
    with repository.writer() as writer:
        data, tree = writer.save("data", body), writer.save_tree([])
    assert data == tree
    assert len(keys(repository, "data")) == 2
    assert reopen_load(reopen, "data", data) == reopen_load(reopen, "tree", tree) == body


def test_what_does_not_compress_is_kept_raw_and_level_0_keeps_everything_raw(repository):
    random, zeros = os.urandom(4096), bytes(4096)
    with repository.writer() as writer:
        a, b = writer.save("data", random), writer.save("data", zeros)
    assert repository.index.place("data", a).size == 0
    assert repository.index.place("data", b).size == 4096
    with repository.writer(0) as writer:
        c = writer.save("data", bytes(5000))
    assert repository.index.place("data", c).size == 0
    assert [repository.load("data", blob) for blob in (a, b, c)] == [random, zeros, bytes(5000)]


def test_many_threads_write_each_blob_once(repository, reopen, monkeypatch):
    monkeypatch.setattr(pack_module, "PACK_TARGET", 50_000)
    blobs = [os.urandom(1000) for _ in range(300)]
    with repository.writer() as writer, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: writer.save("data", blobs[number % 300]), range(1200)))
    fresh = reopen()
    fresh.refresh_index()
    assert [fresh.load("data", blob_id) for blob_id in ids[:300]] == blobs
    assert len(fresh.index) == 300
    assert len(keys(repository, "data")) > 3


def test_nothing_counts_before_flush(repository, reopen):
    writer = repository.writer()
    blob = writer.save("data", b"x" * 100)
    assert not reopen().refresh_index()
    writer.flush()
    assert reopen_load(reopen, "data", blob) == b"x" * 100


def test_an_error_leaves_nothing_that_counts(repository, reopen):
    writer = repository.writer()
    blob = writer.save("data", b"x" * 100)
    writer.__exit__(RuntimeError, RuntimeError(), None)
    assert not repository.index.has("data", blob)
    assert not reopen().refresh_index()
    with pytest.raises(BankError, match="closed"):
        writer.save("data", b"y")


def test_long_work_is_indexed_on_the_way(repository, reopen, clock, monkeypatch):
    monkeypatch.setattr(pack_module, "PACK_TARGET", 1000)
    writer = repository.writer()
    writer.save("data", os.urandom(2000))
    assert not keys(repository, "index")
    clock.seconds += 301
    writer.save("data", os.urandom(2000))
    assert len(keys(repository, "index")) == 1
    assert reopen().refresh_index()


def test_a_failed_put_fails_the_writer(repository, monkeypatch):
    writer = repository.writer()
    first = writer.save("data", b"x" * 100)

    def full(*_, **__):
        raise BankFull("no room")

    monkeypatch.setattr(type(repository.bank), "put", full)
    with pytest.raises(BankFull):
        writer.flush()
    monkeypatch.undo()
    # The lost blob was claimed: had flush succeeded now, whoever relied on it would have lost it.
    with pytest.raises(BankFull, match="no room"):
        writer.flush()
    assert not repository.index.has("data", first)


def test_a_failed_blob_fails_the_writer(repository):
    writer = repository.writer()
    with pytest.raises(InvalidInput):
        writer.save("data", bytes(MAX_BLOB + 1))
    with pytest.raises(InvalidInput, match="cannot be stored"):
        writer.flush()


def test_who_did_not_fail_is_told_what_did(repository, monkeypatch):
    monkeypatch.setattr(pack_module, "PACK_TARGET", 1000)

    def full(*_, **__):
        raise BankFull("no room")

    monkeypatch.setattr(type(repository.bank), "put", full)
    writer = repository.writer()
    with pytest.raises(BankFull, match="no room"):
        share((os.urandom(2000) for _ in range(100)), lambda blob: writer.save("data", blob), threads=4)
    with pytest.raises(BankFull, match="no room"):
        writer.save("data", b"x")


def test_an_empty_blob_is_refused(repository):
    with pytest.raises(InvalidInput), repository.writer() as writer:
        writer.save("data", b"")


def test_a_throttle_sees_every_byte_first(repository):
    seen = []
    with repository.writer(throttle=seen.append) as writer:
        writer.save("data", os.urandom(5000))
    sent = [stat.size for folder in ("data", "index") for stat in repository.bank.list(f"{repository.prefix}{folder}/")]
    assert sum(seen) == sum(sent) == writer.added_bytes


def test_blobs_in_dead_packs_are_written_again(repository):
    with repository.writer() as writer:
        blob = writer.save("data", b"x" * 100)
    dead = frozenset({repository.index.place("data", blob).pack})
    with repository.writer(dead=dead) as writer:
        assert writer.locate("data", blob).missing.tolist() == [0]
        assert writer.store("data", b"x" * 100)[1] > 0
    assert len(list(repository.index.places("data", blob))) == 2


def test_a_tree_larger_than_a_pack_is_stored(repository, monkeypatch):
    monkeypatch.setattr(pack_module, "PACK_TARGET", 10_000)
    monkeypatch.setattr(pack_module, "_ROOM", 10_000)
    big, small = os.urandom(100_000), os.urandom(100)
    with repository.writer() as writer:
        ids = [writer.save("tree", small), writer.save("tree", big), writer.save("tree", small[:50])]
    assert [repository.load("tree", blob) for blob in ids] == [small, big, small[:50]]


def test_flush_covers_what_other_threads_saved_before(repository, reopen):
    writer = repository.writer()
    saved, go = threading.Event(), threading.Event()
    ids = []

    def work():
        ids.append(writer.save("data", b"other" * 10))
        saved.set()
        go.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    saved.wait(10)
    writer.flush()
    go.set()
    thread.join()
    assert reopen_load(reopen, "data", ids[0]) == b"other" * 10
