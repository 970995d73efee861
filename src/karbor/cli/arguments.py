"""Arguments that several commands share, and what is read out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from karbor.cli.naming import find_type
from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from karbor.cli.api import Api
    from karbor.cli.verbs import Arguments

Parameters = dict[str, dict[str, Any]]


def named(noun: str, *, many: bool = False) -> Arguments:
    """A positional argument: one thing, or some, by id, unique name or the beginning of an id."""

    def declare(parser: ArgumentParser) -> None:
        parser.add_argument(
            noun.replace(" ", "_"),
            metavar=noun.replace(" ", "-").upper(),
            nargs="+" if many else None,
            help=f"{noun}: id, unique name or the beginning of an id",
        )

    return declare


def paging(parser: ArgumentParser) -> None:
    """How a list is cut and ordered."""
    parser.add_argument("--limit", type=positive, metavar="N", help="at most so many")
    parser.add_argument("--marker", metavar="ID", help="begin after this one")
    parser.add_argument("--sort", metavar="KEY[:asc|desc],…", help="the order; newest first unless said otherwise")


def all_projects(parser: ArgumentParser) -> None:
    """For administrators."""
    parser.add_argument("--all-projects", action="store_true", help="those of all projects (administrators only)")
    parser.add_argument("--project", metavar="ID", help="those of this project (administrators only)")


def provider(parser: ArgumentParser) -> None:
    """Which provider, where it matters."""
    parser.add_argument("--provider", metavar="PROVIDER", help="needed only where there are several")


def waiting(parser: ArgumentParser) -> None:
    """Whether to stay."""
    parser.add_argument("--wait", action="store_true", help="show the progress and stay until it has ended")


def dry_run(parser: ArgumentParser) -> None:
    """Whether only to look."""
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")


def parameters(parser: ArgumentParser) -> None:
    """Options for the plugins of a provider."""
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="TYPE[#ID]:KEY=VALUE",
        help="an option for all resources of a type or for one of them; repeat for more",
    )
    parser.add_argument("--parameters-json", metavar="JSON", help='all of them at once: {"TYPE[#ID]": {"KEY": VALUE}}')


def positive(text: str) -> int:
    """A count of at least one, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def list_query(args: Namespace) -> dict[str, Any]:
    """The query parameters of `paging` and `all_projects`."""
    project = getattr(args, "project", None)
    every = getattr(args, "all_projects", False) or project is not None
    return {
        "marker": args.marker,
        "sort": args.sort,
        "all_tenants": "true" if every else None,
        "project_id": project,
    }


def read_parameters(api: Api, args: Namespace) -> Parameters:
    """What `parameters` declared, as the API takes it; a type may be given by the end of its name."""
    merged = _decoded(args.parameters_json)
    for given in args.parameter:
        target, name, value = _split(given)
        kind, mark, ident = target.partition("#")
        merged.setdefault(f"{find_type(api, kind)}{mark}{ident}", {})[name] = scalar(value)
    return merged


def scalar(text: str) -> bool | int | str:
    """``true``, ``false`` and whole numbers as such; anything else is text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        return text


def pairs(given: list[str], option: str) -> dict[str, bool | int | str]:
    """``KEY=VALUE`` arguments as an object."""
    found = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not name or not mark:
            raise InvalidInput(f"{option}: {text!r} is not KEY=VALUE")
        found[name] = scalar(value)
    return found


def _split(given: str) -> tuple[str, str, str]:
    """Target, key and value. A type holds colons itself, so the last one before the equals sign counts."""
    left, mark, value = given.partition("=")
    target, colon, name = left.rpartition(":")
    if not mark or not colon or not name or not target.strip(":"):
        raise InvalidInput(
            f"--parameter: {given!r} is not TYPE[#ID]:KEY=VALUE",
            hint="for example OS::Cinder::Volume:backup_mode=full",
        )
    return target, name, value


def _decoded(text: str | None) -> Parameters:
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=Parameters)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"--parameters-json: {error}", hint='it is {"TYPE[#ID]": {"KEY": VALUE}}') from error
