"""From the outbox to the bank: within a minute every change of a project's records is in its repository's history."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from karbor.bank.history import Change, Entry, append
from karbor.errors import KarborError, ObjectMissing

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    from karbor.protection.vaults import Vaults
    from karbor.providers import Providers

_BATCH = 500
_HOLD = timedelta(seconds=60)


class Changes(Protocol):
    """The outbox; `karbor.db.changes` says what each method promises."""

    def waiting(self) -> list[tuple[str, str]]: ...  # noqa: D102
    def take(  # noqa: D102
        self, provider_id: str, project_id: str, limit: int, hold: timedelta
    ) -> tuple[int, str, list[tuple[int, bytes]]] | None: ...
    def written(self, provider_id: str, project_id: str, number: int, own: str, ids: Sequence[int]) -> None: ...  # noqa: D102


class _Noted(msgspec.Struct, frozen=True):
    kind: str
    record: dict[str, Any]
    removed: bool = False


class History:
    """Writes the histories of all projects; any worker may do it at any time."""

    def __init__(self, changes: Changes, providers: Providers, vaults: Vaults, log: logging.Logger) -> None:
        self._changes, self._providers, self._vaults, self._log = changes, providers, vaults, log

    def flush(self) -> int:
        """Write what waits; how many entries. A bank that does not answer does not keep the others."""
        known = {provider.id for provider in self._providers.all()}
        count = 0
        for provider_id, project_id in self._changes.waiting():
            if provider_id not in known:
                continue
            try:
                while self._flush_one(provider_id, project_id):
                    count += 1
            except ObjectMissing:
                continue  # nothing was protected yet: there is no repository to write to
            except KarborError as error:
                self._log.warning("history not written: %s", error, extra={"event": "history", "project": project_id})
        return count

    def _flush_one(self, provider_id: str, project_id: str) -> bool:
        repository = self._vaults.open(self._providers.get(provider_id), project_id)
        taken = self._changes.take(provider_id, project_id, _BATCH, _HOLD)
        if taken is None or not taken[2]:
            return False
        number, before, rows = taken
        noted = [(ident, msgspec.json.decode(body, type=_Noted)) for ident, body in rows]
        entry = Entry(
            number=number + 1,
            before=before,
            changes=tuple(
                Change(id=ident, kind=each.kind, record=each.record, removed=each.removed) for ident, each in noted
            ),
        )
        stored, own = append(repository, entry)
        # What was stored before a kill holds some of these; what was stored before the database was lost, none.
        ours = {change.id: change for change in entry.changes}
        ids = [change.id for change in stored.changes if ours.get(change.id) == change]
        self._changes.written(provider_id, project_id, stored.number, own, ids)
        return True
