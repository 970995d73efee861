"""Quotas of projects: limits by project, class and default, and what is in use, which is counted by query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from karbor.domain import checkpoint as states
from karbor.domain.checkpoint import Checkpoint
from karbor.domain.plan import Plan
from karbor.domain.quota import COUNTED, DEFAULT_CLASS, UNLIMITED, Counted, Limits, check_room

if TYPE_CHECKING:
    from collections.abc import Mapping

    from karbor.protection.catalogue import Catalogue

Kind = Literal["project", "class"]
_EXISTING = sorted(states.MOVES.keys() - {states.DELETED})


class QuotaStore(Protocol):
    """Limits that were set; `karbor.db.quotas` says what each promises."""

    def overrides(self, kind: Kind, name: str, *, tx: Any = None) -> dict[str, int]: ...  # noqa: D102
    def override(self, kind: Kind, name: str, limits: Mapping[str, int]) -> None: ...  # noqa: D102
    def forget(self, kind: Kind, name: str) -> None: ...  # noqa: D102
    def guard(self, tx: Any, project_id: str) -> None: ...  # noqa: D102


class Quotas:
    """What projects may have. The class `default` overrides the configuration, a project's own limits override both."""

    def __init__(self, store: QuotaStore, catalogue: Catalogue, configured: Limits) -> None:
        self._store, self._catalogue, self._configured = store, catalogue, configured

    def check(self, tx: Any, project_id: str, resource: Counted) -> None:
        """Raise `OverLimit` where one more would be too many. What is added later in the same transaction counts for
        every other one.
        """
        limit = self.limits(project_id, tx=tx).of(resource)
        if limit != UNLIMITED:
            self._store.guard(tx, project_id)
            check_room(resource, limit, self._in_use(tx, project_id, resource))

    def limits(self, project_id: str, *, tx: Any = None) -> Limits:
        """What holds for a project."""
        return self.defaults(tx=tx).over(self._store.overrides("project", project_id, tx=tx))

    def defaults(self, *, tx: Any = None) -> Limits:
        """What holds for a project that has no limits of its own."""
        return self._configured.over(self._store.overrides("class", DEFAULT_CLASS, tx=tx))

    def in_use(self, project_id: str) -> dict[Counted, int]:
        """How many there are of each."""
        return self._catalogue.transact(
            lambda tx: {resource: self._in_use(tx, project_id, resource) for resource in COUNTED}
        )

    def _in_use(self, tx: Any, project_id: str, resource: Counted) -> int:
        if resource == "plans":
            return self._catalogue.count(tx, Plan, project_id)
        return self._catalogue.count(tx, Checkpoint, project_id, {"status": _EXISTING})

    def set_limits(self, project_id: str, given: Mapping[str, int]) -> Limits:
        """Give a project limits of its own; what is not given stays."""
        self._store.override("project", project_id, given)
        return self.limits(project_id)

    def forget_limits(self, project_id: str) -> None:
        """Let the defaults hold for a project again."""
        self._store.forget("project", project_id)

    def of_class(self, name: str) -> Limits:
        """The limits of a class; the configured ones where it is not known."""
        return self._configured.over(self._store.overrides("class", name))

    def set_class(self, name: str, given: Mapping[str, int]) -> Limits:
        """Change a class; what is not given stays."""
        self._store.override("class", name, given)
        return self.of_class(name)
