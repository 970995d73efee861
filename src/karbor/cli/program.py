"""A program as cliff knows it, made of a table of commands; `karbor` and `karbor-manage` are two of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cliff.app import App
from cliff.commandmanager import CommandManager

import karbor

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence

    from karbor.cli.session import Session
    from karbor.cli.terminal import Terminal
    from karbor.cli.verbs import Arguments, Verb


class Program(App):
    """Global options, the table, and the session that commands work with."""

    def __init__(
        self,
        name: str,
        description: str,
        verbs: Sequence[Verb],
        terminal: Terminal,
        begin: Callable[[Callable[[], Namespace]], Session],
        options: Sequence[Arguments] = (),
    ) -> None:
        """`begin` makes the session; it is given a function that knows the global options once they are read."""
        self.NAME = name
        self._options = options
        manager = CommandManager()
        manager.commands.update({verb.name: verb for verb in verbs})  # type: ignore[misc]
        super().__init__(
            description, karbor.__version__, manager, stdout=terminal.out, stderr=terminal.err, deferred_help=True
        )
        self.session = begin(lambda: self.options)

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: dict[str, Any] | None = None
    ) -> ArgumentParser:
        """None may be abbreviated, lest `--to` of a command be taken for `--token`."""
        kwargs = {**(argparse_kwargs or {}), "prog": self.NAME, "allow_abbrev": False}
        parser: ArgumentParser = super().build_option_parser(description, version, kwargs)
        for declare in self._options:
            declare(parser)
        return parser

    def configure_logging(self) -> None:
        """What libraries log goes to people only where they ask for it."""
        super().configure_logging()
        if self.options.verbose_level <= self.DEFAULT_VERBOSE_LEVEL:
            logging.getLogger().setLevel(logging.ERROR)
