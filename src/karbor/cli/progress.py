"""How far an operation is, in words: amounts, rates, time left. Pure functions, so that they can be tested."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from karbor.wire.answers import Progress

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(amount: float) -> str:
    """An amount of bytes for people, in binary units: ``1.5 GiB``."""
    unit = 0
    while abs(amount) >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.{0 if unit == 0 or amount >= 100 else 1}f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """A time span for people, in its two largest units: ``3 min 20 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


class Rate:
    """Bytes per second over the last `window` seconds, from samples of a total."""

    def __init__(self, window: float = 15.0) -> None:
        self._window = window
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, at: float, done: int) -> None:
        """`done` bytes at the time `at`. A total that falls (a step was begun anew) starts the measurement again."""
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((at, done))
        while len(self._samples) > 2 and self._samples[1][0] <= at - self._window:
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        """Zero until two samples are apart in time."""
        if len(self._samples) < 2:
            return 0.0
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        return (last - first) / (ended - began) if ended > began else 0.0


def fraction(progress: Progress) -> float | None:
    """The part that is done, from 0 to 1: of bytes where their total is known, of steps otherwise, else None."""
    if progress.total_bytes > 0:
        return min(1.0, progress.done_bytes / progress.total_bytes)
    if progress.total_steps > 0:
        return min(1.0, progress.done_steps / progress.total_steps)
    return None


def remaining(progress: Progress, per_second: float) -> float | None:
    """Seconds until the last byte at this rate; None where that cannot be said."""
    if progress.total_bytes <= 0 or per_second <= 0:
        return None
    return max(0, progress.total_bytes - progress.done_bytes) / per_second


def describe(progress: Progress, per_second: float) -> str:
    """A line for people: ``1.5 GiB of 4.0 GiB, 110 MiB/s, 23 s left, volume data-1``."""
    if progress.total_bytes > 0:
        parts = [f"{size(progress.done_bytes)} of {size(progress.total_bytes)}"]
    elif progress.done_bytes > 0 or progress.total_steps == 0:
        parts = [size(progress.done_bytes)]
    else:
        parts = [f"{progress.done_steps} of {progress.total_steps} steps"]
    if per_second > 0:
        parts.append(f"{size(per_second)}/s")
    left = remaining(progress, per_second)
    if left is not None:
        parts.append(f"{duration(left)} left")
    if progress.current:
        parts.append(progress.current)
    return ", ".join(parts)
