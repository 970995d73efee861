"""Nodes and trees: what a directory holds, as restic writes it.

A node's content is one `bytes` of 32-byte blob ids, 8 MiB for an image of 262,144 chunks, and is turned into JSON
and back without an object per id.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, cast, get_args

import msgspec

from karbor.bank.vault.wireformat import escape_html, go_mode, go_time, parse_time, posix_mode, quote, unquote
from karbor.errors import Damaged, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

NodeType = Literal["file", "dir", "symlink", "dev", "chardev", "fifo", "socket", "irregular"]
"""`irregular` stands for every type that only newer writers know; it is read and never written."""
_NODE_TYPES = frozenset(get_args(NodeType))
_U64 = 1 << 64


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a directory. Times are Unix nanoseconds; `mode` has the POSIX permission, set-id and sticky bits.

    A name that was read may be any bytes: whoever makes files of nodes must refuse ``/``, NUL, ``.`` and ``..``.
    """

    name: bytes
    type: NodeType
    mode: int = 0
    mtime: int = 0
    atime: int = 0
    ctime: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: int = 0
    links: int = 0
    """Hard links; 0 for directories."""
    linktarget: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """(name, value), ascending by name."""
    device: int = 0
    """st_rdev of a device."""
    content: bytes = b""
    """The ids of a file's blobs, 32 bytes each."""
    subtree: bytes = b""
    """The id of a directory's tree."""


class _WireAttribute(msgspec.Struct, frozen=True):
    name: str
    value: bytes | None


class _WireNode(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The fields in restic's order; a default is left out where Go says omitempty."""

    name: str
    type: str
    mode: int = 0
    mtime: str = ""
    atime: str = ""
    ctime: str = ""
    uid: int
    gid: int
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: int = 0
    links: int = 0
    linktarget: str = ""
    linktarget_raw: bytes | None = None
    extended_attributes: list[_WireAttribute] | None = None
    device: int = 0
    content: msgspec.Raw
    subtree: str | None = None


class _WireTree(msgspec.Struct):
    nodes: list[_WireNode] | None


_encode = msgspec.json.Encoder().encode
_decode_tree = msgspec.json.Decoder(_WireTree).decode
_decode_ids = msgspec.json.Decoder(list[str] | None).decode


def encode_tree(nodes: Iterable[Node]) -> bytes:
    """The tree blob of a directory; nodes must come strictly ascending by name (`InvalidInput`)."""
    parts: list[bytes] = []
    last = b""
    for node in nodes:
        if node.name <= last:
            raise InvalidInput(f"tree nodes are out of order: {node.name!r} after {last!r}")
        last = node.name
        parts.append(escape_html(_encode(_to_wire(node))))
    return b'{"nodes":[' + b",".join(parts) + b"]}\n"


def decode_tree(raw: bytes, name: str) -> list[Node]:
    """The nodes of a tree blob; `Damaged` naming the bank object `name` where it is no tree or out of order."""
    try:
        wire = _decode_tree(raw).nodes or []
        nodes = [_from_wire(node) for node in wire]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damaged(name, f"it holds no tree ({error})") from None
    for before, after in pairwise(nodes):
        if before.name >= after.name:
            raise Damaged(name, f"tree nodes are out of order: {after.name!r} after {before.name!r}")
    return nodes


def _to_wire(node: Node) -> _WireNode:
    target = node.linktarget.decode("utf-8", "replace")
    mtime = go_time(node.mtime)
    content = _encode_ids(node.content) if node.type == "file" else b"null"
    return _WireNode(
        name=quote(node.name),
        type=node.type,
        mode=go_mode(node.type, node.mode),
        mtime=mtime,
        atime=mtime if node.atime == node.mtime else go_time(node.atime),
        ctime=mtime if node.ctime == node.mtime else go_time(node.ctime),
        uid=node.uid,
        gid=node.gid,
        user=node.user,
        group=node.group,
        inode=node.inode,
        device_id=node.device_id,
        size=node.size,
        links=node.links,
        linktarget=target,
        linktarget_raw=node.linktarget if target.encode() != node.linktarget else None,
        extended_attributes=[_WireAttribute(quote_attribute(key), value) for key, value in node.xattrs] or None,
        device=node.device,
        content=msgspec.Raw(content),
        subtree=node.subtree.hex() or None,
    )


def quote_attribute(name: bytes) -> str:
    """An attribute's name as restic stores it: plain JSON, so what is not UTF-8 cannot be kept (`InvalidInput`)."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"the extended attribute {name!r} has a name that is not UTF-8") from None


def _from_wire(wire: _WireNode) -> Node:
    numbers = (wire.mode, wire.uid, wire.gid, wire.inode, wire.device_id, wire.size, wire.links, wire.device)
    if min(numbers) < 0 or max(numbers) >= _U64:
        raise ValueError("a number of a node is out of range")
    subtree = bytes.fromhex(wire.subtree or "")
    if len(subtree) not in (0, 32):
        raise ValueError("a subtree is not named by 32 bytes")
    mtime = parse_time(wire.mtime) if wire.mtime else 0
    return Node(
        name=unquote(wire.name),
        type=cast("NodeType", wire.type) if wire.type in _NODE_TYPES else "irregular",
        mode=posix_mode(wire.mode),
        mtime=mtime,
        atime=mtime if wire.atime == wire.mtime else parse_time(wire.atime) if wire.atime else 0,
        ctime=mtime if wire.ctime == wire.mtime else parse_time(wire.ctime) if wire.ctime else 0,
        uid=wire.uid,
        gid=wire.gid,
        user=wire.user,
        group=wire.group,
        inode=wire.inode,
        device_id=wire.device_id,
        size=wire.size,
        links=wire.links,
        linktarget=wire.linktarget.encode() if wire.linktarget_raw is None else wire.linktarget_raw,
        xattrs=tuple((item.name.encode(), item.value or b"") for item in wire.extended_attributes or ()),
        device=wire.device,
        content=_decode_content(bytes(wire.content)),
        subtree=subtree,
    )


def _encode_ids(content: bytes) -> bytes:
    if not content:
        return b"[]"
    return b'["' + content.hex(",", 32).encode().replace(b",", b'","') + b'"]'


def _decode_content(raw: bytes) -> bytes:
    """The packed ids of a JSON array of hexadecimal strings, or of null."""
    try:
        packed = bytes.fromhex(raw[2:-2].replace(b'","', b"").decode())
        if len(packed) % 32 == 0 and _encode_ids(packed) == raw:  # as everybody writes it
            return packed
    except ValueError:
        pass
    ids = [bytes.fromhex(text) for text in _decode_ids(raw) or ()]
    if any(len(blob) != 32 for blob in ids):
        raise ValueError("a blob is not named by 32 bytes")
    return b"".join(ids)
