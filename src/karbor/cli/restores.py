"""`karbor restore` and `karbor verification`: bring a checkpoint back, or prove that it could be."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from karbor.cli import preflight
from karbor.cli.api import part
from karbor.cli.arguments import (
    all_projects,
    dry_run,
    list_query,
    named,
    paging,
    parameters,
    provider,
    read_parameters,
    waiting,
)
from karbor.cli.checkpoints import needed, resources
from karbor.cli.contents import locate, pick_resource
from karbor.cli.following import follow, report
from karbor.cli.naming import find, find_checkpoint
from karbor.cli.verbs import Ended, Table, Verb
from karbor.errors import UnsupportedOperation

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence

    from karbor.cli.api import Api, Item
    from karbor.cli.session import Session


def restore_body(api: Api, args: Namespace) -> tuple[Item, Item]:
    """The checkpoint that was named, and the request for its restore.

    `--path` narrows the restore to what lies there; `--to` and `--overwrite` become the options of the plugins that
    have them. Raises `UnsupportedOperation` where none has.
    """
    checkpoint = find_checkpoint(api, args.provider, args.checkpoint)
    provider_id = checkpoint["protection_plan"]["provider_id"]
    known = list(resources(checkpoint))
    given = read_parameters(api, args)
    chosen = [pick_resource(known, selector) for selector in args.resource]
    inner = ""
    if args.path:
        resource, inner = locate(known, args.path)
        chosen.append(resource)
    if inner or args.to or args.overwrite:
        schemas = api.get(f"/providers/{part(provider_id)}", "provider")["extended_info_schema"]["restore_schema"]
        for item, option, value in options(args, inner, needed(known, chosen), chosen, schemas):
            given.setdefault(item["key"], {})[option] = value
    body = {
        "provider_id": provider_id,
        "checkpoint_id": checkpoint["id"],
        "parameters": given,
        "restore_target": args.target,
        "resources": [resource["key"] for resource in chosen],
        "undo": args.undo,
    }
    return checkpoint, {"restore": body}


def options(
    args: Namespace, inner: str, needed_too: Sequence[Item], chosen: Sequence[Item], schemas: Item
) -> Iterator[tuple[Item, str, Any]]:
    """Resource, option and value for what `--path`, `--to` and `--overwrite` say."""
    if inner:
        yield having(chosen[-1:], "path", schemas)[0], "path", inner
    if args.to:
        for item, place in places(having(needed_too, "restore_path", schemas), args.to):
            yield item, "restore_path", place
    if args.overwrite:
        for item in having(needed_too, "overwrite", schemas):
            yield item, "overwrite", True


def having(items: Sequence[Item], option: str, schemas: Item) -> list[Item]:
    """Those whose plugin has an option of restore; raises `UnsupportedOperation` where none has."""
    found = [item for item in items if option in schemas.get(item["type"], {}).get("properties", {})]
    if not found:
        kinds = ", ".join(sorted({item["type"] for item in items}))
        raise UnsupportedOperation(f"a restore has no option {option} for {kinds}")
    return found


def places(chosen: Sequence[Item], to: str) -> list[tuple[Item, str]]:
    """Where each resource goes: one exactly there, several below it under the last part of their names."""
    if len(chosen) == 1:
        return [(chosen[0], to)]
    names = [PurePosixPath(item["name"] or item["id"]).name or item["id"] for item in chosen]
    unique = [
        name if names.count(name) == 1 else f"{name}-{item['id'][:8]}" for name, item in zip(names, chosen, strict=True)
    ]
    return [(item, str(PurePosixPath(to) / name)) for name, item in zip(unique, chosen, strict=True)]


def dated(record: Item) -> Item:
    """With its time under the name that other things have it under."""
    return {("created_at" if name == "created_at_precise" else name): value for name, value in record.items()}


def became(checkpoint: Item, restore: Item) -> Iterator[str]:
    """A line for each new resource of a restore: what it was, what it is, how it fared."""
    names = {item["key"]: f"{item['type']} {item['name'] or item['id']}" for item in resources(checkpoint)}
    for old, new in (restore.get("restored") or {}).items():
        place = "in its place" if new == old else new
        yield f"{names.get(old, old)} → {place}: {restore['resources_status'].get(new, 'restored')}"


def _create(session: Session, args: Namespace) -> Item | Ended | Table:
    checkpoint, body = restore_body(session.api, args)
    found = preflight.read(session, "/restores", body)
    if args.dry_run:
        return preflight.table(found)
    preflight.confirm(session.terminal, found, yes=args.yes)
    restore: Item = session.api.post("/restores", body, "restore")
    if not args.wait:
        return dated(restore)
    title = f"restore {checkpoint['protection_plan']['name']}"
    ended = follow(session, f"/restores/{part(restore['id'])}", "restore", title)
    for line in became(checkpoint, ended):
        session.terminal.say(line)
    return Ended(dated(ended), report(session, ended, "restore"))


def _verify(session: Session, args: Namespace) -> Item | Ended:
    api = session.api
    checkpoint = find_checkpoint(api, args.provider, args.checkpoint)
    body = {
        "provider_id": checkpoint["protection_plan"]["provider_id"],
        "checkpoint_id": checkpoint["id"],
        "parameters": read_parameters(api, args),
    }
    verification: Item = api.post("/verifications", {"verification": body}, "verification")
    if not args.wait:
        return dated(verification)
    title = f"verify {checkpoint['protection_plan']['name']}"
    ended = follow(session, f"/verifications/{part(verification['id'])}", "verification", title)
    return Ended(dated(ended), report(session, ended, "verification"))


def _listing(collection: str) -> Any:
    def run(session: Session, args: Namespace) -> Iterator[Item]:
        query = {**list_query(args), "status": args.status}
        return map(dated, session.api.listing(f"/{collection}", collection, query, limit=args.limit))

    return run


def _showing(noun: str) -> Any:
    def run(session: Session, args: Namespace) -> Item:
        return dated(find(session.api, f"{noun}s", noun, getattr(args, noun)))

    return run


def _cancelling(noun: str) -> Any:
    def run(session: Session, args: Namespace) -> None:
        found = find(session.api, f"{noun}s", noun, getattr(args, noun))
        session.api.send("POST", f"/{noun}s/{part(found['id'])}/action", body={"os-cancel": None})
        session.terminal.say(f"{noun} {found['id']} is being cancelled")

    return run


def _status(parser: ArgumentParser) -> None:
    parser.add_argument("--status", metavar="STATUS", help="only those with this status")


def _part(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--resource", action="append", default=[], metavar="RESOURCE", help="only this resource; repeat for more"
    )
    parser.add_argument("--path", metavar="RESOURCE[/PATH]", help="only what lies at this path of a resource")
    parser.add_argument("--to", metavar="PATH", help="write it there, not where it was")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
    parser.add_argument("--target", metavar="URL", help="the Keystone of the cloud to restore to")
    parser.add_argument("--undo", action="store_true", help="when it fails, take back what it made")
    parser.add_argument("--yes", action="store_true", help="do not ask")


VERBS = (
    Verb(
        name="restore list",
        help="List the restores of the project",
        run=_listing("restores"),
        arguments=(_status, all_projects, paging),
        shows="list",
        columns=("id", "status", "checkpoint_id", "created_at", "finished_at", "reason"),
    ),
    Verb(name="restore show", help="Show a restore", run=_showing("restore"), arguments=(named("restore"),)),
    Verb(
        name="restore create",
        help="Bring a checkpoint back, or a part of it",
        run=_create,
        arguments=(named("checkpoint"), provider, _part, parameters, dry_run, waiting),
    ),
    Verb(
        name="restore cancel",
        help="Stop a restore",
        run=_cancelling("restore"),
        arguments=(named("restore"),),
        shows="nothing",
    ),
    Verb(
        name="verification list",
        help="List the verifications of the project",
        run=_listing("verifications"),
        arguments=(_status, all_projects, paging),
        shows="list",
        columns=("id", "status", "checkpoint_id", "level", "created_at", "finished_at", "reason"),
    ),
    Verb(
        name="verification show",
        help="Show a verification",
        run=_showing("verification"),
        arguments=(named("verification"),),
    ),
    Verb(
        name="verification create",
        help="Read a checkpoint back and prove it whole",
        run=_verify,
        arguments=(named("checkpoint"), provider, parameters, waiting),
    ),
    Verb(
        name="verification cancel",
        help="Stop a verification",
        run=_cancelling("verification"),
        arguments=(named("verification"),),
        shows="nothing",
    ),
)
