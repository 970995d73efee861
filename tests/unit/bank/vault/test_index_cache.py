"""Segments merged and cached: the same answers, in bounded memory, and never from files that are not whole."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from karbor.bank.vault import index_follower, segments
from karbor.bank.vault import writer as writer_module
from karbor.bank.vault.index import Index
from karbor.bank.vault.index_cache import IndexCache
from karbor.bank.vault.pack import Blob
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.segments import PackEntry, build_segment, in_memory, merge, tiers
from karbor.errors import Unavailable


def blob_id(number):
    return hashlib.sha256(b"%d" % number).digest()


def source(number):
    return blob_id(number).hex()


def segment(number, blobs, kind="data"):
    packs = [
        PackEntry(blob_id(1000 * number + pack), [Blob(kind, blob_id(blob), blob, 100) for blob in blobs[pack::3]])
        for pack in range(3)
    ]
    return build_segment(packs, frozenset({source(number)}))


def index_of(parts):
    index = Index()
    index.replace(parts)
    return index


def answers(index, numbers):
    return [
        sorted((place.pack, place.offset) for place in index.places(kind, blob_id(number)))
        for kind in ("data", "tree")
        for number in numbers
    ]


@pytest.mark.parametrize("at_once", [7, 1 << 20])
def test_a_merged_segment_answers_as_its_parts(monkeypatch, at_once):
    monkeypatch.setattr(segments, "_MERGED_AT_ONCE", at_once)
    parts = [segment(1, range(50)), segment(2, range(40, 90), "tree"), segment(3, range(30, 60)), segment(4, [])]
    whole = merge(parts, in_memory(130, 12))
    assert (np.diff(whole.keys.astype(object)) >= 0).all()
    assert whole.sources == {source(number) for number in (1, 2, 3, 4)}
    assert answers(index_of([whole]), range(100)) == answers(index_of(parts), range(100))


def test_few_segments_stay_and_large_ones_are_left_alone():
    large, middle, small = segment(1, range(1000)), segment(2, range(100)), segment(3, range(10))
    assert tiers([small, large]) == ([large], [small])
    keeping, merging = tiers([segment(4, range(15)), large, small])
    assert (keeping, list(map(len, merging))) == ([large], [10, 15])
    assert tiers([]) == ([], [])
    assert len(tiers([large, middle, segment(5, range(60))])[1]) == 2


def test_a_stored_segment_answers_after_reopening(tmp_path):
    cache = IndexCache(tmp_path / "cache")
    parts = [segment(1, range(50)), segment(2, range(40, 90), "tree")]
    stored = cache.store(parts)
    (loaded,) = IndexCache(tmp_path / "cache").load(frozenset({source(1), source(2), source(3)}))
    assert loaded.sources == stored.sources
    assert answers(index_of([loaded]), range(100)) == answers(index_of(parts), range(100))
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_what_no_longer_holds_or_is_covered_is_removed(tmp_path):
    cache = IndexCache(tmp_path)
    a, b = segment(1, range(5)), segment(2, range(5))
    stored = cache.store([a])
    covered = next(tmp_path.iterdir())
    kept = covered.read_bytes()
    cache.store([stored, b])
    assert not covered.exists()
    assert answers(index_of([stored]), range(5)) == answers(index_of([a]), range(5))
    covered.write_bytes(kept)  # as if another process had stored it again
    live = frozenset({source(1), source(2)})
    assert [loaded.sources for loaded in cache.load(live)] == [live]
    assert not covered.exists()
    assert cache.load(frozenset({source(1)})) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: b"X" + raw[1:], lambda raw: raw + b"x"]
)
def test_a_file_that_is_not_whole_is_not_used(tmp_path, damage):
    cache = IndexCache(tmp_path)
    cache.store([segment(1, range(5))])
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load(frozenset({source(1)})) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="index cache"):
        IndexCache(tmp_path / "file" / "cache")


@pytest.fixture
def cached(repository, bank, clock, tmp_path):
    return lambda: Repository.open(bank, repository.prefix, "a secret", clock=clock, cache_dir=tmp_path / "cache")


def test_a_repository_opens_from_its_cache(repository, cached, bank, monkeypatch):
    blobs = []
    for number in range(5):
        with repository.writer() as writer:
            blobs += [writer.save("data", b"%d" % number), writer.save_tree([])]
    first = cached()
    assert first.refresh_index()
    assert not first.refresh_index()
    read = []
    real = type(bank).get
    monkeypatch.setattr(
        type(bank), "get", lambda self, key, **options: (read.append(key), real(self, key, **options))[1]
    )
    second = cached()
    second.refresh_index()
    assert not [key for key in read if "/index/" in key]
    assert [second.load("data", blob) for blob in blobs[::2]] == [b"%d" % number for number in range(5)]


@pytest.mark.parametrize("use_cache", [False, True])
def test_long_runs_move_what_they_wrote_into_segments(repository, cached, monkeypatch, use_cache):
    monkeypatch.setattr(writer_module, "INDEX_BLOBS", 10)
    monkeypatch.setattr(writer_module, "_RECENT", 25)
    monkeypatch.setattr(index_follower, "_FILES_AT_ONCE", 2)
    monkeypatch.setattr("karbor.bank.vault.pack._MAX_PACK_BLOBS", 5)
    opened = cached() if use_cache else repository
    with opened.writer() as writer:
        ids = [writer.save("data", os.urandom(100)) for _ in range(200)]
        assert opened.index.recent_count <= 30
        assert len(opened.index.segments) < 8
    assert opened.index.locate("data", b"".join(ids)).missing.size == 0
    assert opened.index.locate("data", b"".join(ids[::-1])).plain_sizes.tolist() == [100] * 200


def test_what_prune_took_away_is_forgotten_though_it_was_written_here(repository, reopen):
    with repository.writer() as writer:
        blob = writer.save("data", b"swept")
    (name,) = reopen().documents.names("index")
    repository.documents.delete("index", name)
    with repository.writer() as writer:
        assert writer.store("data", b"swept")[1] > 0
    assert repository.index.place("data", blob) is not None


def test_a_listing_that_lags_hides_nothing_of_our_own(repository, monkeypatch):
    with repository.writer() as writer:
        blob = writer.save("data", b"mine")
    monkeypatch.setattr(type(repository.documents), "names", lambda *_: iter(()))
    repository.refresh_index()
    assert repository.index.has("data", blob)
