"""A command as a row of a table, and its three forms in cliff: a list, one thing, or nothing but what it says.

What a command does is a plain function of the session and its arguments; this module is all there is between such a
function and cliff.
"""

from __future__ import annotations

import functools
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from cliff.command import Command
from cliff.formatters.json_format import JSONFormatter
from cliff.formatters.table import TableFormatter
from cliff.formatters.value import ValueFormatter
from cliff.formatters.yaml_format import YAMLFormatter
from cliff.lister import Lister
from cliff.show import ShowOne

from karbor.cli.columns import row
from karbor.cli.session import Session
from karbor.errors import InvalidInput, KarborError

if TYPE_CHECKING:
    from cliff.app import App

    from karbor.cli.terminal import Terminal

Arguments = Callable[[ArgumentParser], None]
Item = Mapping[str, Any]

_FORMATS: dict[str, type[Any]] = {
    "table": TableFormatter,
    "json": JSONFormatter,
    "yaml": YAMLFormatter,
    "value": ValueFormatter,
}


class Ended(msgspec.Struct, frozen=True):
    """One thing to show, and the error that the command ends with all the same."""

    item: Item
    failure: KarborError | None


class Table(msgspec.Struct, frozen=True):
    """A list that a command shows in place of the one thing it would otherwise."""

    columns: tuple[str, ...]
    items: tuple[Item, ...]
    failure: KarborError | None = None


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """One command.

    `run` gives back what it `shows`: an iterable of items with the `columns`, one item
    (or `Ended`, or a `Table`), or None.
    """

    name: str
    help: str
    run: Callable[[Session, Namespace], Iterable[Item] | Item | Ended | Table | None]
    arguments: tuple[Arguments, ...] = ()
    shows: Literal["list", "one", "nothing"] = "one"
    columns: tuple[str, ...] = ()

    def load(self) -> Callable[..., Command]:
        """What cliff makes the command with; its name for what an entry point does."""
        form = _FORMS[self.shows]
        return functools.partial(form, self)

    @property
    def value(self) -> str:
        """What cliff shows where a command is broken."""
        return self.name


class _Formats:
    """The formats as cliff asks for them, without its search among all installed packages."""

    def __init__(self) -> None:
        self._known = {name: SimpleNamespace(obj=kind()) for name, kind in _FORMATS.items()}

    def names(self) -> list[str]:
        return list(self._known)

    def __iter__(self) -> Iterator[SimpleNamespace]:
        return iter(self._known.values())

    def __getitem__(self, name: str) -> SimpleNamespace:
        return self._known[name]


def guarded(terminal: Terminal, debug: bool, act: Callable[[], int]) -> int:
    """Run a command at the edge: an error becomes a line and an exit code, never a traceback unless asked for."""
    try:
        return act()
    except KarborError as error:
        if debug:
            traceback.print_exc(file=terminal.err)
        terminal.complain(error)
        return error.exit_code
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - the outermost edge of the program
        if debug:
            traceback.print_exc(file=terminal.err)
        terminal.complain(
            KarborError(f"{type(error).__name__}: {error}", hint="this is a defect of karbor; --debug shows where")
        )
        return KarborError.exit_code


class _FromTable(Command):
    """What the three forms share: everything but the showing comes from the verb."""

    def _load_formatter_plugins(self) -> Any:  # what cliff calls an ExtensionManager
        return _Formats()

    def __init__(self, verb: Verb, app: App, app_args: Namespace | None) -> None:
        super().__init__(app, app_args)
        self._verb = verb
        self._session: Session = app.session  # type: ignore[attr-defined]
        self._failure: KarborError | None = None

    def get_description(self) -> str:
        return self._verb.help

    def get_epilog(self) -> str:
        return ""  # cliff's own reads the metadata of every installed package

    def get_parser(self, prog_name: str) -> ArgumentParser:
        parser = super().get_parser(prog_name)
        for declare in self._verb.arguments:
            declare(parser)
        return parser

    def run(self, parsed_args: Namespace) -> int:
        return guarded(self._session.terminal, self.app.options.debug, lambda: self._act(parsed_args))

    def _generate_columns_and_selector(self, *args: Any) -> Any:
        try:
            return super()._generate_columns_and_selector(*args)  # type: ignore[misc]
        except ValueError as error:
            raise InvalidInput(str(error)) from error

    def _act(self, parsed_args: Namespace) -> int:
        code = super().run(parsed_args)
        if self._failure is not None:
            raise self._failure
        return code


class Lists(_FromTable, Lister):
    """A command that shows a list."""

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """The columns and the rows."""
        items: Any = self._verb.run(self._session, parsed_args)
        return self._verb.columns, (row(self._verb.columns, item) for item in items)


class Shows(_FromTable, ShowOne):
    """A command that shows one thing, or now and then a `Table`."""

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Any]:
        """The fields and their values, or the columns and the table."""
        shown: Any = self._verb.run(self._session, parsed_args)
        if isinstance(shown, (Ended, Table)):
            self._failure = shown.failure
        if isinstance(shown, Table):
            return shown.columns, shown
        if shown is None:
            return (), None
        if isinstance(shown, Ended):
            shown = shown.item
        return tuple(shown), row(tuple(shown), shown)

    def produce_output(self, parsed_args: Namespace, column_names: Sequence[str], data: Any) -> int:
        """In the form that fits what was found; nothing where the command has shown it itself."""
        if data is None:
            return 0
        if not isinstance(data, Table):
            return super().produce_output(parsed_args, column_names, data)
        names, _ = self._generate_columns_and_selector(parsed_args, column_names)
        formatter: Any = self.formatter  # each of ours has both forms
        formatter.emit_list(names, [row(names, item) for item in data.items], self.app.stdout, parsed_args)
        return 0


class Acts(_FromTable):
    """A command that shows nothing."""

    def take_action(self, parsed_args: Namespace) -> int:
        """Exit code 0: everything else is an error."""
        self._verb.run(self._session, parsed_args)
        return 0


_FORMS: dict[str, type[_FromTable]] = {"list": Lists, "one": Shows, "nothing": Acts}
