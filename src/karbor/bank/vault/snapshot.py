"""Snapshots: the commit records of a repository. A checkpoint exists when its snapshot exists."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from karbor.bank.vault.wireformat import go_json, go_time, id_of, parse_time
from karbor.errors import Damaged, InvalidInput

MAX_SNAPSHOT = 16 << 20
"""Bytes of a sealed snapshot that are read at most."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A tree at one moment, and whose it is. `tree` and `parent` are ids of 32 bytes; a tag has no comma."""

    time: datetime
    tree: bytes
    paths: tuple[str, ...]
    hostname: str = "karbor"
    username: str = "karbor"
    tags: tuple[str, ...] = ()
    parent: bytes = b""

    def tag(self, name: str) -> str:
        """The value of the tag ``name=value``; empty where there is none."""
        prefix = name + "="
        return next((tag[len(prefix) :] for tag in self.tags if tag.startswith(prefix)), "")


class _WireSnapshot(msgspec.Struct, omit_defaults=True, kw_only=True):
    time: str
    parent: str | None = None
    tree: str
    paths: list[str] | None
    hostname: str = ""
    username: str = ""
    tags: list[str] | None = None


_decode = msgspec.json.Decoder(_WireSnapshot).decode


def unix_ns(moment: datetime) -> int:
    """Unix nanoseconds of an aware moment."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 10**9 + delta.microseconds * 1000


def moment_of(ns: int) -> datetime:
    """The aware moment of Unix nanoseconds, to the microsecond."""
    seconds, rest = divmod(ns, 10**9)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The JSON of a snapshot."""
    if any("," in tag for tag in snapshot.tags):
        raise InvalidInput("a snapshot's tag must not have a comma")
    wire = _WireSnapshot(
        time=go_time(unix_ns(snapshot.time)),
        parent=snapshot.parent.hex() or None,
        tree=snapshot.tree.hex(),
        paths=list(snapshot.paths),
        hostname=snapshot.hostname,
        username=snapshot.username,
        tags=list(snapshot.tags) or None,
    )
    return go_json(wire)


def decode_snapshot(raw: bytes, name: str) -> Snapshot:
    """A snapshot from its JSON; `Damaged` naming the bank object `name` where it is none."""
    try:
        wire = _decode(raw)
        return Snapshot(
            time=moment_of(parse_time(wire.time)),
            tree=id_of(wire.tree),
            paths=tuple(wire.paths or ()),
            hostname=wire.hostname,
            username=wire.username,
            tags=tuple(wire.tags or ()),
            parent=id_of(wire.parent) if wire.parent else b"",
        )
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise Damaged(name, f"it holds no snapshot ({error})") from None
