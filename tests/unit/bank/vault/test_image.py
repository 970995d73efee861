"""Images: what is restored is what was there, however it was written; and nothing is read that need not be."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karbor.bank.vault import image as image_module
from karbor.bank.vault.image import ImageWriter, chunk_size_for
from karbor.bank.vault.reader import Content
from karbor.errors import Cancelled, Damaged, InvalidInput

CHUNK = 256 << 10
SPARSE = hashlib.sha256(bytes(512 << 10)).digest()
ZERO = hashlib.sha256(bytes(CHUNK)).digest()


def write(repository, source, changed=None, previous=(), **options):
    with repository.writer(1) as writer:
        return ImageWriter(writer, source, previous=tuple(previous), **options).write(changed)


def restored(repository, nodes, target_class):
    content = Content.of(repository, nodes)
    target = target_class(content.size)
    content.restore(target)
    return target


def some_image(size, seed=1):
    """Data with zeros in between, so that every kind of chunk occurs."""
    chance = random.Random(seed)
    data = bytearray(size)
    for at in range(0, size, CHUNK):
        if chance.random() < 0.4:
            data[at : at + 100] = chance.randbytes(len(data[at : at + 100]))
    return data


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK + 5])
@pytest.mark.parametrize("fill", [bytes, os.urandom])
def test_images_of_every_size_come_back(repository, memory_image, memory_target, size, fill):
    data = fill(size)
    nodes, figures = write(repository, memory_image(data))
    assert [node.name for node in nodes] == [b"data"]
    assert nodes[0].size == size
    assert figures.read == size
    assert restored(repository, nodes, memory_target).data == data


def test_holes_are_not_read_and_restored_as_holes(repository, memory_image, memory_target):
    data = bytearray(20 * CHUNK + 7)
    data[5 * CHUNK + 3 : 5 * CHUNK + 9] = b"island"
    source = memory_image(data, [(5 * CHUNK + 3, 6)])
    nodes, figures = write(repository, source)
    assert source.reads == [(5 * CHUNK, CHUNK)]
    assert figures.read == CHUNK
    target = restored(repository, nodes, memory_target)
    assert target.data == data
    assert target.zeroed == 19 * CHUNK + 7


def test_the_first_zeros_are_those_that_make_restic_restore_sparsely(repository, memory_image):
    nodes, _ = write(repository, memory_image(b"x" * CHUNK + bytes(5 * CHUNK)))
    ids = [nodes[0].content[at : at + 32] for at in range(0, len(nodes[0].content), 32)]
    assert ids[1:] == [SPARSE, ZERO, ZERO, ZERO]
    for chunk in (1 << 19, 1 << 20, 8 << 20):
        nodes, _ = write(repository, memory_image(bytes(3 * chunk)), smallest=chunk)
        assert nodes[0].content.count(SPARSE) == (3 if chunk == 1 << 19 else chunk >> 19)


def test_an_unchanged_image_is_the_same_node_and_adds_nothing(repository, memory_image, clock):
    data = some_image(30 * CHUNK + 99)
    first, _ = write(repository, memory_image(data))
    clock.seconds += 60
    second, figures = write(repository, memory_image(data), previous=first)
    assert second == first
    assert (figures.read, figures.added) == (len(data), 0)
    source = memory_image(data)
    third, figures = write(repository, source, [], previous=second)
    assert third == first
    assert source.reads == []


CHANGES = st.lists(
    st.tuples(st.integers(0, 24 * CHUNK), st.integers(1, 2 * CHUNK), st.sampled_from([b"\0", b"x"])), max_size=4
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 24 * CHUNK + 3),
    st.lists(st.tuples(CHANGES, st.one_of(st.none(), st.integers(0, 24 * CHUNK))), max_size=3),
    st.sampled_from([CHUNK, 2 * CHUNK, 4 * CHUNK]),
)
def test_every_history_of_changes_comes_back(repository, memory_image, memory_target, size, history, chunk):
    data = some_image(size)
    nodes, _ = write(repository, memory_image(data), smallest=chunk)
    for changes, resize in history:
        changed = []
        if resize is not None:
            data = data[:resize] + bytes(max(resize - len(data), 0))
        for offset, length, byte in changes:
            end = max(min(offset + length, len(data)), offset)
            data[offset:end] = byte * (end - offset)
            changed.append((offset, end - offset))
        nodes, _ = write(repository, memory_image(data), changed, previous=nodes, smallest=chunk)
        assert nodes == write(repository, memory_image(data), previous=nodes, smallest=chunk)[0]
        assert restored(repository, nodes, memory_target).data == data


def test_only_what_changed_is_read(repository, memory_image):
    data = some_image(40 * CHUNK)
    nodes, _ = write(repository, memory_image(data))
    data[10 * CHUNK + 5] ^= 1
    source = memory_image(data)
    write(repository, source, [(10 * CHUNK + 5, 1), (20 * CHUNK, 0)], previous=nodes)
    assert source.reads == [(10 * CHUNK, CHUNK)]


def test_what_cannot_be_inherited_is_read(repository, memory_image, bank, reopen):
    data = some_image(40 * CHUNK)
    nodes, _ = write(repository, memory_image(data))
    victim = next(blob for blob in range(40) if nodes[0].content[32 * blob :][:32] not in (ZERO, SPARSE))
    pack = repository.index.place("data", nodes[0].content[32 * victim :][:32]).pack
    source = memory_image(data)
    with repository.writer(dead=frozenset({pack})) as writer:
        again, _ = ImageWriter(writer, source, previous=tuple(nodes)).write([])
    assert len(source.reads) == 40
    assert again[0].content == nodes[0].content


def test_a_lost_zero_blob_is_written_again(repository, memory_image, memory_target):
    data = some_image(40 * CHUNK)
    nodes, _ = write(repository, memory_image(data))
    dead = frozenset({repository.index.place("data", ZERO).pack})
    with repository.writer(dead=dead) as writer:
        ImageWriter(writer, memory_image(data), previous=tuple(nodes)).write(None)
    assert repository.index.has("data", ZERO, except_in=dead)


def test_an_image_keeps_its_chunk_size(repository, memory_image, monkeypatch):
    monkeypatch.setattr(image_module, "_MAX_CHUNKS", 16)
    nodes, _ = write(repository, memory_image(some_image(16 * CHUNK)))
    grown, _ = write(repository, memory_image(some_image(20 * CHUNK)), [], previous=nodes)
    content = Content.of(repository, grown)
    assert set(content.sizes.tolist()) <= {CHUNK, 2 * CHUNK}
    fresh, _ = write(repository, memory_image(os.urandom(20 * CHUNK)))
    assert set(Content.of(repository, fresh).sizes.tolist()) == {2 * CHUNK}


def test_a_very_large_image_is_several_nodes(repository, memory_image, memory_target, monkeypatch):
    monkeypatch.setattr(image_module, "PART", 8 * CHUNK)
    data = some_image(20 * CHUNK + 11)
    nodes, _ = write(repository, memory_image(data))
    assert [(node.name, node.size) for node in nodes] == [
        (b"data.0000", 8 * CHUNK),
        (b"data.0001", 8 * CHUNK),
        (b"data.0002", 4 * CHUNK + 11),
    ]
    assert restored(repository, nodes, memory_target).data == data
    data[9 * CHUNK] ^= 1
    source = memory_image(data)
    again, _ = write(repository, source, [(9 * CHUNK, 1)], previous=nodes)
    assert len(source.reads) == 1
    assert [node is old for node, old in zip(again, nodes, strict=True)] == [True, False, True]
    assert restored(repository, again, memory_target).data == data


def test_progress_ends_at_the_total_and_can_stop(repository, memory_image):
    seen = []
    data = os.urandom(5 * CHUNK + 5)
    write(repository, memory_image(data), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(data), len(data))
    assert all(a[0] < b[0] for a, b in pairwise(seen))

    def stop(done, total):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        write(repository, memory_image(data), progress=stop)


def test_an_error_of_the_source_ends_the_work(repository, memory_image):
    source = memory_image(os.urandom(50 * CHUNK))

    def read_at(offset, length):
        if offset > 10 * CHUNK:
            raise OSError("broken")
        return source.data[offset : offset + length]

    source.read_at = read_at
    with pytest.raises(OSError, match="broken"):
        write(repository, source, threads=3)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vault")]


def test_impossible_ranges_and_chunk_sizes_are_refused(repository, memory_image):
    with pytest.raises(InvalidInput, match="impossible"):
        write(repository, memory_image(b"x", [(-1, 5)]))
    for chunk in (1000, 128 << 10, 16 << 20):
        with pytest.raises(InvalidInput, match="chunk size"):
            write(repository, memory_image(b"x"), smallest=chunk)


def test_chunk_sizes_bound_the_number_of_chunks():
    gib, tib = 1 << 30, 1 << 40
    sizes = {gib: 256, 64 * gib: 256, 64 * gib + 1: 512, 128 * gib: 512, tib: 4096, 2 * tib: 8192, 50 * tib: 8192}
    assert {size: chunk_size_for(size) >> 10 for size in sizes} == sizes
    assert chunk_size_for(gib, 4 << 20) == 4 << 20


def test_any_range_can_be_read(repository, memory_image):
    data = some_image(9 * CHUNK + 77, seed=5)
    content = Content.of(repository, write(repository, memory_image(data))[0])
    chance = random.Random(3)
    ranges = [(chance.randrange(len(data) + 10), chance.randrange(3 * CHUNK)) for _ in range(60)]
    for offset, length in [*ranges, (0, 0), (0, len(data)), (len(data), 5), (len(data) - 1, 5)]:
        assert content.read(offset, length) == data[offset : offset + length]
    assert b"".join(content.stream()) == data


def test_a_stream_may_be_left_early(repository, memory_image):
    content = Content.of(repository, write(repository, memory_image(os.urandom(9 * CHUNK)))[0])
    stream = content.stream()
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vault")]


def test_a_node_that_lies_about_its_size_is_damaged(repository, memory_image):
    import msgspec

    nodes, _ = write(repository, memory_image(b"x" * 100))
    with pytest.raises(Damaged, match="data have 100 bytes"):
        Content.of(repository, [msgspec.structs.replace(nodes[0], size=99)])


def test_an_image_with_a_missing_blob_is_damaged(repository):
    with repository.writer() as writer:
        known = writer.save("data", b"x")
    with pytest.raises(Damaged, match="data blob 3f3f"):
        Content(repository, known + b"?" * 32)
