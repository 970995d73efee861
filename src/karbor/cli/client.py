"""The `karbor` command: its table of commands and its main program."""

from __future__ import annotations

import os
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

from cliff.app import App
from cliff.commandmanager import CommandManager

import karbor
from karbor.cli import checkpoints, contents, hosts, plans, protectables, restores
from karbor.cli.connection import add_options, connect, state_folder
from karbor.cli.session import Session
from karbor.cli.terminal import Terminal

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Mapping, Sequence

    from karbor.cli.transport import Transport

VERBS = (
    *protectables.VERBS,
    *plans.VERBS,
    *checkpoints.VERBS,
    *contents.VERBS,
    *restores.VERBS,
    *hosts.VERBS,
)


class Karbor(App):
    """The application as cliff knows it: global options, and the session that commands work with."""

    NAME = "karbor"

    def __init__(
        self, terminal: Terminal, reach: Callable[[Namespace, Mapping[str, str]], Transport] = connect
    ) -> None:
        manager = CommandManager()
        manager.commands.update({verb.name: verb for verb in VERBS})  # type: ignore[misc]
        super().__init__(
            "Protect applications and bring them back.",
            karbor.__version__,
            manager,
            stdout=terminal.out,
            stderr=terminal.err,
            deferred_help=True,
        )
        self.session = Session(
            lambda: reach(self.options, os.environ),
            terminal,
            state=lambda: state_folder(self.options, os.environ),
            monotonic=time.monotonic,
            sleep=time.sleep,
        )

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: dict[str, Any] | None = None
    ) -> ArgumentParser:
        """With the options that say where the service is; none abbreviated, lest `--to` of a command be `--token`."""
        kwargs = {**(argparse_kwargs or {}), "prog": self.NAME, "allow_abbrev": False}
        parser: ArgumentParser = super().build_option_parser(description, version, kwargs)
        add_options(parser)
        return parser


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
    terminal = Terminal(sys.stdin, sys.stdout, sys.stderr)
    if {"help", "--help", "-h", "--version"}.intersection(given):
        warn_of_namesake(terminal)
    return Karbor(terminal).run(given)
