"""`karbor-manage api` and `worker`: the service's processes, one each, for hosts that share a database and banks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.cli.composition import application, configured
from karbor.cli.server import server
from karbor.cli.verbs import Verb

if TYPE_CHECKING:
    from argparse import Namespace

    from karbor.cli.session import Session


def _api(session: Session, args: Namespace) -> None:
    server("karbor.daemons").serve_api(application(session, args))


def _worker(session: Session, args: Namespace) -> None:
    server("karbor.daemons").run_worker(application(session, args))


VERBS = (
    Verb(
        name="api",
        help="Answer requests, until told to end",
        run=_api,
        arguments=(configured,),
        shows="nothing",
    ),
    Verb(
        name="worker",
        help="Do the work of protecting and restoring, until told to end",
        run=_worker,
        arguments=(configured,),
        shows="nothing",
    ),
)
