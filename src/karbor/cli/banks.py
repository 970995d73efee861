"""`karbor-manage bank`: what lies in the banks, how much room they have, and whether it is whole."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from karbor.cli.composition import application, configured, find_provider, place_of, provider, repositories
from karbor.cli.display import display
from karbor.cli.faults import raised_as
from karbor.cli.progress import Rate, size
from karbor.cli.server import server
from karbor.cli.verbs import Table, Verb
from karbor.errors import Damaged, KarborError
from karbor.wire.answers import Progress

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

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


def _check(session: Session, args: Namespace) -> Table:
    app, checker = application(session, args), server("karbor.bank.vault.check")
    found = find_provider(app, args.provider)
    rotation = checker.Rotation(*args.data) if args.data else None
    rows: list[Item] = []
    for project_id in [args.project] if args.project else list(repositories(found)):
        repository = app.vaults.open(found, project_id)
        with _watched(session, f"check {project_id}") as progress:
            report = checker.check(repository, rotation=rotation, progress=progress)
        session.terminal.say(
            f"project {project_id}: {report.snapshots} snapshots, {report.packs} packs, {report.read_packs} of them read"
            f" ({size(report.read_bytes)}), {len(report.findings)} damaged objects"
        )
        rows.extend(row for finding in report.findings for row in _damage(finding))
    objects = {row["object"] for row in rows}
    failure = raised_as(Damaged, f"{len(objects)} bank objects are damaged or missing") if objects else None
    return Table(("object", "problem", "checkpoint", "path", "ranges"), tuple(rows), failure)


def _damage(finding: Any) -> Iterator[Item]:
    """A row for everything that the damage of one object affects; one without where it affects nothing."""
    row = {"object": finding.key, "problem": finding.problem}
    for hit in finding.affected:
        ranges = [f"{offset}-{offset + length - 1}" for offset, length in hit.ranges]
        yield row | {"checkpoint": hit.checkpoint or hit.snapshot, "path": hit.path, "ranges": ranges}
    if not finding.affected:
        yield row


@contextmanager
def _watched(session: Session, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many bytes were read, as `progress` functions are told it."""
    show, rate = display(session.terminal, title), Rate()

    def progress(done: int, total: int) -> None:
        rate.add(session.monotonic(), done)
        show.update(session.monotonic(), Progress(done_bytes=done, total_bytes=total), rate.per_second)

    try:
        yield progress
    finally:
        show.close()


def part(text: str) -> tuple[int, int]:
    """``N/T``, part N of T, for argparse."""
    number, _, parts = text.partition("/")
    found = int(number), int(parts)
    if not 1 <= found[0] <= found[1]:
        raise ValueError(text)
    return found


def _data(parser: ArgumentParser) -> None:
    parser.add_argument("--project", metavar="ID", help="only the repository of this project")
    parser.add_argument(
        "--data",
        metavar="N/T",
        type=part,
        nargs="?",
        const=(1, 1),
        help="read all data too, or part N of T of it: T checks with every N have read everything",
    )


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
    Verb(
        name="bank check",
        help="Check that a provider's bank is whole, and name what damage affects",
        run=_check,
        arguments=(configured, provider, _data),
    ),
)
