"""The catalogue on a database: `karbor.protection.catalogue.Catalogue`, generic over the kinds of records.

The body of a row is the JSON of the domain's record and the truth; the other columns are what it says, for filters
and order, and are written from it together with it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import String, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from karbor.db import schema
from karbor.db.changes import note
from karbor.db.columns import Instant
from karbor.db.paging import in_scope, matching, page
from karbor.domain.checkpoint import PROTECTING, Checkpoint
from karbor.domain.delegation import Delegation
from karbor.domain.operation import OperationLog, Restore, Verification
from karbor.domain.plan import Plan
from karbor.domain.schedule import ScheduledOperation
from karbor.domain.trigger import Trigger
from karbor.errors import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

    from karbor.db.engine import Database
    from karbor.protection.catalogue import Query, Record

R = TypeVar("R", Plan, Checkpoint, Restore, Verification, OperationLog, Delegation, Trigger, ScheduledOperation)
T = TypeVar("T")

_TABLES: dict[type[Any], Table] = {
    Plan: schema.plans,
    Checkpoint: schema.checkpoints,
    Restore: schema.restores,
    Verification: schema.verifications,
    OperationLog: schema.operation_logs,
    Delegation: schema.delegations,
    Trigger: schema.triggers,
    ScheduledOperation: schema.scheduled_operations,
}
_WORDS: dict[type[Any], str] = {
    Plan: "plan",
    Checkpoint: "checkpoint",
    Restore: "restore",
    Verification: "verification",
    OperationLog: "operation log",
    Delegation: "delegation",
    Trigger: "trigger",
    ScheduledOperation: "scheduled operation",
}
_DECODERS = {kind: msgspec.json.Decoder(kind) for kind in _TABLES}
_FIXED = frozenset({"id", "project_id", "created_at"})
"""Columns that never change after the insert."""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

_RUN_OF = (
    select(schema.runs.c.id)
    .where(schema.runs.c.object_id == bindparam("ident"))
    .order_by(schema.runs.c.created_at.desc(), schema.runs.c.id.desc())
    .limit(1)
)


class SqlCatalogue:
    """Records by kind, each kind in a table of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work(tx)` in one transaction; the whole is repeated on deadlock, so `work` must bear repetition."""
        return self._database.transact(work)

    def insert(self, tx: Connection, record: Record) -> None:
        """Add a record; an id that exists is a `Conflict`."""
        try:
            tx.execute(insert(_TABLES[type(record)]), self._row(tx, record))
        except IntegrityError as error:
            raise Conflict(f"{_WORDS[type(record)]} {record.id} exists already") from error
        _note(tx, record)

    def replace(self, tx: Connection, record: Record, *, expected_status: str | None = None) -> None:
        """Store the record anew; `Conflict` where its status is no longer `expected_status`, `NotFound` where it is
        gone.
        """
        table = _TABLES[type(record)]
        row = {name: value for name, value in self._row(tx, record).items() if name not in _FIXED}
        this = (table.c.id == record.id, table.c.project_id == record.project_id)
        expected = () if expected_status is None else (table.c.status == expected_status,)
        if tx.execute(update(table).where(*this, *expected).values(row)).rowcount:
            _note(tx, record)
            return
        status = tx.execute(select(table.c.status).where(*this)).scalar_one_or_none()
        if status is None:
            raise _not_found(type(record), record.id)
        raise Conflict(f"{_WORDS[type(record)]} {record.id} is {status}, not {expected_status} any more")

    def remove(self, tx: Connection, kind: type[R], scope: str, ident: str) -> None:
        """Delete a record; `NotFound` where there is none in the scope."""
        table = _TABLES[kind]
        here = (table.c.id == ident, in_scope(table, scope))
        body = tx.execute(select(table.c.body).where(*here).with_for_update()).scalar_one_or_none()
        if body is None or not tx.execute(delete(table).where(*here)).rowcount:
            raise _not_found(kind, ident)
        _note(tx, _decoded(kind, body), removed=True)

    def get(self, kind: type[R], scope: str, ident: str, *, tx: Connection | None = None) -> R:
        """One record; `NotFound` where there is none in the scope. Within `tx` the row is locked until it ends."""
        table = _TABLES[kind]
        statement = select(table.c.body).where(table.c.id == ident, in_scope(table, scope))
        if tx is None:
            body = self._database.read(lambda reading: reading.execute(statement).scalar_one_or_none())
        else:
            body = tx.execute(statement.with_for_update()).scalar_one_or_none()
        if body is None:
            raise _not_found(kind, ident)
        return _decoded(kind, body)

    def list(self, kind: type[R], query: Query) -> list[R]:
        """A page of records: keyset paging, ties broken by id."""
        table = _TABLES[kind]
        rows = self._database.read(lambda tx: tx.execute(page(tx, table, query)).all())
        return [_decoded(kind, row.body) for row in rows]

    def count(self, tx: Connection, kind: type[R], scope: str, filters: dict[str, Any] | None = None) -> int:
        """How many records there are."""
        table = _TABLES[kind]
        return tx.execute(
            select(func.count()).select_from(table).where(matching(table, scope, filters or {}))
        ).scalar_one()

    def run_of(self, kind: type[R], ident: str) -> str:  # noqa: ARG002 - ids of all kinds are UUIDs
        """Id of the newest run that worked on a checkpoint, restore or verification; empty where there is none."""
        found = self._database.read(lambda tx: tx.execute(_RUN_OF, {"ident": ident}).one_or_none())
        return found.id if found else ""

    def _row(self, tx: Connection, record: Record) -> dict[str, Any]:
        """The columns of a record: what it says under their names."""
        row: dict[str, Any] = {}
        for column in _TABLES[type(record)].c:
            value = getattr(record, column.name, None)
            if isinstance(column.type, Instant):
                row[column.name] = value or _NEVER
            elif isinstance(column.type, String):
                # Longer words than the column holds cannot be filtered by in full; the body has them.
                row[column.name] = (value or "")[: column.type.length]
        if isinstance(record, OperationLog):
            row["created_at"] = record.started_at or self._database.db_now(tx)
        row["body"] = msgspec.json.encode(record)
        return row


_LOGGED = (Plan, Checkpoint, Restore, Verification, OperationLog)
"""The kinds that the bank's history keeps."""


def _note(tx: Connection, record: Record, *, removed: bool = False) -> None:
    """Tell the bank's history of a change, in the same transaction. What the manifest holds is not told again."""
    if not isinstance(record, _LOGGED):
        return
    if isinstance(record, Checkpoint):
        if record.status == PROTECTING and record.graph is not None:
            return
        record = msgspec.structs.replace(record, graph=None)
    body = {"kind": type(record).__name__, "record": record, "removed": removed}
    note(tx, record.provider_id, record.project_id, msgspec.json.encode(body))


def _decoded(kind: type[R], body: bytes) -> R:
    record: R = _DECODERS[kind].decode(body)
    return record


def _not_found(kind: type[Any], ident: str) -> NotFound:
    return NotFound(f"{_WORDS[kind]} {ident} could not be found")
