"""What hooks recorded, in rows, sealed: one value under each (run, node, name)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.mysql import insert as maria_insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from karbor.db.schema import records
from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy import Executable
    from sqlalchemy.engine import Connection

    from karbor.flow.sealing import Sealer

_PAGE = 500
_NAME_LENGTH = 400

_OF_NODE = select(records.c.name, records.c.value).where(
    records.c.run_id == bindparam("run"), records.c.node == bindparam("at")
)
_NAMED = (
    select(records.c.node, records.c.value)
    .where(
        records.c.run_id == bindparam("run"),
        records.c.name == bindparam("named"),
        records.c.node > bindparam("beyond"),
    )
    .order_by(records.c.node)
    .limit(_PAGE)
)


def check_name(name: str) -> None:
    """Raise `InvalidInput` where a name is too long for the table's key."""
    if len(name) > _NAME_LENGTH:
        raise InvalidInput(f"the name of a record has at most {_NAME_LENGTH} characters: {name[:60]!r}…")


def put(tx: Connection, sealer: Sealer, place: tuple[str, int, str], value: bytes) -> None:
    """Keep `value` at `place`, (run, node, name), instead of an earlier one."""
    run_id, node, name = place
    row = {"run_id": run_id, "node": node, "name": name, "value": sealer.seal(value, _context(*place))}
    tx.execute(_insert_or_replace(tx.dialect.name), row)


def of_node(tx: Connection, sealer: Sealer, run_id: str, node: int) -> dict[str, bytes]:
    """The values of one resource by name, opened."""
    rows = tx.execute(_OF_NODE, {"run": run_id, "at": node})
    return {name: sealer.open(value, _context(run_id, node, name)) for name, value in rows}


def page(tx: Connection, sealer: Sealer, run_id: str, name: str, after: int) -> list[tuple[int, bytes]]:
    """(node, value) of the next records of this name, by node."""
    rows = tx.execute(_NAMED, {"run": run_id, "named": name, "beyond": after})
    return [(node, sealer.open(value, _context(run_id, node, name))) for node, value in rows]


def _context(run_id: str, node: int, name: str) -> str:
    """What a sealed value is bound to."""
    return f"record/{run_id}/{node}/{name}"


@cache
def _insert_or_replace(dialect: str) -> Executable:
    """Each database has words of its own for it."""
    if dialect in {"mysql", "mariadb"}:
        maria = maria_insert(records)
        return maria.on_duplicate_key_update(value=maria.inserted.value)
    keys = [records.c.run_id, records.c.node, records.c.name]
    if dialect == "postgresql":
        postgresql = postgresql_insert(records)
        return postgresql.on_conflict_do_update(index_elements=keys, set_={"value": postgresql.excluded.value})
    sqlite = sqlite_insert(records)
    return sqlite.on_conflict_do_update(index_elements=keys, set_={"value": sqlite.excluded.value})
