"""The service's programs by host, and which of them live. Implements `karbor.protection.programs.ProgramStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from karbor.db.columns import db_now
from karbor.db.faults import Repeat
from karbor.db.schema import services, workers
from karbor.errors import NotFound
from karbor.protection.programs import Program

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from karbor.db.engine import Database

_BEAT = (
    select(func.max(workers.c.heartbeat_at)).where(workers.c.host == services.c.host).correlate(services)
).scalar_subquery()
_EVERY = select(services, _BEAT.label("beat"), db_now().label("now")).order_by(services.c.id)


class SqlPrograms:
    """Rows by program and host; time is the database's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, program: str, host: str) -> None:
        """Make a program on a host known; whether it is enabled stays as it is."""
        here = (services.c.program == program, services.c.host == host)

        def work(tx: Connection) -> None:
            if tx.execute(update(services).where(*here).values(updated_at=db_now())).rowcount:
                return
            row = {"program": program, "host": host, "disabled": False, "disabled_reason": ""}
            try:
                tx.execute(insert(services).values(**row, updated_at=db_now()))
            except IntegrityError as error:
                raise Repeat from error  # another process of this host was faster

        self._database.transact(work, idempotent=True)

    def all(self) -> list[Program]:
        """Every program that was ever registered, by id."""
        return [_program(row) for row in self._database.read(lambda tx: tx.execute(_EVERY).all())]

    def set_enabled(self, ident: int, *, enabled: bool, reason: str) -> Program:
        """Enable or disable a program; `NotFound` where there is none."""
        this = services.c.id == ident
        values = {"disabled": not enabled, "disabled_reason": reason}

        def work(tx: Connection) -> Program:
            tx.execute(update(services).where(this).values(values))
            row = tx.execute(_EVERY.where(this)).one_or_none()
            if row is None:
                raise NotFound(f"Service {ident} could not be found.")
            return _program(row)

        return self._database.transact(work, idempotent=True)

    def disabled(self, program: str, host: str) -> bool:
        """Whether an administrator has disabled a program."""
        here = (services.c.program == program, services.c.host == host)
        found = self._database.read(
            lambda tx: tx.execute(select(services.c.disabled).where(*here)).scalar_one_or_none()
        )
        return bool(found)


def _program(row: Any) -> Program:
    return Program(
        id=row.id,
        program=row.program,
        host=row.host,
        enabled=not row.disabled,
        disabled_reason=row.disabled_reason,
        updated_at=row.beat or row.updated_at,
        silent_seconds=(row.now - row.beat).total_seconds() if row.beat else None,
    )
