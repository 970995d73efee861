"""Streams: content-defined chunks that survive insertions, cut differently in every repository."""

from __future__ import annotations

import os
import random
import threading

import pytest

from karbor.bank.vault.reader import Content
from karbor.bank.vault.stream import Chunker, write_stream
from karbor.errors import Cancelled


def pieces(data, seed=1):
    chance = random.Random(seed)
    at = 0
    while at < len(data):
        size = chance.choice([0, 1, 1000, 300_000])
        yield data[at : at + size]
        at += size


@pytest.mark.parametrize("size", [0, 1, 100_000, 512 << 10, 9 << 20])
def test_streams_of_every_size_come_back(repository, size):
    data = os.urandom(size)
    with repository.writer() as writer:
        stored = write_stream(writer, pieces(data))
    assert stored.size == size
    assert b"".join(Content(repository, stored.content).stream()) == data


def test_the_same_stream_again_adds_nothing_and_an_insertion_little(repository):
    data = os.urandom(12 << 20)
    with repository.writer() as writer:
        first = write_stream(writer, [data])
        again = write_stream(writer, pieces(data))
        moved = write_stream(writer, [b"inserted" + data])
    assert again.content == first.content
    assert again.added == 0
    assert 0 < moved.added < len(data) / 2
    assert moved.size == len(data) + 8


def test_cuts_are_a_repository_s_own(repository):
    data = os.urandom(12 << 20)

    class Stream:
        def __init__(self):
            self.at = 0

        def readinto(self, buffer):
            count = min(len(buffer), len(data) - self.at)
            buffer[:count] = data[self.at : self.at + count]
            self.at += count
            return count

    def lengths(secret):
        return [len(chunk) for chunk in Chunker(secret).cut(Stream())]

    assert lengths("one") == lengths("one") != lengths("two")
    assert sum(lengths("two")) == len(data)
    assert all(512 << 10 <= length <= 8 << 20 for length in lengths("one")[:-1])


def test_progress_can_stop_a_stream(repository):
    def stop(done, total):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled), repository.writer() as writer:
        write_stream(writer, [os.urandom(1 << 20)], progress=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vault")]
