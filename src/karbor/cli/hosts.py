"""`karbor standalone` and `karbor host`: the service on a host of its own, and what of the host it may protect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from karbor.cli.server import server
from karbor.cli.verbs import Verb
from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from karbor.cli.session import Session

PORT = 8799
"""Where Karbor's API listens unless told otherwise."""


def _add(session: Session, args: Namespace) -> None:
    directory = args.hosts_dir
    if directory is None:
        if session.state is None:
            raise InvalidInput("it is not said for which service", hint="give --state DIR, or --hosts-dir DIR")
        session.state.mkdir(
            mode=0o700, parents=True, exist_ok=True
        )  # the service takes no folder that others may enter
        directory = session.state / "hosts.d"
    write = server("karbor.plugins.host.declaration").write_declaration
    session.terminal.say(f"{write(directory, args.name, args.path)} declares {args.name}")


def _standalone(session: Session, args: Namespace) -> None:
    """Run the service in this process until it is told to end."""
    if session.state is None:
        raise InvalidInput("it is not said where the service keeps its state", hint="give --state DIR")
    server("karbor.standalone").standalone(session.state, args.port)


def _port(parser: ArgumentParser) -> None:
    """Where the API listens."""
    parser.add_argument("--port", type=int, default=PORT, metavar="P", help=f"port of the API; default {PORT}")


def _declaration(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the application")
    parser.add_argument("path", nargs="+", type=Path, metavar="PATH", help="directory, disk image or SQLite file")
    parser.add_argument("--hosts-dir", type=Path, metavar="DIR", help="default: hosts.d in the folder of --state")


STANDALONE = Verb(
    name="standalone",
    help="Run the service for this host alone, with its state in the folder of --state",
    run=_standalone,
    arguments=(_port,),
    shows="nothing",
)
VERBS = (
    STANDALONE,
    Verb(
        name="host add",
        help="Declare an application of this host so that it can be protected",
        run=_add,
        arguments=(_declaration,),
        shows="nothing",
    ),
)
