"""A plugin whose outside world is a ledger on disk, shared by every process: doubles and orphans can be counted in it."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import Resource
from karbor.errors import ResourceFailed, Unavailable
from karbor.sdk.protectable import Protectable
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THING = "Test::Thing"
PROVIDER = "11111111-2222-4333-8444-555555555555"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    restore_name: str | None = None


class Things(Protectable):
    """Resources are lines of a file; what they depend on stands in their extra_info."""

    type = THING
    parents = (THING,)

    def __init__(self, world: World) -> None:
        self.world = world

    def list(self, session):
        if self.world.listing_fails:
            raise Unavailable("the ledger cannot be listed")
        return list(self.world.things.values())

    def dependents(self, session, parents):
        known = {thing.id: thing for thing in self.list(session)}
        return {parent.key: [known[i] for i in (parent.extra_info or {}).get("needs", [])] for parent in parents}


class Ledger(Protection):
    """Makes entries in a ledger, tagged, so that every double and every orphan can be counted."""

    name = "test-ledger"
    types = (THING,)
    restore_options = Options

    def __init__(self, world: World) -> None:
        self.world = world

    def _of(self, op, what: str) -> str:
        return str((op.resource.extra_info or {}).get(what, ""))

    def preflight_protect(self, op):
        yield PreflightItem(resource=op.resource.key, action="read", what=op.resource.name)

    def preflight_restore(self, op):
        refused = "refuse" in self._of(op, "restore")
        yield PreflightItem(
            resource=op.resource.key,
            action="refuse" if refused else "create",
            what=op.options.get("restore_name") or op.resource.id,
            reason="told to" if refused else "",
        )

    def protect_prepare_finish(self, op) -> None:
        op.once("snapshot", lambda tag: self.world.make(tag, "snapshot", op.checkpoint_id), self.world.find)

    def protect_main(self, op) -> None:
        mode = self._of(op, "protect")
        owner = f"{op.checkpoint_id}/{op.resource.id}"
        op.defer("temporary", lambda: self.world.remove_kind(owner, "temporary"))
        op.once("temporary", lambda tag: self.world.make(tag, "temporary", owner), self.world.find)
        if mode == "slow":
            op.poll(lambda: self.world.released.is_set() or None, every=0.05, deadline=60)
        if mode == "hang":
            op.poll(lambda: None, every=0.05, deadline=0.3, name="the backup")
        if mode == "fail":
            raise ResourceFailed("the disk has a bad sector", hint="replace it")
        if mode == "raise":
            raise ZeroDivisionError("oops")
        if mode == "flaky" and self.world.count("tries") < 2:
            self.world.make("", "tries")
            raise Unavailable("come back later")
        op.vault.write_stream(iter([op.resource.id.encode() * 1000]))
        op.save({"snapshot": op.made("snapshot")}, location="bank", consistency="crash")

    def protect_undo(self, op) -> None:
        made = op.made("snapshot")
        if made:
            self.world.remove(made)

    def restore_main(self, op) -> None:
        data = b"".join(op.vault.read_stream())
        assert data == op.resource.id.encode() * 1000
        new = op.once("new", lambda tag: self.world.make(tag, "restored", op.resource.id), self.world.find)
        op.register(Resource(type=THING, id=new, name=op.options.get("restore_name") or op.resource.name))
        if self._of(op, "restore") == "fail":
            raise ResourceFailed("no room in the new place")

    def restore_undo(self, op) -> None:
        made = op.made("new")
        if made:
            self.world.remove(made)

    def verify_main(self, op) -> None:
        op.vault.verify()

    def delete_main(self, op) -> None:
        if self.world.deleting_fails:
            raise ResourceFailed("the snapshot is in use")
        self.world.remove(op.saved["snapshot"])


class World:
    """The outside: a ledger of what exists, and what the test wants to go wrong.

    `interrupt` is called on both sides of every change: chaos kills the process there.
    """

    def __init__(self, path: Path, interrupt: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.things: dict[str, Resource] = {}
        self.listing_fails = self.deleting_fails = False
        self.released = threading.Event()
        self.interrupt = interrupt
        self._do("CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY AUTOINCREMENT, tag, kind, owner)")

    def _do(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """One statement in a transaction of its own: a kill leaves the ledger before or after it."""
        self.interrupt()
        with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as database:
            found = database.execute(statement, values).fetchall()
        self.interrupt()
        return found

    def thing(self, ident: str, **extra: Any) -> Resource:
        self.things[ident] = Resource(type=THING, id=ident, name=f"thing {ident}", extra_info=extra or None)
        return self.things[ident]

    def make(self, tag: str, kind: str, owner: str = "") -> str:
        insert = "INSERT INTO entries (tag, kind, owner) VALUES (?, ?, ?) RETURNING number"
        return f"{kind}-{self._do(insert, tag, kind, owner)[0][0]}"

    def find(self, tag: str) -> str | None:
        found = self._do("SELECT kind, number FROM entries WHERE tag = ?", tag)
        return f"{found[0][0]}-{found[0][1]}" if found else None

    def remove(self, name: str) -> None:
        self._do("DELETE FROM entries WHERE number = ?", int(name.rpartition("-")[2]))

    def remove_kind(self, owner: str, kind: str) -> None:
        self._do("DELETE FROM entries WHERE owner = ? AND kind = ?", owner, kind)

    def all(self) -> list[tuple[str, str, str]]:
        """(tag, kind, owner) of everything that exists."""
        return self._do("SELECT tag, kind, owner FROM entries ORDER BY number")

    def count(self, kind: str) -> int:
        return sum(entry[1] == kind for entry in self.all())
