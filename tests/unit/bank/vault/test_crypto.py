"""Sealing, and the key files that open a repository."""

from __future__ import annotations

import os

import msgspec
import pytest

from karbor.bank.vault.crypto import (
    MACHINE_KDF,
    OVERHEAD,
    KdfParams,
    SealKey,
    make_key_file,
    parse_key_file,
    unlock,
)
from karbor.errors import Damaged, InvalidInput


@pytest.fixture
def key():
    return SealKey.generate(os.urandom)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100_000])
def test_what_was_sealed_opens(key, size):
    plain = os.urandom(size)
    box = key.seal(plain)
    assert len(box) == size + OVERHEAD
    assert key.open(box, "x") == plain


def test_every_flipped_bit_is_found(key):
    box = key.seal(b"some plain text")
    for bit in range(len(box) * 8):
        flipped = bytearray(box)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged, match="data/ab"):
            key.open(flipped, "data/ab")


def test_every_cut_is_found(key):
    box = key.seal(b"some plain text")
    for length in range(len(box)):
        with pytest.raises(Damaged):
            key.open(box[:length], "x")


def test_a_zero_vector_and_another_key_are_refused(key):
    with pytest.raises(Damaged, match="zero"):
        key.open(bytes(100), "x")
    with pytest.raises(Damaged, match="authentication"):
        SealKey.generate(os.urandom).open(key.seal(b"abc"), "x")


def test_each_box_has_its_own_vector(key):
    assert key.seal(b"abc") != key.seal(b"abc")


def test_the_format_is_the_published_one():
    sealed = SealKey(bytes(range(32)), b"k" * 16, b"r" * 16, random=lambda size: b"\1" * size).seal(b"hello")
    assert sealed.hex() == "010101010101010101010101010101011d876445781c9a699116e3d861ca9ed68a3b8fab3a"


def key_file(key, passphrase="secret", cost=MACHINE_KDF):
    return make_key_file(key, passphrase, cost, created="2026-01-01T00:00:00Z", owner="us", random=os.urandom)


def test_a_key_file_opens_with_its_passphrase_only(key):
    file = parse_key_file(key_file(key), "keys/a")
    opened = unlock(file, "secret", "keys/a")
    assert opened is not None
    assert opened.open(key.seal(b"x"), "y") == b"x"
    assert unlock(file, "Secret", "keys/a") is None


def test_an_empty_passphrase_is_refused(key):
    with pytest.raises(InvalidInput, match="empty"):
        key_file(key, "")


@pytest.mark.parametrize(
    "cost",
    [
        KdfParams(N=1000, r=8, p=1),
        KdfParams(N=1, r=8, p=1),
        KdfParams(N=1 << 24, r=8, p=1),
        KdfParams(N=1024, r=0, p=1),
        KdfParams(N=1024, r=8, p=-1),
        KdfParams(N=1024, r=8, p=1 << 20),
        KdfParams(N=2, r=1 << 30, p=1),
    ],
)
def test_a_key_file_that_would_cost_too_much_is_refused(key, cost):
    raw = msgspec.json.decode(key_file(key)) | {"N": cost.N, "r": cost.r, "p": cost.p}
    with pytest.raises(Damaged, match="scrypt"):
        parse_key_file(msgspec.json.encode(raw), "keys/a")


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"created":1}', b"[" * 100_000])
def test_what_is_no_key_file_is_damaged(raw):
    with pytest.raises(Damaged, match="keys/a"):
        parse_key_file(raw, "keys/a")
