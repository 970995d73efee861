"""`karbor protectable`, `provider` and `operation-log`: what can be protected, by whom, and what was done."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from karbor.cli.api import part
from karbor.cli.arguments import all_projects, list_query, named, paging
from karbor.cli.naming import find, find_provider, find_type, is_id, pick
from karbor.cli.verbs import Verb
from karbor.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from karbor.cli.api import Api, Item
    from karbor.cli.session import Session


def find_instance(api: Api, kind: str, selector: str) -> Item:
    """A resource of a type by its id, unique name or the beginning of its id."""
    path = f"/protectables/{part(kind)}/instances"
    if is_id(selector):
        found: Item = api.get(f"{path}/{part(selector)}", "instance")
        return found
    return pick(selector, api.listing(path, "instances"), kind)


def _types(session: Session, _: Namespace) -> Iterator[Item]:
    for kind in session.api.get("/protectables", "protectable_type"):
        yield {"type": kind}


def _type(session: Session, args: Namespace) -> Any:
    kind = find_type(session.api, args.type)
    return session.api.get(f"/protectables/{part(kind)}", "protectable_type")


def _instances(session: Session, args: Namespace) -> Iterator[Item]:
    kind = find_type(session.api, args.type)
    path = f"/protectables/{part(kind)}/instances"
    return session.api.listing(path, "instances", list_query(args), limit=args.limit)


def _instance(session: Session, args: Namespace) -> Item:
    return find_instance(session.api, find_type(session.api, args.type), args.resource)


def _providers(session: Session, args: Namespace) -> Iterator[Item]:
    """With a word to administrators on what is not offered because its file is wrong."""
    with contextlib.suppress(Forbidden, NotFound):  # who is none, or asks a service of v1, sees what is offered
        for file, problem in session.api.get("/provider_problems", "problems").items():
            session.terminal.say(f"warning: {file}: {problem}")
    return session.api.listing("/providers", "providers", list_query(args), limit=args.limit)


def _provider(session: Session, args: Namespace) -> Item:
    return find_provider(session.api, args.provider)


def _logs(session: Session, args: Namespace) -> Iterator[Item]:
    query = {**list_query(args), "status": args.status}
    return session.api.listing("/operation_logs", "operation_logs", query, limit=args.limit)


def _log(session: Session, args: Namespace) -> Item:
    return find(session.api, "operation_logs", "operation_log", args.operation_log)


def _type_argument(parser: ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="resource type, or the end of its name: volume")


def _status(parser: ArgumentParser) -> None:
    parser.add_argument("--status", metavar="STATUS", help="only those with this status")


VERBS = (
    Verb(
        name="protectable list",
        help="List the types of resources that can be protected",
        run=_types,
        shows="list",
        columns=("type",),
    ),
    Verb(
        name="protectable show",
        help="Show a type and the types that depend on it",
        run=_type,
        arguments=(_type_argument,),
    ),
    Verb(
        name="protectable instance list",
        help="List the resources of a type",
        run=_instances,
        arguments=(_type_argument, paging),
        shows="list",
        columns=("id", "name", "type", "dependent_resources", "extra_info"),
    ),
    Verb(
        name="protectable instance show",
        help="Show a resource and those that depend on it",
        run=_instance,
        arguments=(_type_argument, named("resource")),
    ),
    Verb(
        name="provider list",
        help="List the providers that the project may use",
        run=_providers,
        arguments=(paging,),
        shows="list",
        columns=("id", "name", "description", "problems"),
    ),
    Verb(
        name="provider show",
        help="Show a provider, its bank and the options of its plugins",
        run=_provider,
        arguments=(named("provider"),),
    ),
    Verb(
        name="operation-log list",
        help="List what was done, newest first",
        run=_logs,
        arguments=(_status, all_projects, paging),
        shows="list",
        columns=("id", "operation_type", "status", "checkpoint_id", "started_at", "ended_at", "error_info"),
    ),
    Verb(
        name="operation-log show",
        help="Show one entry of the operation log",
        run=_log,
        arguments=(named("operation_log"),),
    ),
)
