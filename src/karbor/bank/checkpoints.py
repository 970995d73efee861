"""Checkpoints in a repository: one snapshot is one checkpoint, and it exists when its snapshot object exists.

    /checkpoint.json                the manifest
    /<type>/<id>/data…              the resource's bytes, where it stored any
    /<type>/<id>/meta.json          its plugin's document

Tags carry what a listing needs, so that rebuilding a catalogue reads one object per checkpoint.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from karbor.bank.manifest import MAX_MANIFEST, Manifest, Meta, decode_manifest
from karbor.bank.vault.nodes import Node
from karbor.bank.vault.snapshot import Snapshot, unix_ns
from karbor.domain.resource import split_key
from karbor.errors import Damaged, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from karbor.bank.vault.repository import Repository
    from karbor.bank.vault.writer import Writer

MANIFEST = b"checkpoint.json"
META = b"meta.json"
_PIECE = 1 << 20
_TOMBSTONE = "tombstone"


class Prepared(msgspec.Struct, frozen=True):
    """A snapshot before its commit: journalled first, so that a replay commits the same bytes. `tree` is the hex id of
    its root."""

    snapshot_id: str
    sealed: bytes
    tree: str = ""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint as its snapshot's tags tell it."""

    snapshot_id: str
    checkpoint_id: str
    plan_id: str
    project_id: str
    provider_id: str
    created_at: datetime
    deleted: bool


def prepare(
    writer: Writer, manifest: Manifest, metas: Mapping[str, Meta], data: Mapping[str, str]
) -> tuple[Manifest, Prepared]:
    """Write the directories and the manifest of a checkpoint and seal its snapshot; nothing refers to it yet.

    `data` are hex ids of the trees with the data nodes of those resources that stored bytes. Returns the manifest
    with its `trees`. Everything is durable in the bank when this returns.
    """
    repository = writer.repository
    trees = {key: _save_resource(writer, meta, data.get(key, "")) for key, meta in metas.items()}
    whole = msgspec.structs.replace(manifest, trees={key: tree.hex() for key, tree in trees.items()})
    by_type: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for key, tree in trees.items():
        kind, ident = split_key(key)
        by_type.setdefault(kind.encode(), []).append((ident.encode(), tree))
    nodes = [
        _directory(kind, writer.save_tree(_directory(ident, tree) for ident, tree in sorted(rows)))
        for kind, rows in by_type.items()
    ]
    nodes.append(_file(writer, MANIFEST, msgspec.json.encode(whole), unix_ns(manifest.finished_at)))
    root = writer.save_tree(sorted(nodes, key=lambda node: node.name))
    writer.flush()
    snapshot = Snapshot(
        time=manifest.created_at,
        tree=root,
        paths=(f"/plan/{manifest.plan_id}",),
        tags=(
            f"checkpoint={manifest.checkpoint_id}",
            f"plan={manifest.plan_id}",
            f"project={manifest.place.project_id}",
            f"provider={manifest.provider_id}",
            f"fmt={manifest.format}",
        ),
    )
    return whole, Prepared(*repository.prepare_snapshot(snapshot), root.hex())


def tombstone(repository: Repository, snapshot_id: str, now: datetime) -> Prepared:
    """The snapshot that stands for a deleted checkpoint until its grace ends: the same tree, tagged as deleted."""
    old = repository.snapshot(snapshot_id)
    tags = (*old.tags, _TOMBSTONE, f"deleted={now.isoformat()}")
    return Prepared(*repository.prepare_snapshot(msgspec.structs.replace(old, tags=tags)))


def revived(repository: Repository, tombstone_id: str) -> Prepared:
    """The snapshot that brings a deleted checkpoint back."""
    old = repository.snapshot(tombstone_id)
    tags = tuple(tag for tag in old.tags if tag != _TOMBSTONE and not tag.startswith("deleted="))
    return Prepared(*repository.prepare_snapshot(msgspec.structs.replace(old, tags=tags)))


def held(repository: Repository) -> Iterator[Held]:
    """Every checkpoint of a repository, tombstones included; snapshots that are not checkpoints are passed over."""
    for snapshot_id, snapshot in repository.snapshots():
        checkpoint_id = snapshot.tag("checkpoint")
        if checkpoint_id and "partial" not in snapshot.tags:
            yield Held(
                snapshot_id=snapshot_id,
                checkpoint_id=checkpoint_id,
                plan_id=snapshot.tag("plan"),
                project_id=snapshot.tag("project"),
                provider_id=snapshot.tag("provider"),
                created_at=snapshot.time,
                deleted=_TOMBSTONE in snapshot.tags,
            )


def load_manifest(repository: Repository, snapshot_id: str) -> Manifest:
    """The manifest of a checkpoint, every blob on the way hashed again."""
    repository.refresh_index()
    snapshot = repository.snapshot(snapshot_id)
    node = _child(repository, snapshot.tree, MANIFEST)
    return decode_manifest(_read_file(repository, node), f"{repository.prefix}snapshots/{snapshot_id}")


def resource_tree(manifest: Manifest, key: str) -> bytes:
    """The id of a resource's directory; `NotFound` where the checkpoint has no such resource."""
    if key not in manifest.trees:
        raise NotFound(f"resource {key} is not in checkpoint {manifest.checkpoint_id}")
    return bytes.fromhex(manifest.trees[key])


def load_meta(repository: Repository, manifest: Manifest, key: str) -> Meta:
    """The document of one resource."""
    tree = resource_tree(manifest, key)
    raw = _read_file(repository, _child(repository, tree, META))
    try:
        return msgspec.json.decode(raw, type=Meta)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{repository.prefix}tree/{tree.hex()}", f"meta.json of {key}: {error}") from None


def has_data(repository: Repository, manifest: Manifest, key: str) -> bool:
    """Whether the resource stored bytes in the vault."""
    return any(node.name != META for node in repository.load_tree(resource_tree(manifest, key)))


def _save_resource(writer: Writer, meta: Meta, data: str) -> bytes:
    nodes = writer.repository.load_tree(bytes.fromhex(data)) if data else []
    nodes.append(_file(writer, META, msgspec.json.encode(meta), 0))
    return writer.save_tree(sorted(nodes, key=lambda node: node.name))


def _file(writer: Writer, name: bytes, body: bytes, mtime: int) -> Node:
    content = b"".join(writer.save("data", body[at : at + _PIECE]) for at in range(0, len(body), _PIECE))
    return Node(name=name, type="file", mode=0o600, mtime=mtime, size=len(body), links=1, content=content)


def _directory(name: bytes, tree: bytes) -> Node:
    # A constant time: a directory whose content did not change must not become another tree.
    return Node(name=name, type="dir", mode=0o700, subtree=tree)


def _child(repository: Repository, tree: bytes, name: bytes) -> Node:
    found = next((node for node in repository.load_tree(tree) if node.name == name and node.type == "file"), None)
    if found is None:
        raise Damaged(f"{repository.prefix}tree/{tree.hex()}", f"it holds no {name.decode()}")
    return found


def _read_file(repository: Repository, node: Node) -> bytes:
    if node.size > MAX_MANIFEST:
        raise Damaged(f"{repository.prefix}{node.name.decode()}", f"it claims to be {node.size} bytes long")
    return b"".join(_pieces(repository, node.content))


def _pieces(repository: Repository, content: bytes) -> Iterable[bytes]:
    return (repository.load("data", content[at : at + 32]) for at in range(0, len(content), 32))
