"""One download, read by several threads in about ascending order."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from karbor.errors import Unavailable
from karbor.sdk.cloud_image import Download

MIB = 1 << 20
DATA = random.Random(5).randbytes(80 * MIB)


def stream(offset, block=MIB - 7):
    opened.append(offset)
    for at in range(offset, len(DATA), block):
        yield DATA[at : at + block]


opened: list[int] = []


def test_two_readers_share_one_stream():
    opened.clear()
    source, chunk = Download(stream, len(DATA)), 256 << 10
    with ThreadPoolExecutor(2) as pool:
        pieces = pool.map(lambda at: source.read_at(at, chunk), range(0, len(DATA), chunk))
        assert b"".join(pieces) == DATA
    assert opened == [0]


def test_what_lies_far_back_is_opened_anew():
    opened.clear()
    source = Download(stream, len(DATA))
    assert source.read_at(70 * MIB, 100) == DATA[70 * MIB :][:100]
    assert source.read_at(5, 100) == DATA[5:105]
    assert opened == [70 * MIB, 5]


def test_an_end_that_comes_too_early_is_said():
    source = Download(lambda at: iter([DATA[at : 2 * MIB]]), len(DATA))
    with pytest.raises(Unavailable, match="ended after 2097152"):
        source.read_at(2 * MIB - 10, 20)
