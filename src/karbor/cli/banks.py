"""`karbor-manage bank`: what lies in the banks, how much room they have, and whether it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.cli.composition import application, configured, find_provider, place_of, provider, repositories
from karbor.cli.server import server
from karbor.cli.verbs import Table, Verb
from karbor.errors import KarborError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from karbor.cli.api import Item
    from karbor.cli.session import Session


def _list(session: Session, args: Namespace) -> Iterator[Item]:
    for each in application(session, args).providers.all():
        try:
            yield {"provider": each.name, "provider_id": each.id, **_room(each)}
        except KarborError as error:  # one bank that does not answer must not hide the others
            yield {"provider": each.name, "provider_id": each.id, "problem": error.message}


def _room(each: Any) -> Item:
    space = each.bank.space()
    return {
        "kind": each.bank.kind,
        "location": each.bank.location,
        "repositories": len(list(repositories(each))),
        "free_bytes": space.free,
        "total_bytes": space.total,
    }


def _show(session: Session, args: Namespace) -> Table:
    app, checkpoints = application(session, args), server("karbor.bank.checkpoints")
    found = find_provider(app, args.provider)
    rows = []
    for project in repositories(found):
        repository = app.vaults.open(found, project)
        held = list(checkpoints.held(repository))
        objects = [each.size for each in found.bank.list(repository.prefix)]
        rows.append(
            {
                "project": project,
                "checkpoints": sum(not each.deleted for each in held),
                "deleted": sum(each.deleted for each in held),
                "objects": len(objects),
                "stored_bytes": sum(objects),
                "path": place_of(repository),
            }
        )
    return Table(("project", "checkpoints", "deleted", "objects", "stored_bytes", "path"), tuple(rows))


VERBS = (
    Verb(
        name="bank list",
        help="List the banks and their room",
        run=_list,
        arguments=(configured,),
        shows="list",
        columns=("provider", "provider_id", "kind", "location", "repositories", "free_bytes", "total_bytes", "problem"),
    ),
    Verb(
        name="bank show",
        help="Show the repositories in a provider's bank",
        run=_show,
        arguments=(configured, provider),
    ),
)
