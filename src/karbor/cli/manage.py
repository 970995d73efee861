"""The `karbor-manage` command: the service's daemons, and what administrators do where it runs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from karbor.cli import banks, daemons, databases, keys
from karbor.cli.hosts import STANDALONE
from karbor.cli.program import Program
from karbor.cli.session import Session
from karbor.cli.terminal import Terminal
from karbor.errors import UnsupportedOperation

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence

VERBS = (STANDALONE, *daemons.VERBS, *databases.VERBS, *keys.VERBS, *banks.VERBS)


def program(terminal: Terminal) -> Program:
    """The command at a terminal."""

    def begin(options: Callable[[], Namespace]) -> Session:
        return Session(
            _no_api,
            terminal,
            state=lambda: _folder(options().state or os.environ.get("KARBOR_STATE")),
            monotonic=time.monotonic,
            sleep=time.sleep,
        )

    return Program("karbor-manage", "Run Karbor and look after it.", VERBS, terminal, begin, (_options,))


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--state", metavar="DIR", help="folder of a standalone service; or the variable KARBOR_STATE")


def _folder(given: str | None) -> Path | None:
    return Path(given) if given else None


def _no_api() -> NoReturn:
    raise UnsupportedOperation("karbor-manage works where the service runs, not through its API", hint="use karbor")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives back its exit code (`karbor.errors`)."""
    given = list(sys.argv[1:] if argv is None else argv) or ["help"]
    return program(Terminal.standard()).run(given)
