"""Where a command is typed: what it says to people, and what it may ask them."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from karbor.errors import KarborError


class Terminal:
    """Standard input and output. What a command was asked for goes to `out`; everything else, progress and questions
    included, to `err`, so that `out` can be piped into a program.
    """

    def __init__(self, stdin: TextIO, out: TextIO, err: TextIO) -> None:
        self._stdin = stdin
        self.out = out
        self.err = err

    @classmethod
    def standard(cls) -> Terminal:
        """The process's own streams. A name that is not UTF-8 is shown escaped where it would otherwise be an error."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return cls(sys.stdin, sys.stdout, sys.stderr)

    @property
    def watched(self) -> bool:
        """Whether somebody sees what is said as it is said."""
        return self.err.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer."""
        return self._stdin.isatty() and self.err.isatty()

    def say(self, text: str) -> None:
        """Tell people something."""
        print(text, file=self.err, flush=True)

    def ask(self, question: str) -> bool:
        """A question whose answer is no unless it is yes."""
        print(f"{question} [y/N] ", end="", file=self.err, flush=True)
        return self._stdin.readline().strip().lower() in ("y", "yes")

    def complain(self, error: KarborError) -> None:
        """Say what went wrong, and what can be done about it, in a line each."""
        self.say(f"error: {' '.join(error.message.split())}")
        if error.hint:
            self.say(f"hint: {' '.join(error.hint.split())}")
