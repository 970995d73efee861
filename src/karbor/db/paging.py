"""From a `Query` to one SELECT: scope, filters, order and keyset paging over any column of a table of records.

No column of these tables is NULL, so one rule of comparison holds for all of them (see `schema`).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, false, or_, select, true

from karbor.db.columns import Instant
from karbor.errors import InvalidInput, NotFound
from karbor.protection.catalogue import EVERY_PROJECT, MAX_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Column, ColumnElement, Select, Table
    from sqlalchemy.engine import Connection

    from karbor.protection.catalogue import Query

Order = tuple[tuple["Column[Any]", bool], ...]
"""Columns and whether each descends; the last one is the id."""

_OPERATORS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "": lambda column, value: column == value,
    ">=": lambda column, value: column >= value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    "<": lambda column, value: column < value,
    "~": lambda column, value: column.contains(value, autoescape=True),
}


def page(tx: Connection, table: Table, query: Query) -> Select[tuple[bytes]]:
    """The statement that reads the bodies of one page; raises `InvalidInput`, or `NotFound` for its marker."""
    if query.limit < 0 or query.offset < 0:
        raise InvalidInput("limit and offset cannot be negative", field="limit" if query.limit < 0 else "offset")
    order = _order(table, query)
    statement = select(table.c.body).where(matching(table, query.scope, query.filters))
    if query.marker:
        statement = statement.where(_after(tx, table, query, order))
    columns = (column.desc() if down else column.asc() for column, down in order)
    return statement.order_by(*columns).limit(min(query.limit, MAX_LIMIT)).offset(query.offset or None)


def matching(table: Table, scope: str, filters: Mapping[str, Any]) -> ColumnElement[bool]:
    """The rows of a scope that pass the filters."""
    return and_(in_scope(table, scope), *(_filter(table, name, value) for name, value in filters.items()))


def in_scope(table: Table, scope: str) -> ColumnElement[bool]:
    """The rows of one project, or of all for an administrator who asked for them."""
    return true() if scope == EVERY_PROJECT else table.c.project_id == scope


def _filter(table: Table, name: str, value: Any) -> ColumnElement[bool]:
    operator = next((sign for sign in _OPERATORS if sign and name.endswith(sign)), "")
    column = _column(table, name.removesuffix(operator), name)
    if not operator and isinstance(value, list | tuple | set | frozenset):
        return and_(column.in_([_value(column, name, each) for each in value]))
    compared = _value(column, name, value)
    if operator == "~" and isinstance(column.type, Instant):
        raise InvalidInput(f"{name}: a time contains nothing", field=name)
    return _OPERATORS[operator](column, compared)


def _value(column: Column[Any], name: str, value: Any) -> Any:
    """The value as the column compares it; what it can never equal is an error, not an empty page."""
    if isinstance(column.type, Instant):
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise InvalidInput(f"{name} is compared with an aware time, not with {value!r}", field=name)
        return value
    return "" if value is None else str(value)


def _column(table: Table, name: str, field: str) -> Column[Any]:
    if name == "body" or name not in table.c:
        known = ", ".join(column.name for column in table.c if column.name != "body")
        raise InvalidInput(f"{table.name} have no {name!r} to filter or sort by; they have {known}", field=field)
    return table.c[name]


def _order(table: Table, query: Query) -> Order:
    order: list[tuple[Column[Any], bool]] = []
    for name, direction in query.sort:
        order.append((_column(table, name, "sort"), direction == "desc"))
        if name == "id":
            return tuple(order)
    return (*order, (table.c.id, order[-1][1] if order else True))


def _after(tx: Connection, table: Table, query: Query, order: Order) -> ColumnElement[bool]:
    """The rows that stand behind the marker's in the order."""
    row = tx.execute(
        select(*(column for column, _ in order)).where(table.c.id == query.marker, in_scope(table, query.scope))
    ).one_or_none()
    if row is None:
        raise NotFound(f"marker {query.marker} is none of the {table.name.replace('_', ' ')}")
    behind: ColumnElement[bool] = false()
    for (column, down), value in reversed(list(zip(order, row, strict=True))):
        further = column < value if down else column > value
        behind = or_(further, and_(column == value, behind))
    first, down = order[0]
    # Implied by the rest, but a bound that a database can seek to in an index.
    return and_(first <= row[0] if down else first >= row[0], behind)
