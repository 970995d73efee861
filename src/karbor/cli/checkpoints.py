"""`karbor checkpoint`: protect a plan, and look after what came of it. Its content is `karbor.cli.contents`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from karbor.cli import preflight
from karbor.cli.api import part
from karbor.cli.arguments import all_projects, dry_run, list_query, named, paging, pairs, provider, waiting
from karbor.cli.following import failure, follow, report
from karbor.cli.naming import checkpoint_path, find, find_checkpoint, find_provider
from karbor.cli.verbs import Ended, Table, Verb

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence

    from karbor.cli.api import Item
    from karbor.cli.session import Session


def shown(checkpoint: Item) -> Item:
    """A checkpoint with what v1 packs into strings unpacked, and its resources one by one."""
    plan = checkpoint["protection_plan"]
    fields = {name: value for name, value in checkpoint.items() if name not in _REPLACED}
    return {
        "id": checkpoint["id"],
        "status": checkpoint["status"],
        "plan": plan["name"],
        "plan_id": plan["id"],
        "provider_id": plan["provider_id"],
        **fields,
        "extra_info": _unpacked(checkpoint["extra_info"]),
        "created_at": checkpoint.get("created_at_precise") or checkpoint["created_at"],
        "resources": list(resources(checkpoint)),
    }


_REPLACED = frozenset(
    {"protection_plan", "resource_graph", "created_at_precise", "resources_status", "resources_reason"}
    | {"resources_state"}
)


def resources(checkpoint: Item) -> Iterator[Item]:
    """The resources of a checkpoint: those of its graph, or of its plan while there is no graph."""
    nodes, edges = _unpacked(checkpoint["resource_graph"]) or [{}, []]
    keys = {name: f"{kind}#{ident}" for name, (kind, ident, *_) in nodes.items()}
    dependents = {keys[parent]: [keys[child] for child in children] for parent, children in edges}
    known = [{"type": kind, "id": ident, "name": name} for kind, ident, name, *_ in nodes.values()]
    for resource in known or checkpoint["protection_plan"]["resources"]:
        key = f"{resource['type']}#{resource['id']}"
        yield {
            "key": key,
            "type": resource["type"],
            "id": resource["id"],
            "name": resource["name"],
            "dependents": dependents.get(key, []),
            "status": checkpoint.get("resources_status", {}).get(key),
            "reason": checkpoint.get("resources_reason", {}).get(key) or None,
            **checkpoint.get("resources_state", {}).get(key, {}),
        }


def needed(known: Sequence[Item], chosen: Sequence[Item]) -> list[Item]:
    """What is chosen with everything that it depends on, in the order of the checkpoint; all where none is chosen."""
    if not chosen:
        return list(known)
    by_key = {item["key"]: item for item in known}
    kept, waiting_for = set(), [item["key"] for item in chosen]
    while waiting_for:
        key = waiting_for.pop()
        if key not in kept:
            kept.add(key)
            waiting_for.extend(by_key[key]["dependents"])
    return [item for item in known if item["key"] in kept]


def _unpacked(text: str | None) -> Any:
    return msgspec.json.decode(text) if text else None


def _list(session: Session, args: Namespace) -> list[Item]:
    api = session.api
    plan = find(api, "plans", "plan", args.plan)["id"] if args.plan else None
    query = {**list_query(args), "plan_id": plan, "status": args.status}
    query |= {"start_date": args.since, "end_date": args.until}
    one = args.provider or args.marker  # a marker means something in one list only
    providers = [find_provider(api, args.provider)] if one else list(api.listing("/providers", "providers"))
    found = [
        shown(item)
        for each in providers
        for item in api.listing(f"/providers/{part(each['id'])}/checkpoints", "checkpoints", query, limit=args.limit)
    ]
    if len(providers) > 1 and not args.sort:
        found.sort(key=lambda item: str(item["created_at"]), reverse=True)
    return found[: args.limit]


def _show(session: Session, args: Namespace) -> Item:
    return shown(find_checkpoint(session.api, args.provider, args.checkpoint))


def _create(session: Session, args: Namespace) -> Item | Ended | Table:
    api = session.api
    plan = find(api, "plans", "plan", args.plan)
    provider_id = find_provider(api, args.provider)["id"] if args.provider else plan["provider_id"]
    path = f"/providers/{part(provider_id)}/checkpoints"
    info = pairs(args.extra_info, "--extra-info")
    body = {"checkpoint": {"plan_id": plan["id"], "extra-info": info or None}}
    if args.dry_run:
        return preflight.table(preflight.read(session, path, body))
    checkpoint = api.post(path, body, "checkpoint")
    if not args.wait:
        return shown(checkpoint)
    ended = follow(session, f"{path}/{part(checkpoint['id'])}", "checkpoint", f"protect {plan['name']}")
    return Ended(shown(ended), report(session, ended, "checkpoint"))


def _delete(session: Session, args: Namespace) -> None:
    chosen = [find_checkpoint(session.api, args.provider, selector) for selector in args.checkpoint]
    for path in map(checkpoint_path, chosen):
        session.api.send("DELETE", path)
    for checkpoint in chosen:
        if not args.wait:
            session.terminal.say(f"checkpoint {checkpoint['id']} is being deleted")
            continue
        ended = follow(session, checkpoint_path(checkpoint), "checkpoint", f"delete {checkpoint['id'][:8]}")
        if failed := failure(ended, "checkpoint"):
            report(session, ended, "checkpoint")
            raise failed
        session.terminal.say(f"checkpoint {checkpoint['id']} is {ended['status']}")


def _reset(session: Session, args: Namespace) -> None:
    state = "available" if args.available else "error"
    for selector in args.checkpoint:
        checkpoint = find_checkpoint(session.api, args.provider, selector)
        session.api.send("PUT", checkpoint_path(checkpoint), body={"os-resetState": {"state": state}})
        session.terminal.say(f"checkpoint {checkpoint['id']} is set to {state}")


def _cancel(session: Session, args: Namespace) -> None:
    checkpoint = find_checkpoint(session.api, args.provider, args.checkpoint)
    session.api.send("POST", f"{checkpoint_path(checkpoint)}/action", body={"os-cancel": None})
    session.terminal.say(f"checkpoint {checkpoint['id']} is being cancelled")


def _undelete(session: Session, args: Namespace) -> None:
    for selector in args.checkpoint:
        checkpoint = find_checkpoint(session.api, args.provider, selector)
        session.api.send("POST", f"{checkpoint_path(checkpoint)}/action", body={"os-undelete": None})
        session.terminal.say(f"checkpoint {checkpoint['id']} is being brought back")


def _filters(parser: ArgumentParser) -> None:
    parser.add_argument("--plan", metavar="PLAN", help="only those of this plan")
    parser.add_argument("--status", metavar="STATUS", help="only those with this status")
    parser.add_argument("--since", metavar="YYYY-MM-DD", help="only those made on this day or later")
    parser.add_argument("--until", metavar="YYYY-MM-DD", help="only those made on this day or earlier")


def _info(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--extra-info", action="append", default=[], metavar="KEY=VALUE", help="a note to keep with it; repeat for more"
    )


def _state(parser: ArgumentParser) -> None:
    parser.add_argument("--available", action="store_true", help="set them to available instead of error")


VERBS = (
    Verb(
        name="checkpoint list",
        help="List the checkpoints of one provider or of all",
        run=_list,
        arguments=(provider, _filters, all_projects, paging),
        shows="list",
        columns=("id", "status", "plan", "created_at", "logical_bytes", "added_bytes", "verify_level", "survives"),
    ),
    Verb(name="checkpoint show", help="Show a checkpoint", run=_show, arguments=(named("checkpoint"), provider)),
    Verb(
        name="checkpoint create",
        help="Protect the resources of a plan now",
        run=_create,
        arguments=(named("plan"), provider, _info, dry_run, waiting),
    ),
    Verb(
        name="checkpoint delete",
        help="Delete checkpoints",
        run=_delete,
        arguments=(named("checkpoint", many=True), provider, waiting),
        shows="nothing",
    ),
    Verb(
        name="checkpoint undelete",
        help="Bring deleted checkpoints back, by their whole ids, until their grace is over",
        run=_undelete,
        arguments=(named("checkpoint", many=True), provider),
        shows="nothing",
    ),
    Verb(
        name="checkpoint reset-state",
        help="Set the status of checkpoints that an interrupted operation left behind",
        run=_reset,
        arguments=(named("checkpoint", many=True), provider, _state),
        shows="nothing",
    ),
    Verb(
        name="checkpoint cancel",
        help="Stop protecting; what was begun is taken back",
        run=_cancel,
        arguments=(named("checkpoint"), provider),
        shows="nothing",
    ),
)
