"""Whatever a bank gives us to read, the answer is a value or a typed error, and no more memory than a cap allows."""

from __future__ import annotations

import os
import tracemalloc
from datetime import UTC, datetime

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from karbor.bank.vault import codec
from karbor.bank.vault.codec import Compressor, Decompressor
from karbor.bank.vault.crypto import MACHINE_KDF, SealKey, make_key_file, parse_key_file
from karbor.bank.vault.index import decode_index, encode_index
from karbor.bank.vault.locks import HeldLock, decode_lock
from karbor.bank.vault.nodes import Node, decode_tree, encode_tree
from karbor.bank.vault.pack import Blob, decode_header, encode_header, header_length
from karbor.bank.vault.segments import PackEntry
from karbor.bank.vault.snapshot import Snapshot, decode_snapshot, encode_snapshot
from karbor.bank.vault.wireformat import go_json
from karbor.errors import Damaged

KEY = SealKey.generate(os.urandom)
BLOBS = [Blob("data", bytes([number]) * 32, 100 * number, 100, 300 * (number % 2)) for number in range(4)]
DECOMPRESSOR = Decompressor()


PARSERS = {
    "tree": (
        encode_tree(
            [
                Node(name=b"a\xff", type="file", size=5, content=b"c" * 64, xattrs=((b"user.x", b"\0"),)),
                Node(name=b"b", type="dir", mode=0o755, mtime=10**18, subtree=b"t" * 32),
                Node(name=b"c", type="symlink", linktarget=b"\xff"),
            ]
        ),
        lambda raw: decode_tree(raw, "x"),
    ),
    "index": (encode_index([PackEntry(b"p" * 32, BLOBS)]), lambda raw: list(decode_index(raw, "x"))),
    "snapshot": (
        encode_snapshot(
            Snapshot(
                time=datetime(2026, 1, 2, tzinfo=UTC), tree=b"t" * 32, paths=("/p",), tags=("a=b",), parent=b"q" * 32
            )
        ),
        lambda raw: decode_snapshot(raw, "x"),
    ),
    "lock": (go_json(HeldLock(time="2026-01-02T00:00:00Z", pid=5)), lambda raw: decode_lock(raw, "x")),
    "key": (
        make_key_file(KEY, "secret", MACHINE_KDF, created="now", owner="us", random=os.urandom),
        lambda raw: parse_key_file(raw, "x"),
    ),
    "header": (encode_header(BLOBS), lambda raw: decode_header(raw, "x")),
    "tail": (b"\x50\0\0\0", lambda raw: header_length(raw, 1000, "x")),
    "document": (Compressor(3).document(b"{}" * 500), lambda raw: DECOMPRESSOR.document(raw, "x")),
    "blob": (zstandard.compress(b"text" * 500), lambda raw: DECOMPRESSOR.blob(raw, 2000, "x")),
    "box": (KEY.seal(b"text" * 50), lambda raw: KEY.open(raw, "x")),
    "master": (KEY.to_json(), lambda raw: SealKey.from_json(raw, "x")),
}


@st.composite
def mutations(draw, raw):
    """Valid bytes with pieces replaced, removed, doubled or put in."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(raw)))
        end = min(start + draw(st.integers(0, 12)), len(raw))
        piece = draw(
            st.one_of(
                st.binary(max_size=8),
                st.just(raw[start:end] * 2),
                st.sampled_from(
                    [b"null", b"-1", b"1e999", b"99999999999999999999", b'"', b"[", b"{", b"\\ud800", b"\\\\x"]
                ),
            )
        )
        raw = raw[:start] + piece + raw[end:]
    return raw


@pytest.mark.parametrize("name", PARSERS)
def test_mutated_bytes_give_a_value_or_a_typed_error(name):
    valid, parse = PARSERS[name]
    parse(valid)

    @settings(max_examples=150, deadline=None)
    @given(mutations(valid))
    def run(raw):
        try:
            parse(raw)
        except Damaged as error:
            assert error.key == "x"  # noqa: PT017

    run()


@pytest.mark.parametrize("name", PARSERS)
def test_any_bytes_give_a_value_or_a_typed_error(name):
    _, parse = PARSERS[name]

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=200))
    def run(raw):
        try:
            parse(raw)
        except Damaged as error:
            assert error.key == "x"  # noqa: PT017

    run()


@pytest.mark.parametrize("name", ["tree", "index", "snapshot", "lock", "key", "master"])
@pytest.mark.parametrize("deep", [b"[" * 200_000, b'{"nodes":' * 100_000, b'{"a":' + b"[" * 100_000])
def test_deep_nesting_is_a_typed_error(name, deep):
    with pytest.raises(Damaged):
        PARSERS[name][1](deep)


def bomb(size, *, stated):
    """A zstd frame that unpacks to `size` zeros, with or without saying so."""
    compressor = zstandard.ZstdCompressor(write_content_size=stated)
    if stated:
        return compressor.compress(bytes(size))
    stream = compressor.compressobj()
    return b"".join(stream.compress(bytes(1 << 20)) for _ in range(size >> 20)) + stream.flush()


@pytest.mark.parametrize("stated", [True, False])
def test_a_bomb_costs_no_more_than_the_cap(monkeypatch, stated):
    monkeypatch.setattr(codec, "MAX_DOCUMENT", 4 << 20)
    frame = bomb(256 << 20, stated=stated)
    assert len(frame) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(Damaged, match="unpacks to"):
            DECOMPRESSOR.document(b"\x02" + frame, "x")
        with pytest.raises(Damaged, match="unpacks to"):
            DECOMPRESSOR.blob(frame, 1 << 20, "x")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_blob_that_claims_too_much_is_refused_before_anything_is_unpacked():
    with pytest.raises(Damaged, match="larger than any"):
        DECOMPRESSOR.blob(b"", codec.MAX_BLOB + 1, "x")
    with pytest.raises(Damaged, match="in place of"):
        DECOMPRESSOR.blob(zstandard.compress(b"abc"), 4, "x")


def test_a_window_of_gigabytes_is_refused():
    # A frame header that asks for a window of 2 GiB, without a content size.
    with pytest.raises(Damaged):
        DECOMPRESSOR.document(b"\x02" + b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x01\x00\x00", "x")
