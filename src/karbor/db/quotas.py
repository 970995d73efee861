"""Quotas in the database. Implements `karbor.protection.quotas.QuotaStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, insert, select
from sqlalchemy.exc import IntegrityError

from karbor.db.faults import Repeat
from karbor.db.schema import quota_guards, quotas

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from karbor.db.engine import Database
    from karbor.protection.quotas import Kind


class SqlQuotas:
    """Rows by project or class and resource."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def overrides(self, kind: Kind, name: str, *, tx: Connection | None = None) -> dict[str, int]:
        """The limits that were set, by resource."""
        statement = select(quotas.c.resource, quotas.c.most).where(_here(kind, name))
        rows = tx.execute(statement).all() if tx else self._database.read(lambda each: each.execute(statement).all())
        return {row.resource: row.most for row in rows}

    def override(self, kind: Kind, name: str, limits: Mapping[str, int]) -> None:
        """Set limits; those of other resources stay."""

        def work(tx: Connection) -> None:
            for resource, most in sorted(limits.items()):
                tx.execute(delete(quotas).where(_here(kind, name), quotas.c.resource == resource))
                try:
                    tx.execute(insert(quotas).values(kind=kind, name=name, resource=resource, most=most))
                except IntegrityError as error:
                    raise Repeat from error  # another administrator has just set it

        self._database.transact(work, idempotent=True)

    def forget(self, kind: Kind, name: str) -> None:
        """Remove every limit that was set."""
        self._database.transact(lambda tx: tx.execute(delete(quotas).where(_here(kind, name))), idempotent=True)

    def guard(self, tx: Connection, project_id: str) -> None:
        """Keep other transactions from counting for this project until this one ends."""
        here = quota_guards.c.project_id == project_id
        if tx.execute(select(quota_guards).where(here).with_for_update()).first() is None:
            try:
                tx.execute(insert(quota_guards).values(project_id=project_id))
            except IntegrityError as error:
                raise Repeat from error  # another transaction made the row: wait for that one


def _here(kind: Kind, name: str) -> Any:
    return and_(quotas.c.kind == kind, quotas.c.name == name)
