"""Trees: to the byte what restic writes, and nothing but a typed error for what is no tree."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karbor.bank.vault.nodes import Node, decode_tree, encode_tree
from karbor.errors import Damaged, InvalidInput

# A tree as restic 0.14 wrote it, but for the names of user and machine.
WRITTEN_BY_RESTIC = (
    b'{"nodes":[{"name":"a","type":"file","mode":420,"mtime":"2026-01-02T03:04:05.678901234Z",'
    b'"atime":"2026-01-02T03:04:05.678901234Z","ctime":"2026-01-02T03:04:06Z","uid":0,"gid":0,"user":"root","group":"root",'
    b'"inode":12,"device_id":65024,"size":5,"links":1,'
    b'"content":["2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"]},'
    b'{"name":"d","type":"dir","mode":2147484141,"mtime":"2026-01-02T03:04:05Z","atime":"2026-01-02T03:04:05Z",'
    b'"ctime":"2026-01-02T03:04:06Z","uid":0,"gid":0,"user":"root","group":"root","inode":13,"device_id":65024,'
    b'"content":null,"subtree":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},'
    b'{"name":"e","type":"file","mode":420,"mtime":"2026-01-02T03:04:05Z","atime":"2026-01-02T03:04:05Z",'
    b'"ctime":"2026-01-02T03:04:06Z","uid":0,"gid":0,"user":"root","group":"root","inode":14,"device_id":65024,"links":1,'
    b'"content":[]},'
    b'{"name":"l","type":"symlink","mode":134218239,"mtime":"2026-01-02T03:04:05Z","atime":"2026-01-02T03:04:05Z",'
    b'"ctime":"2026-01-02T03:04:06Z","uid":0,"gid":0,"user":"root","group":"root","inode":15,"device_id":65024,"links":1,'
    b'"linktarget":"a","extended_attributes":[{"name":"user.x","value":"AAE="}],"content":null}]}\n'
)

ids = st.binary(min_size=32, max_size=32)
times = st.integers(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1)
numbers = st.integers(0, 2**64 - 1)
nodes = st.builds(
    Node,
    name=st.binary(min_size=1),
    type=st.sampled_from(["dir", "symlink", "dev", "chardev", "fifo", "socket"]),
    mode=st.integers(0, 0o7777),
    mtime=times,
    atime=times,
    ctime=times,
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    user=st.text(st.characters(exclude_categories=["Cs"])),
    inode=numbers,
    device_id=numbers,
    size=numbers,
    links=numbers,
    linktarget=st.binary(),
    xattrs=st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])).map(str.encode), st.binary())).map(
        tuple
    ),
    device=numbers,
    subtree=st.one_of(st.just(b""), ids),
)
files = st.builds(Node, name=st.binary(min_size=1), type=st.just("file"), content=st.lists(ids).map(b"".join))


def test_a_tree_is_to_the_byte_what_restic_writes():
    assert encode_tree(decode_tree(WRITTEN_BY_RESTIC, "tree")) == WRITTEN_BY_RESTIC


@given(st.lists(st.one_of(nodes, files), unique_by=lambda node: node.name))
def test_every_tree_survives(some):
    ordered = sorted(some, key=lambda node: node.name)
    assert decode_tree(encode_tree(ordered), "tree") == ordered


@pytest.mark.parametrize("names", [(b"b", b"a"), (b"a", b"a"), (b"",)])
def test_names_must_ascend(names):
    some = [Node(name=name, type="file") for name in names]
    with pytest.raises(InvalidInput, match="order"):
        encode_tree(some)


def test_a_tree_out_of_order_is_damaged():
    raw = encode_tree([Node(name=b"a", type="file"), Node(name=b"b", type="file")])
    for bad in (raw.replace(b'"b"', b'"A"'), raw.replace(b'"b"', b'"a"')):
        with pytest.raises(Damaged, match="order"):
            decode_tree(bad, "tree/x")


def test_a_long_content_survives_and_any_spacing_of_it_is_read():
    content = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(5000))
    raw = encode_tree([Node(name=b"data", type="file", content=content)])
    for text in (raw, raw.replace(b",", b" ,\n"), raw.replace(b'":[', b'":[ ')):
        assert decode_tree(text, "tree")[0].content == content


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"2cf24dba", b"2cf24db "),
        (b"2cf24dba", b"2cf24d"),
        (b'"size":5', b'"size":-5'),
        (b'"size":5', b'"size":18446744073709551616'),
        (b'"size":5', b'"size":1e3'),
        (b'"uid":0', b'"uid":null'),
        (b'"name":"a"', b'"name":"\\\\q"'),
        (b"2026-01-02T03:04:05Z", b"yesterday"),
        (b'"content":null', b'"content":{}'),
        (b'"content":null', b'"content":[1]'),
        (b"]}\n", b""),
        (b'{"nodes"', b'[{"nodes"'),
    ],
)
def test_what_is_no_tree_is_damaged(old, new):
    assert old in WRITTEN_BY_RESTIC
    with pytest.raises(Damaged, match="bank object tree/x"):
        decode_tree(WRITTEN_BY_RESTIC.replace(old, new), "tree/x")


def test_fields_and_types_of_newer_writers_are_passed_over():
    raw = WRITTEN_BY_RESTIC.replace(b'"name":"a","type":"file"', b'"name":"a","new":[{}],"type":"wormhole"')
    assert decode_tree(raw, "tree")[0].type == "irregular"


def test_an_attribute_that_json_cannot_hold_is_refused():
    with pytest.raises(InvalidInput, match="UTF-8"):
        encode_tree([Node(name=b"a", type="file", xattrs=((b"user.\xff", b""),))])


@pytest.mark.parametrize(
    "ids", ['["aa"]', '["aa","' + "0" * 64 + '"]', '["' + "0" * 63 + '","' + "0" * 65 + '"]', '["zz"]']
)
def test_content_that_is_no_list_of_ids_is_damage(ids):
    raw = encode_tree([Node(name=b"x", type="file")]).replace(b"[]", ids.encode())
    with pytest.raises(Damaged):
        decode_tree(raw, "tree")
