"""The index: every place of every blob, however it is looked up."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from karbor.bank.vault.index import Index, decode_index, encode_index
from karbor.bank.vault.pack import Blob
from karbor.bank.vault.segments import PackEntry, build_segment
from karbor.errors import Damaged


def blob_id(number):
    return hashlib.sha256(b"%d" % number).digest()


def entry(pack, numbers, kind="data"):
    return PackEntry(
        blob_id(pack), [Blob(kind, blob_id(number), 100 * at, 90, 200) for at, number in enumerate(numbers)]
    )


def index_of(*groups):
    index = Index()
    index.replace([build_segment(group, frozenset({str(at)})) for at, group in enumerate(groups)])
    return index


def test_an_index_file_survives():
    packs = [
        entry(-1, range(10)),
        entry(-2, range(3), "tree"),
        PackEntry(blob_id(-3), [Blob("data", blob_id(1), 0, 50)]),
    ]
    assert list(decode_index(encode_index(packs), "index/a")) == packs


def test_a_file_is_written_as_restic_does():
    raw = encode_index([PackEntry(bytes(32), [Blob("data", b"\1" * 32, 0, 50), Blob("data", b"\2" * 32, 50, 60, 99)])])
    assert raw == (
        b'{"packs":[{"id":"'
        + b"00" * 32
        + b'","blobs":[{"id":"'
        + b"01" * 32
        + b'","type":"data","offset":0,"length":50},'
        b'{"id":"' + b"02" * 32 + b'","type":"data","offset":50,"length":60,"uncompressed_length":99}]}]}'
    )


def test_every_blob_is_found_one_by_one_and_in_a_batch():
    index = index_of([entry(-1, range(500)), entry(-2, range(500, 1000))], [entry(-3, range(1000, 1500))])
    index.add([entry(-4, range(1500, 1600))], "own")
    order = np.random.default_rng(1).permutation(1700).tolist()
    located = index.locate("data", b"".join(map(blob_id, order)))
    assert [order[at] for at in located.missing] == [number for number in order if number >= 1600]
    for at, number in enumerate(order):
        place = index.place("data", blob_id(number))
        pack, offset, length, size = located.table[at].item()
        if number < 1600:
            assert (located.packs[pack], offset, length, size) == (place.pack, place.offset, place.length, place.size)
            assert place.pack == blob_id(-1 - min(number // 500, 3))
            assert located.plain_sizes[at] == 200
        else:
            assert place is None
    assert len(index) == 1600


def test_data_and_trees_of_the_same_name_are_different_blobs():
    index = index_of([entry(-1, [1]), entry(-2, [1], "tree")])
    for kind, pack in (("data", -1), ("tree", -2)):
        assert [place.pack for place in index.places(kind, blob_id(1))] == [blob_id(pack)]
        located = index.locate(kind, blob_id(1))
        assert located.packs[located.table["pack"][0]] == blob_id(pack)


def test_every_copy_is_found_and_packs_can_be_excepted():
    index = index_of([entry(-1, [1, 2]), entry(-2, [1])], [entry(-3, [1])])
    index.add([entry(-4, [1])], "own")
    assert {place.pack for place in index.places("data", blob_id(1))} == {blob_id(-n) for n in (1, 2, 3, 4)}
    dead = frozenset({blob_id(-1), blob_id(-3), blob_id(-4)})
    assert index.place("data", blob_id(1), except_in=dead).pack == blob_id(-2)
    assert not index.has("data", blob_id(2), except_in=dead)
    located = index.locate("data", blob_id(1) + blob_id(2), except_in=dead)
    assert located.packs == [blob_id(-2)]
    assert located.missing.tolist() == [1]


def test_names_that_begin_alike_are_told_apart():
    first, second, third = (b"same....".ljust(31, b"x") + bytes([n]) for n in range(3))
    packs = [PackEntry(blob_id(-1), [Blob("data", second, 7, 50), Blob("data", first, 9, 50)])]
    index = index_of(packs)
    located = index.locate("data", first + second + third)
    assert located.table["offset"].tolist() == [9, 7, 0]
    assert located.missing.tolist() == [2]
    assert index.place("data", first).offset == 9


def test_an_empty_index_knows_nothing():
    for index in (Index(), index_of([])):
        assert not index.has("data", blob_id(1))
        assert index.locate("data", blob_id(1)).missing.tolist() == [0]
        assert index.locate("data", b"").missing.tolist() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"id"', b'"ID"'),
        (b'"offset":0', b'"offset":-1'),
        (b'"length":90', b'"length":32'),
        (b'"length":90', b'"length":4294967295'),
        (b'"uncompressed_length":200', b'"uncompressed_length":4294967295'),
        (b'"type":"data"', b'"type":"dust"'),
        (b"]}", b"]"),
        (b'"offset":0', b'"offset":0.5'),
    ],
)
def test_what_is_no_index_is_damaged(old, new):
    raw = encode_index([entry(-1, range(2))])
    assert old in raw
    with pytest.raises(Damaged, match="index/a"):
        list(decode_index(raw.replace(old, new), "index/a"))


def test_an_index_of_nothing_is_read():
    assert list(decode_index(b'{"packs":null,"supersedes":[]}', "index/a")) == []
