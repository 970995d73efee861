"""A bar on a terminal, lines elsewhere."""

from __future__ import annotations

from tests.unit.cli.conftest import Typed

from karbor.cli.display import Bar, Lines, display
from karbor.cli.terminal import Terminal
from karbor.wire.answers import Progress


def terminal(*, tty: bool) -> Terminal:
    return Terminal(Typed(tty=tty), Typed(tty=tty), Typed(tty=tty))


def test_lines_come_every_few_seconds_and_only_when_they_differ():
    shown = terminal(tty=False)
    lines = display(shown, "protect web")
    assert isinstance(lines, Lines)
    for at, done in ((0, 1), (1, 2), (4.9, 3), (5, 4), (11, 4), (17, 5)):
        lines.update(at, Progress(done_bytes=done), 0)
    assert shown.err.getvalue().splitlines() == ["protect web: 1 B", "protect web: 4 B", "protect web: 5 B"]


def test_a_terminal_gets_a_bar_that_is_taken_away_at_the_end(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    shown = terminal(tty=True)
    bar = display(shown, "protect [web]")
    assert isinstance(bar, Bar)
    bar.update(1, Progress(done_bytes=1024, total_bytes=4096), 1024)
    bar._bar.refresh()
    bar.close()
    assert "protect [web]" in shown.err.getvalue()
    assert "1.0 KiB of 4.0 KiB, 1.0 KiB/s, 3 s left" in shown.err.getvalue()


def test_a_question_is_answered_no_unless_yes():
    for text, answer in (("y\n", True), ("YES\n", True), ("\n", False), ("", False), ("yep\n", False)):
        asked = Terminal(Typed(text, tty=True), Typed(), Typed(tty=True))
        assert asked.ask("Go on?") is answer
