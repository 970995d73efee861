"""`karbor-manage db` and `recover`: the tables, and what fills them again after they were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.cli.composition import application, configured, key_file, repositories, vaults_by
from karbor.cli.server import server
from karbor.cli.verbs import Table, Verb
from karbor.errors import BankError

if TYPE_CHECKING:
    from argparse import Namespace

    from karbor.cli.api import Item
    from karbor.cli.session import Session


def _upgrade(session: Session, args: Namespace) -> None:
    application(session, args).upgrade_database()
    session.terminal.say("the database is up to date")


def _version(session: Session, args: Namespace) -> Item:
    migrate = server("karbor.db.migrate")
    return {"database": migrate.current(application(session, args).database), "service": migrate.head()}


def _recover(session: Session, args: Namespace) -> Table:
    app, recovery = application(session, args), server("karbor.protection.recovery")
    app.upgrade_database()
    vaults = vaults_by(session, app, args.key)
    rows, failed = [], []
    for provider in app.providers.all():
        try:
            for project in repositories(provider):
                done = recovery.recover(app.catalogue, vaults.open(provider, project))
                for problem in done.unreadable:
                    session.terminal.say(f"{provider.name}: {problem}")
                counted = {
                    name: getattr(done, name) for name in ("checkpoints", "deleted", "plans", "present", "history")
                }
                unreadable = len(done.unreadable)
                rows.append({"provider": provider.name, "project": project, **counted, "unreadable": unreadable})
        except BankError as error:  # one bank that cannot be read must not keep the others lost
            failed.append(f"{provider.name}: {error.message}")
    if lost := sum(row["unreadable"] for row in rows):
        failed.append(f"{lost} checkpoints could not be read")
    failure = BankError("; ".join(failed)) if failed else None
    columns = ("provider", "project", "checkpoints", "deleted", "plans", "present", "history", "unreadable")
    return Table(columns, tuple(rows), failure)


VERBS = (
    Verb(
        name="db upgrade",
        help="Bring the tables of the database to this version",
        run=_upgrade,
        arguments=(configured,),
        shows="nothing",
    ),
    Verb(
        name="db version",
        help="Show the version of the database and the one that the service wants",
        run=_version,
        arguments=(configured,),
    ),
    Verb(
        name="recover",
        help="Fill an empty database with the checkpoints and plans that the banks hold",
        run=_recover,
        arguments=(configured, key_file),
    ),
)
