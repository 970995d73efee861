"""The `karbor` command: its table of commands and its main program."""

from __future__ import annotations

import os
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING

from karbor.cli import checkpoints, contents, hosts, plans, plugins, protectables, restores
from karbor.cli.connection import add_options, connect, state_folder
from karbor.cli.program import Program
from karbor.cli.session import Session
from karbor.cli.terminal import Terminal

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping, Sequence

    from karbor.cli.transport import Transport

VERBS = (
    *protectables.VERBS,
    *plans.VERBS,
    *checkpoints.VERBS,
    *contents.VERBS,
    *restores.VERBS,
    *hosts.VERBS,
    *plugins.VERBS,
)


def program(terminal: Terminal, reach: Callable[[Namespace, Mapping[str, str]], Transport] = connect) -> Program:
    """The command at a terminal; `reach` opens the way to the service."""

    def begin(options: Callable[[], Namespace]) -> Session:
        return Session(
            lambda: reach(options(), os.environ),
            terminal,
            state=lambda: state_folder(options(), os.environ),
            monotonic=time.monotonic,
            sleep=time.sleep,
        )

    return Program("karbor", "Protect applications and bring them back.", VERBS, terminal, begin, (add_options,))


def warn_of_namesake(terminal: Terminal) -> None:
    """Say so where the old client, whose command has the same name, is installed in the same environment."""
    try:
        old = metadata.version("python-karborclient")
    except metadata.PackageNotFoundError:
        return
    terminal.say(
        f"warning: python-karborclient {old} is installed in this environment; it brings a command `karbor` too,"
        " and the one that was installed last is the one that runs"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives back its exit code (`karbor.errors`)."""
    given = list(sys.argv[1:] if argv is None else argv) or ["help"]
    terminal = Terminal.standard()
    if {"help", "--help", "-h", "--version"}.intersection(given):
        warn_of_namesake(terminal)
    return program(terminal).run(given)
