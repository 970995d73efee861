"""Collections: from v1's query parameters to a page of the catalogue, and the link to the next page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlencode

import msgspec

from karbor.errors import InvalidInput
from karbor.protection.catalogue import EVERY_PROJECT, Query
from karbor.wire.answers import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from karbor.api.route import Call
    from karbor.domain.context import Caller

T = TypeVar("T")
Sort = tuple[tuple[str, Literal["asc", "desc"]], ...]

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of one collection.

    Values are columns of the catalogue by the name of the parameter. What a member may not filter by is ignored, as v1
    does; where `unknown_is_empty`, an administrator's unknown filter matches nothing, as v1 does for some collections.
    """

    filters: Mapping[str, str]
    admin_filters: Mapping[str, str] = {}
    sort: Mapping[str, str]
    unknown_is_empty: bool = False

    def query(self, call: Call, fixed: Mapping[str, Any] | None = None) -> Query | None:
        """The page that was asked for; None where nothing can match. `fixed` filters are the route's own."""
        if self.unknown_is_empty and call.caller.is_admin and call.unknown:
            return None
        columns = {**self.filters, **self.admin_filters} if call.caller.is_admin else self.filters
        wanted = {column: call.query[name] for name, column in columns.items() if name in call.query}
        keys = tuple((_column(self.sort, key), way) for key, way in sort_of(call.query))
        return Query(
            scope=listed_scope(call),
            filters={**wanted, **(fixed or {})},
            sort=keys or (("created_at", "desc"),),
            limit=limit_of(call),
            marker=call.query.get("marker", ""),
            offset=call.query.get("offset", 0),
        )


def shown_scope(caller: Caller) -> str:
    """Where one thing is looked for: an administrator may read what belongs to others."""
    return EVERY_PROJECT if caller.is_admin else caller.project_id


def listed_scope(call: Call) -> str:
    """Where many are looked for: the caller's project, unless an administrator asks for others."""
    if not call.caller.is_admin or not _boolean(call.query.get("all_tenants", "0"), "all_tenants"):
        return call.caller.project_id
    project: str = call.query.get("project_id", EVERY_PROJECT)
    return project


def _boolean(text: str, name: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise InvalidInput(f"Value {text} for {name} is not a boolean.", field=name)
    return word in _TRUE


def limit_of(call: Call) -> int:
    """The limit in force; larger ones are capped, as v1 does."""
    return min(int(call.query.get("limit", call.max_limit)), call.max_limit)


def sort_of(query: Mapping[str, Any]) -> Sort:
    """v1's two styles, ``sort=key:dir,…`` and ``sort_key`` with ``sort_dir``; both at once are refused."""
    if "sort" in query and ("sort_key" in query or "sort_dir" in query):
        raise InvalidInput("sort cannot be combined with sort_key and sort_dir", field="sort")
    text = query.get("sort", "")
    if "sort_key" in query or "sort_dir" in query:
        text = f"{query.get('sort_key', 'created_at')}:{query.get('sort_dir', 'desc')}"
    return tuple(_sort_key(part.strip()) for part in text.split(",") if part.strip())


def _sort_key(part: str) -> tuple[str, Literal["asc", "desc"]]:
    key, _, way = part.partition(":")
    if way == "asc":
        return key, "asc"
    if way in {"", "desc"}:
        return key, "desc"
    raise InvalidInput("Unknown sort direction, must be 'desc' or 'asc'.", field="sort")


def _column(columns: Mapping[str, str], key: str) -> str:
    if key not in columns:
        raise InvalidInput(f"unknown sort key {key!r}; allowed: {', '.join(columns)}", field="sort")
    return columns[key]


def page_in_memory(items: Iterable[T], call: Call, ident: Callable[[T], str], sortable: frozenset[str]) -> list[T]:
    """The page of a collection that is no table. A key that an item lacks does not change the order."""
    rows = list(items)
    for key, way in reversed(sort_of(call.query)):
        _column(dict.fromkeys(sortable, ""), key)
        rows.sort(key=lambda row, key=key: getattr(row, key, None) or "", reverse=way == "desc")  # type: ignore[misc]
    marker = call.query.get("marker", "")
    start = next((i + 1 for i, row in enumerate(rows) if ident(row) == marker), 0)
    start += call.query.get("offset", 0)
    return rows[start : start + limit_of(call)]


def next_links(items: list[Any], call: Call, pairs: Iterable[tuple[str, str]], path: str) -> list[Link]:
    """A link to the next page where this one is full, as v1 does: also on a last page that is exactly full."""
    if not items or len(items) < limit_of(call):
        return []
    kept = [(name, value) for name, value in pairs if name not in {"marker", "offset"}]
    return [Link(rel="next", href=f"{call.url}{path}?{urlencode([*kept, ('marker', items[-1].id)])}")]
