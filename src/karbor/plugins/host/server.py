"""Databases of a server: dumped by the server's own tool into a stream, restored into a new database."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Protocol

from karbor.errors import Refused, ResourceFailed
from karbor.plugins.host import reporting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from karbor.domain.checkpoint import Consistency
    from karbor.domain.preflight import Action, PreflightItem
    from karbor.plugins.host.database import DatabaseRestore
    from karbor.plugins.host.declaration import Server
    from karbor.sdk.op import Look, Op


class Engine(Protocol):
    """A database server's tools. `tag` marks what a restore makes, so that it is found again; it is empty where the
    restore goes into the declared database itself."""

    def size(self, database: str, *, restoring: bool = False) -> int | None:
        """Bytes a database takes, or None where it does not exist; `restoring` asks as the restoring role."""
        ...

    def consistency(self) -> tuple[Consistency, str]:
        """How consistent a dump is, and what there is to say about it."""
        ...

    def check_ordinary(self) -> None:
        """Raise `Refused` where the restoring role has more than ordinary rights."""
        ...

    def check_tools(self) -> None:
        """Raise `Refused` naming the package where a tool is missing."""
        ...

    def dump(self, database: str) -> Iterator[bytes]:
        """The dump as a stream."""
        ...

    def create(self, database: str, tag: str) -> None:
        """Make an empty database."""
        ...

    def find(self, database: str, tag: str) -> bool:
        """Whether an earlier attempt made it."""
        ...

    def fill(self, database: str, tag: str, dump: Iterable[bytes]) -> None:
        """Run a dump in it; may be repeated."""
        ...

    def finish(self, database: str, tag: str) -> None:
        """Make the filled database visible under its name; may be repeated."""
        ...

    def drop(self, database: str, tag: str) -> None:
        """Remove what a restore made."""
        ...


class ServerDatabase:
    """One declared database of a server at one operation."""

    def __init__(self, member: Server, engine: Engine) -> None:
        self._member, self._engine = member, engine

    def preflight_protect(self, look: Look) -> Iterable[PreflightItem]:
        """One item: the database with its size, asked of the server."""
        self._engine.check_tools()
        size = self._engine.size(self._member.database)
        if size is None:
            raise Refused(f"{self._member.name} does not exist on its server")
        _, note = self._engine.consistency()
        return [reporting.item(look.resource, "read", self._member.name, note or "as it is at one moment", size)]

    def protect(self, op: Op) -> None:
        """Store the dump."""
        self._engine.check_tools()
        consistency, note = self._engine.consistency()
        written = op.vault.write_stream(self._engine.dump(self._member.database), progress=op.progress)
        saved = reporting.document(self._member.engine, written, database=self._member.database)
        op.save(saved, location="bank", consistency=consistency)
        if note:
            op.warn(note)

    def preflight_restore(self, look: Look, options: DatabaseRestore) -> Iterable[PreflightItem]:
        """Whether a database is made or overwritten."""
        size = int(look.saved.get("logical_bytes", 0))
        action: Action = "overwrite" if self._check(options) else "create"
        return [reporting.item(look.resource, action, options.restore_name or "a new database", size=size)]

    def restore(self, op: Op, options: DatabaseRestore) -> str:
        """Run the dump in a new database, or in its own where that is allowed; returns its name."""
        name, tag = self._member.database, ""
        if not op.read("in place", lambda: self._check(options)):
            made = op.once("database", partial(self._create, options), partial(self._find, options))
            name, tag = made["name"], made["tag"]
            op.defer("unfinished", lambda: None if op.made("filled") else self._engine.drop(name, tag))
        # A recorded end keeps a replay from running the dump again in a database that may be in use by then.
        op.once("filled", lambda _mark: self._fill(op, name, tag), lambda _mark: None)
        return name

    def undo(self, op: Op, options: DatabaseRestore) -> None:  # noqa: ARG002 - as of every kind of database
        """Remove the database that was made; one that was overwritten stays as it is."""
        made = op.made("database")
        if made is not None:
            self._engine.drop(made["name"], made["tag"])
        elif op.made("filled"):
            op.warn(f"{self._member.name} was overwritten and stays so: what it held before is gone")

    def device_of(self) -> int | None:
        """None: where a server keeps its data is not ours to know."""
        return None

    def _create(self, options: DatabaseRestore, tag: str) -> dict[str, str]:
        name = self._name(options, tag)
        self._engine.create(name, tag)
        return {"name": name, "tag": tag}

    def _find(self, options: DatabaseRestore, tag: str) -> dict[str, str] | None:
        name = self._name(options, tag)
        return {"name": name, "tag": tag} if self._engine.find(name, tag) else None

    def _name(self, options: DatabaseRestore, tag: str) -> str:
        """The name asked for, or one that no other restore gets."""
        own = hashlib.sha256(tag.encode()).hexdigest()[:8]
        return options.restore_name or f"{self._member.database[:40]}_{own}"

    def _fill(self, op: Op, name: str, tag: str) -> bool:
        self._engine.fill(name, tag, self._reported(op))
        self._engine.finish(name, tag)
        return True

    def _reported(self, op: Op) -> Iterator[bytes]:
        done, total = 0, int(op.saved.get("logical_bytes", 0))
        for chunk in op.vault.read_stream():
            done += len(chunk)
            op.progress(min(done, total), total)
            yield chunk

    def _check(self, options: DatabaseRestore) -> bool:
        """Whether it goes into the declared database itself; raises `Refused` where the dump may not be run there.

        A `restore_path`, which means "elsewhere", means a new database, as no name does.
        """
        self._engine.check_tools()
        if not self._member.privileged_restore:
            self._engine.check_ordinary()
        name = options.restore_name
        if name is None or self._engine.size(name, restoring=True) is None:
            return False
        what = f"{self._member.engine} database {name} exists"
        if name != self._member.database or not self._member.restore_in_place:
            hint = "give another restore_name; the declaration may allow restore_in_place for its own database"
            raise Refused(what, hint=hint)
        if not options.overwrite:
            raise Refused(what, hint="ask for overwrite")
        return True


def check_saved(kind: str, expected: str, name: str) -> None:
    """Raise `ResourceFailed` where a checkpoint holds another kind of database than is declared now."""
    if kind != expected:
        raise ResourceFailed(f"{name}: the checkpoint holds a {kind} database, {expected} is declared")
