"""`karbor plan`: which resources are protected together, with which provider and which options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.cli.api import part
from karbor.cli.arguments import all_projects, list_query, named, paging, parameters, provider, read_parameters
from karbor.cli.naming import ambiguous, find, find_provider, find_type, pick
from karbor.cli.protectables import find_instance
from karbor.cli.verbs import Verb
from karbor.errors import InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from karbor.cli.api import Api, Item
    from karbor.cli.session import Session


def find_resource(api: Api, selector: str) -> Item:
    """A resource as a plan takes it: `TYPE#RESOURCE`, or `RESOURCE` alone, which is looked for in all types.

    Raises `InvalidInput` where several types have one, `Unavailable` where it was not found and a type could not
    be listed: it may be there.
    """
    kind, mark, name = selector.rpartition("#")
    if mark:
        return _planned(find_instance(api, find_type(api, kind), name))
    found, silent = [], []
    for each in api.get("/protectables", "protectable_type"):
        try:
            found.append(pick(selector, api.listing(f"/protectables/{part(each)}/instances", "instances"), each))
        except NotFound:
            continue
        except Unavailable as error:
            silent.append(f"{each}: {error.message}")
    if len(found) == 1:
        return _planned(found[0])
    if found:
        raise ambiguous(selector, "resource", [f"{item['type']}#{item['id']}" for item in found])
    if silent:
        raise Unavailable(f"no resource {selector!r} was found, but not everything could be listed: {silent[0]}")
    raise NotFound(f"no resource {selector!r} in any type", hint="`karbor protectable instance list TYPE` shows them")


def _planned(instance: Item) -> Item:
    return {"type": instance["type"], "id": instance["id"], "name": instance["name"] or instance["id"]}


def _list(session: Session, args: Namespace) -> Iterator[Item]:
    query = {**list_query(args), "name": args.name, "status": args.status}
    return session.api.listing("/plans", "plans", query, limit=args.limit)


def _show(session: Session, args: Namespace) -> Item:
    return find(session.api, "plans", "plan", args.plan)


def _create(session: Session, args: Namespace) -> Any:
    api = session.api
    body = {
        "name": args.name,
        "description": args.description,
        "provider_id": find_provider(api, args.provider)["id"],
        "resources": [find_resource(api, selector) for selector in args.resource],
        "parameters": read_parameters(api, args),
    }
    return api.post("/plans", {"plan": body}, "plan")


def _update(session: Session, args: Namespace) -> Any:
    api = session.api
    given = {
        "name": args.name,
        "description": args.description,
        "status": args.status,
        "resources": [find_resource(api, selector) for selector in args.resource] or None,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise InvalidInput("nothing to change", hint="give --name, --description, --status or --resource")
    plan = find(api, "plans", "plan", args.plan)
    return api.put(f"/plans/{part(plan['id'])}", {"plan": changes}, "plan")


def _delete(session: Session, args: Namespace) -> None:
    for plan in [find(session.api, "plans", "plan", selector) for selector in args.plan]:
        session.api.send("DELETE", f"/plans/{part(plan['id'])}")
        session.terminal.say(f"plan {plan['name']} ({plan['id']}) is deleted")


def _filters(parser: ArgumentParser) -> None:
    parser.add_argument("--name", metavar="TEXT", help="only those whose name contains this")
    parser.add_argument("--status", metavar="STATUS", help="only those with this status")


def _new(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the plan")
    parser.add_argument(
        "resource",
        nargs="+",
        metavar="[TYPE#]RESOURCE",
        help="what to protect, by id, unique name or the beginning of an id",
    )
    parser.add_argument("--description", metavar="TEXT", help="for people")


def _changes(parser: ArgumentParser) -> None:
    parser.add_argument("--name", metavar="NAME", help="a new name")
    parser.add_argument("--description", metavar="TEXT", help="a new description")
    parser.add_argument("--status", choices=("suspended", "started"), help="only a suspended plan can be changed")
    parser.add_argument(
        "--resource",
        action="append",
        default=[],
        metavar="[TYPE#]RESOURCE",
        help="what to protect from now on, in place of what was; repeat for more",
    )


VERBS = (
    Verb(
        name="plan list",
        help="List the plans of the project",
        run=_list,
        arguments=(_filters, all_projects, paging),
        shows="list",
        columns=("id", "name", "status", "provider_id", "description"),
    ),
    Verb(name="plan show", help="Show a plan", run=_show, arguments=(named("plan"),)),
    Verb(name="plan create", help="Make a plan", run=_create, arguments=(_new, provider, parameters)),
    Verb(name="plan update", help="Change a suspended plan", run=_update, arguments=(named("plan"), _changes)),
    Verb(
        name="plan delete",
        help="Delete plans; their checkpoints stay",
        run=_delete,
        arguments=(named("plan", many=True),),
        shows="nothing",
    ),
)
