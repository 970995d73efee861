"""`karbor host`: what of this host a standalone service may protect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from karbor.cli.server import server
from karbor.cli.verbs import Verb
from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from karbor.cli.session import Session


def _add(session: Session, args: Namespace) -> None:
    directory = args.hosts_dir or (session.state / "hosts.d" if session.state else None)
    if directory is None:
        raise InvalidInput("it is not said for which service", hint="give --state DIR, or --hosts-dir DIR")
    write = server("karbor.plugins.host.declaration").write_declaration
    session.terminal.say(f"{write(directory, args.name, args.path)} declares {args.name}")


def _declaration(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the application")
    parser.add_argument("path", nargs="+", type=Path, metavar="PATH", help="directory, disk image or SQLite file")
    parser.add_argument("--hosts-dir", type=Path, metavar="DIR", help="default: hosts.d in the folder of --state")


VERBS = (
    Verb(
        name="host add",
        help="Declare an application of this host so that it can be protected",
        run=_add,
        arguments=(_declaration,),
        shows="nothing",
    ),
)
