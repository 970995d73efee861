"""`karbor plugin test`: a vendor proves his plugin by the contract suites that are shipped in `karbor.sdk.contract`."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karbor.cli.verbs import Table, Verb
from karbor.errors import InvalidInput, PluginError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from karbor.cli.api import Item
    from karbor.cli.session import Session

_HINT = "name a class derived from a suite of karbor.sdk.contract: mypackage.contract:TestMyPlugin"


def suite(named: str) -> type[Any]:
    """The class ``MODULE:CLASS``; modules are found in the current folder too. Raises `InvalidInput` where there is no
    such class or where it has no tests.
    """
    module, _, name = named.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError) as error:
        raise InvalidInput(f"{named}: {error}", hint=_HINT) from error
    finally:
        sys.path.pop(0)
    if not isinstance(found, type) or not _tests(found):
        raise InvalidInput(f"{named} is not a contract suite", hint=_HINT)
    return found


def _tests(kind: type[Any]) -> list[str]:
    return [name for name in dir(kind) if name.startswith("test_")]


def _run(session: Session, args: Namespace) -> Table:
    kind = suite(args.suite)
    rows = [_one(session, args, name, getattr(kind(), name)) for name in _tests(kind)]
    failed = sum(row["result"] == "failed" for row in rows)
    failure = PluginError(f"{failed} of {len(rows)} tests failed") if failed else None
    return Table(("test", "result", "seconds", "reason"), tuple(rows), failure)


def _one(session: Session, args: Namespace, name: str, test: Callable[[], None]) -> Item:
    from unittest import SkipTest  # noqa: PLC0415 - other commands need not pay for it

    began = session.monotonic()
    result, reason = "passed", ""
    try:
        test()
    except SkipTest as skipped:
        result, reason = "skipped", str(skipped)
    except Exception as error:  # noqa: BLE001 - a plugin under test may raise anything
        result, reason = "failed", f"{type(error).__name__}: {error}"
        if args.traceback:
            traceback.print_exc(file=session.terminal.err)
    words = name.removeprefix("test_").replace("_", " ")
    return {"test": words, "result": result, "seconds": round(session.monotonic() - began, 2), "reason": reason}


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("suite", metavar="MODULE:CLASS", help="a class derived from a suite of karbor.sdk.contract")
    parser.add_argument("--traceback", action="store_true", help="show where each test failed")


VERBS = (Verb(name="plugin test", help="Prove a plugin by its contract suite", run=_run, arguments=(_arguments,)),)
