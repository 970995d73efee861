"""The catalogue port: the database's records of plans, checkpoints and what was done to them.

Tenant isolation is a property of the query: every reading names its scope, a project id, or `EVERY_PROJECT`, which
only an administrator's request may ask for. What lies outside the scope does not exist: `NotFound`.
Implemented by `karbor.db.catalogue`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from karbor.domain.checkpoint import Checkpoint
from karbor.domain.delegation import Delegation
from karbor.domain.operation import OperationLog, Restore, Verification
from karbor.domain.plan import Plan
from karbor.domain.schedule import ScheduledOperation
from karbor.domain.trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_PROJECT = "*"
"""The scope of an administrator who asked for all projects."""

MAX_LIMIT = 1000

Record = Plan | Checkpoint | Restore | Verification | OperationLog | Delegation | Trigger | ScheduledOperation
R = TypeVar("R", Plan, Checkpoint, Restore, Verification, OperationLog, Delegation, Trigger, ScheduledOperation)
T = TypeVar("T")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which records, in which order, from where. `filters` compare columns for equality (with a list: with one of
    it), or contain (`name~`) or bound (`created_at>=`, `created_at<`); an unknown column, in `filters` or in `sort`,
    is an `InvalidInput` naming those there are."""

    scope: str
    filters: dict[str, Any] = msgspec.field(default_factory=dict)
    sort: tuple[tuple[str, Literal["asc", "desc"]], ...] = (("created_at", "desc"),)
    limit: int = MAX_LIMIT
    marker: str = ""
    """Id of the last record of the page before; unknown: `NotFound`."""
    offset: int = 0


class Catalogue(Protocol):
    """Records by kind; the module's docstring says how they are scoped."""

    def transact(self, work: Callable[[Any], T]) -> T:
        """Run `work(tx)` in one transaction; the whole is repeated on deadlock, so `work` must bear repetition."""
        ...

    def insert(self, tx: Any, record: Record) -> None:
        """Add a record; an id that exists is a `Conflict`."""
        ...

    def replace(self, tx: Any, record: Record, *, expected_status: str | None = None) -> None:
        """Store the record anew; raises `Conflict` where its status is no longer `expected_status`, `NotFound` where
        it is gone."""
        ...

    def remove(self, tx: Any, kind: type[R], scope: str, ident: str) -> None:
        """Delete a record; `NotFound` where there is none in the scope."""
        ...

    def get(self, kind: type[R], scope: str, ident: str, *, tx: Any = None) -> R:
        """One record; `NotFound` where there is none in the scope. Within `tx` the row is locked until it ends."""
        ...

    def list(self, kind: type[R], query: Query) -> list[R]:
        """A page of records: keyset paging, ties broken by id."""
        ...

    def count(self, tx: Any, kind: type[R], scope: str, filters: dict[str, Any] | None = None) -> int:
        """How many records there are."""
        ...

    def run_of(self, kind: type[R], ident: str) -> str:
        """Id of the newest run that worked on a checkpoint, restore or verification; empty where there is none."""
        ...
