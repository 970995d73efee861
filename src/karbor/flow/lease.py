"""The lease of a worker incarnation, kept on the monotonic clock: fencing that reaches the outside world.

Nothing may be done outside the database that could still be under way when somebody else has taken over: so an
external call is begun only if its timeout ends before the lease does.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from karbor.errors import LeaseLost

if TYPE_CHECKING:
    from karbor.domain.clock import Clock

_MARGIN = 1.0


class Lease:
    """How long this incarnation may still act; renewed by its heartbeat, read by every hook."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._ends = clock.monotonic() + seconds

    def renew(self, began: float) -> None:
        """A heartbeat that was begun at monotonic time `began` has been accepted."""
        with self._lock:
            self._ends = max(self._ends, began + self.seconds)

    def lose(self) -> None:
        """The heartbeat was refused: nothing more may be done."""
        with self._lock:
            self._ends = float("-inf")

    def left(self) -> float:
        """Seconds in which an external call may still be under way; negative when the lease has ended."""
        with self._lock:
            return self._ends - self._clock.monotonic() - _MARGIN

    def check(self, timeout: float = 0.0) -> None:
        """Raise `LeaseLost` where a call of `timeout` seconds could outlive the lease."""
        if self.left() < timeout:
            raise LeaseLost("this worker has not reached the database in time; another goes on with its steps")
