"""The service's own programs: which hosts work, which are silent, which are disabled."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from karbor.errors import NotFound

if TYPE_CHECKING:
    from karbor.domain.clock import Clock

WORKER = "karbor-protection"
DOWN_AFTER = 60.0
"""Seconds without a heartbeat after which a program counts as down, as in v1."""
_ASK_EVERY = 2.0


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A program on a host. `silent_seconds` is None where no incarnation of it is known to live."""

    id: int
    program: str
    host: str
    enabled: bool
    disabled_reason: str
    updated_at: datetime
    silent_seconds: float | None

    @property
    def up(self) -> bool:
        """Whether it was heard of lately."""
        return self.silent_seconds is not None and self.silent_seconds <= DOWN_AFTER


class ProgramStore(Protocol):
    """Programs by host; `karbor.db.programs` says what each promises."""

    def register(self, program: str, host: str) -> None: ...  # noqa: D102
    def all(self) -> list[Program]: ...  # noqa: D102
    def set_enabled(self, ident: int, *, enabled: bool, reason: str) -> Program: ...  # noqa: D102
    def disabled(self, program: str, host: str) -> bool: ...  # noqa: D102


class Programs:
    """What administrators see of the programs, and what they decide about them."""

    def __init__(self, store: ProgramStore) -> None:
        self._store = store

    def all(self, *, program: str = "", host: str = "") -> list[Program]:
        """The programs, those of one name or host only where these are given."""
        found = self._store.all()
        return [each for each in found if program in {"", each.program} and host in {"", each.host}]

    def set_enabled(self, ident: str, *, enabled: bool, reason: str = "") -> Program:
        """Enable or disable a program: while disabled, it finishes what it holds and claims nothing new."""
        if not ident.isascii() or not ident.isdigit() or len(ident) > 9:
            raise NotFound(f"Service {ident} could not be found.")
        return self._store.set_enabled(int(ident), enabled=enabled, reason=reason)


class Permission:
    """Whether this host's worker may claim; asked of the database every two seconds at most."""

    def __init__(self, store: ProgramStore, host: str, clock: Clock) -> None:
        self._store, self._host, self._clock = store, host, clock
        self._asked, self._disabled = float("-inf"), False

    def __call__(self) -> bool:
        """True unless an administrator has disabled it."""
        now = self._clock.monotonic()
        if now - self._asked >= _ASK_EVERY:
            self._disabled, self._asked = self._store.disabled(WORKER, self._host), now
        return not self._disabled
