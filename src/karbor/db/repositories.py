"""Repositories in the database: epochs for prune, and turns of upkeep. Implements `karbor.protection.upkeep.Repositories`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, insert, select, update

from karbor.db.schema import repositories, runs
from karbor.flow.model import FINAL_RUNS

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy.engine import Connection

    from karbor.db.engine import Database

_UPKEEP = "upkeep"


class SqlRepositories:
    """Rows by provider and project; time is the database's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def join(self, tx: Connection, provider_id: str, project_id: str) -> int:
        """The epoch for a run that begins in this transaction. The row stays locked until it ends, so that a mark
        either sees the run or has raised the epoch before it.
        """
        here = _here(provider_id, project_id)
        found = tx.execute(select(repositories.c.epoch).where(here).with_for_update()).scalar_one_or_none()
        if found is not None:
            return int(found)
        row = {
            "provider_id": provider_id,
            "project_id": project_id,
            "epoch": 1,
            "upkeep_at": self._database.db_now(tx),
            "upkeep": b"{}",
            "log_number": 0,
            "log_hash": "",
            "log_held_until": self._database.db_now(tx),
        }
        tx.execute(insert(repositories), row)
        return 1

    def epoch(self, provider_id: str, project_id: str) -> int:
        """The epoch now; 0 where nothing was ever protected."""
        here = _here(provider_id, project_id)
        found = self._database.read(
            lambda tx: tx.execute(select(repositories.c.epoch).where(here)).scalar_one_or_none()
        )
        return int(found or 0)

    def raise_to(self, provider_id: str, project_id: str, epoch: int) -> None:
        """Make `epoch` the epoch of every run that begins from now on."""
        here = and_(_here(provider_id, project_id), repositories.c.epoch < epoch)
        self._database.transact(
            lambda tx: tx.execute(update(repositories).where(here).values(epoch=epoch)), idempotent=True
        )

    def older_runs_ended(self, provider_id: str, project_id: str, epoch: int) -> bool:
        """Whether no run that began in an older epoch may still write; upkeep itself does not count."""
        open_runs = select(func.count()).where(
            runs.c.provider_id == provider_id,
            runs.c.project_id == project_id,
            runs.c.epoch < epoch,
            runs.c.operation != _UPKEEP,
            runs.c.state.not_in(FINAL_RUNS),
        )
        return self._database.read(lambda tx: tx.execute(open_runs).scalar_one()) == 0

    def take_due(self, tx: Connection, every: timedelta, limit: int) -> list[tuple[str, str]]:
        """(provider, project) of repositories whose turn it is; their next turn is `every` from now."""
        now = self._database.db_now(tx)
        due = (
            select(repositories.c.provider_id, repositories.c.project_id)
            .where(repositories.c.upkeep_at <= now)
            .order_by(repositories.c.upkeep_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        taken = [(row.provider_id, row.project_id) for row in tx.execute(due)]
        for provider_id, project_id in taken:
            here = _here(provider_id, project_id)
            tx.execute(update(repositories).where(here).values(upkeep_at=now + every))
        return taken

    def report(self, tx: Connection, provider_id: str, project_id: str, found: bytes) -> None:
        """Keep what the last upkeep found, as JSON."""
        tx.execute(update(repositories).where(_here(provider_id, project_id)).values(upkeep=found))

    def reported(self, provider_id: str, project_id: str) -> bytes:
        """What the last upkeep found; an empty object before the first."""
        here = _here(provider_id, project_id)
        found = self._database.read(
            lambda tx: tx.execute(select(repositories.c.upkeep).where(here)).scalar_one_or_none()
        )
        return bytes(found or b"{}")


def _here(provider_id: str, project_id: str) -> Any:
    return and_(repositories.c.provider_id == provider_id, repositories.c.project_id == project_id)
