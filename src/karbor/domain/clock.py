"""Time and chance as ports, so that tests decide both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Randomness(Protocol):
    """The only source of chance."""

    def uuid(self) -> str:
        """A fresh random UUID (RFC 9562 version 4), lower case with dashes."""
        ...

    def token(self, size: int) -> bytes:
        """`size` bytes fit for keys."""
        ...

    def uniform(self) -> float:
        """A number in [0, 1), for jitter."""
        ...
