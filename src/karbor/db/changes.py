"""The outbox: every change of a record, written in the transaction that made it, until the bank's history has it.

Implements `karbor.protection.history.Changes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, insert, select, update

from karbor.db.schema import changes, repositories

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sqlalchemy.engine import Connection

    from karbor.db.engine import Database


def note(tx: Connection, provider_id: str, project_id: str, body: bytes) -> None:
    """Put a change into the outbox, in the transaction that makes it."""
    tx.execute(insert(changes), {"provider_id": provider_id, "project_id": project_id, "body": body})


class SqlChanges:
    """Turns of writing, one repository and one worker at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self) -> list[tuple[str, str]]:
        """(provider, project) of every repository with changes that are not in its bank yet."""
        pairs = select(changes.c.provider_id, changes.c.project_id).distinct()
        return self._database.read(lambda tx: [(row.provider_id, row.project_id) for row in tx.execute(pairs)])

    def take(
        self, provider_id: str, project_id: str, limit: int, hold: timedelta
    ) -> tuple[int, str, list[tuple[int, bytes]]] | None:
        """The number and hash of the newest entry, and the next (id, change)s; held for `hold` against other workers.
        None where another holds them, or where nothing was ever protected."""

        def work(tx: Connection) -> tuple[int, str, list[tuple[int, bytes]]] | None:
            now = self._database.db_now(tx)
            row = tx.execute(select(repositories).where(_here(repositories, provider_id, project_id)).with_for_update())
            found = row.one_or_none()
            if found is None or found.log_held_until > now:
                return None
            held = update(repositories).where(_here(repositories, provider_id, project_id))
            tx.execute(held.values(log_held_until=now + hold))
            rows = tx.execute(
                select(changes.c.id, changes.c.body)
                .where(_here(changes, provider_id, project_id))
                .order_by(changes.c.id)
                .limit(limit)
            )
            return found.log_number, found.log_hash, [(each.id, bytes(each.body)) for each in rows]

        return self._database.transact(work)

    def written(self, provider_id: str, project_id: str, number: int, own: str, ids: Sequence[int]) -> None:
        """The entry `number` with the hash `own` holds these changes; let go of the repository."""

        def work(tx: Connection) -> None:
            here = and_(_here(repositories, provider_id, project_id), repositories.c.log_number == number - 1)
            values = {"log_number": number, "log_hash": own, "log_held_until": self._database.db_now(tx)}
            if tx.execute(update(repositories).where(here).values(values)).rowcount:
                tx.execute(delete(changes).where(changes.c.id.in_(list(ids))))

        self._database.transact(work, idempotent=True)


def _here(table: Any, provider_id: str, project_id: str) -> Any:
    return and_(table.c.provider_id == provider_id, table.c.project_id == project_id)
