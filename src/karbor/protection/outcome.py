"""How a run ended, resource by resource: pure functions over what its steps and hooks left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from karbor.domain.checkpoint import ResourceState
from karbor.protection.op import SavedRecord
from karbor.sdk.vault import Written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from karbor.domain.graph import ResourceGraph
    from karbor.domain.operation import Reason
    from karbor.flow.model import StepRow

AVAILABLE = "available"
ERROR = "error"
CANCELLED = "cancelled"


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What the hooks of a run left behind, by position in the graph."""

    saved: Mapping[int, SavedRecord]
    written: Mapping[int, Written]


def resource_states(graph: ResourceGraph, rows: Iterable[StepRow], left: Left) -> tuple[ResourceState, ...]:
    """The state of every resource, in the order of the graph."""
    by_node: dict[int, list[StepRow]] = {}
    for row in rows:
        by_node.setdefault(row.node, []).append(row)
    parents = graph.parents()

    def path(i: int) -> str:
        """What people call it: an application and its member, a server and its volume."""
        own = graph.resources[i].name or graph.resources[i].id
        above = parents[i]
        return f"{graph.resources[above[0]].name or graph.resources[above[0]].id} > {own}" if above else own

    return tuple(
        _state(resource.key, path(i), by_node.get(i, []), left.saved.get(i), left.written.get(i))
        for i, resource in enumerate(graph.resources)
    )


def _state(
    key: str, path: str, rows: list[StepRow], saved: SavedRecord | None, written: Written | None
) -> ResourceState:
    status, reason = _ending(rows)
    begun = [row.started_at for row in rows if row.started_at]
    ended = [row.finished_at for row in rows if row.finished_at]
    return ResourceState(
        key=key,
        status=status,
        reason=f"{path}: {reason}" if reason else "",
        data_location=saved.location if saved else "none",
        consistency=saved.consistency if saved else "none",
        logical_bytes=written.logical_bytes if written else 0,
        read_bytes=written.read_bytes if written else 0,
        added_bytes=written.added_bytes if written else 0,
        files=written.files if written else 0,
        skipped_count=written.skipped_count if written else {},
        duration_seconds=(max(ended) - min(begun)).total_seconds() if begun and ended else 0.0,
        attempts=max((row.attempt for row in rows), default=0),
    )


def _ending(rows: list[StepRow]) -> tuple[str, str]:
    """Status and reason of one resource: its own failure first, then what kept it from being begun."""
    for state, status in (("failed", ERROR), ("cancelled", CANCELLED), ("skipped", ERROR)):
        for row in rows:
            if row.state == state:
                return status, _text(row.reason) or f"{row.action} was not run: something it needs failed"
    return AVAILABLE, ""


def _text(reason: Reason | None) -> str:
    if reason is None:
        return ""
    return f"{reason.message} ({reason.hint})" if reason.hint else reason.message


def summary(rows: Iterable[StepRow]) -> str:
    """Why a run failed, in one sentence: the first failure, and how many more there are."""
    failed = [row for row in rows if row.state == "failed"]
    if not failed:
        return "cancelled" if any(row.state == "cancelled" for row in rows) else ""
    first = failed[0]
    where = f"{first.resource}: " if first.resource else ""
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{where}{_text(first.reason)}{more}"


def undo_order(rows: Iterable[StepRow]) -> list[int]:
    """Positions of the resources whose hooks were begun, the last begun first."""
    begun = {row.node: row.started_at for row in rows if row.node >= 0 and row.started_at and "undo" not in row.action}
    return sorted(begun, key=lambda node: begun[node], reverse=True)
