"""Progress as it is shown: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from karbor.cli.progress import describe, fraction

if TYPE_CHECKING:
    from karbor.cli.terminal import Terminal
    from karbor.wire.answers import Progress

LINE_EVERY = 5.0
"""Seconds between two lines."""


class Display(Protocol):
    """Something that shows progress; the last thing called is `close`."""

    def update(self, at: float, progress: Progress, per_second: float) -> None:
        """Show how far it is at the time `at` (monotonic seconds)."""
        ...

    def close(self) -> None:
        """End the showing; what is said next stands on a line of its own."""
        ...


class Lines:
    """Plain lines, each different from the one before."""

    def __init__(self, terminal: Terminal, title: str) -> None:
        self._terminal = terminal
        self._title = title
        self._said_at = float("-inf")
        self._said = ""

    def update(self, at: float, progress: Progress, per_second: float) -> None:
        """See `Display`."""
        text = f"{self._title}: {describe(progress, per_second)}"
        if at - self._said_at >= LINE_EVERY and text != self._said:
            self._terminal.say(text)
            self._said_at, self._said = at, text

    def close(self) -> None:
        """Nothing is open."""


class Bar:
    """A bar that is drawn over and over at the same place."""

    def __init__(self, terminal: Terminal, title: str) -> None:
        from rich.console import Console  # noqa: PLC0415 - a fifth of a second that only a bar is worth
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._bar = Progress(*columns, console=Console(file=terminal.err), transient=True)
        self._task = self._bar.add_task(title, total=None, text="")
        self._bar.start()

    def update(self, at: float, progress: Progress, per_second: float) -> None:  # noqa: ARG002 - drawn every time
        """See `Display`."""
        part = fraction(progress)
        self._bar.update(
            self._task,
            total=None if part is None else 1.0,
            completed=part or 0.0,
            text=describe(progress, per_second),
        )

    def close(self) -> None:
        """See `Display`."""
        self._bar.stop()


def display(terminal: Terminal, title: str) -> Display:
    """The one that suits the terminal."""
    return Bar(terminal, title) if terminal.watched else Lines(terminal, title)
