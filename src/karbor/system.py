"""The machine's own time and chance: the adapters behind `domain.clock`."""

from __future__ import annotations

import os
import secrets
import time
import uuid
from datetime import UTC, datetime


class SystemClock:
    """Implements `karbor.domain.clock.Clock`."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class SystemRandomness:
    """Implements `karbor.domain.clock.Randomness`."""

    def uuid(self) -> str:
        """A fresh random UUID."""
        return str(uuid.uuid4())

    def token(self, size: int) -> bytes:
        """`size` bytes fit for keys."""
        return os.urandom(size)

    def uniform(self) -> float:
        """A number in [0, 1)."""
        return secrets.randbelow(1 << 53) / (1 << 53)
