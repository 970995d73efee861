"""From what a person typed to the one thing that was meant: an id, a unique name, or the beginning of an id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from karbor.cli.api import part
from karbor.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from karbor.cli.api import Api, Item

_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE)
_PREFIX = re.compile(r"[0-9a-f]{4}[0-9a-f-]*", re.IGNORECASE)
_SHOWN = 10


def pick(selector: str, items: Iterable[Item], noun: str) -> Item:
    """The item that `selector` names: by its id, else by its name, else by a beginning of its id of at least four
    hex digits. Raises `NotFound`, or `InvalidInput` with the candidates where several fit.
    """
    known = list(items)
    tests: tuple[Callable[[Item], object], ...] = (
        lambda item: item["id"] == selector,
        lambda item: item.get("name") == selector,
        lambda item: _PREFIX.fullmatch(selector) and item["id"].lower().startswith(selector.lower()),
    )
    for test in tests:
        found = [item for item in known if test(item)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ambiguous(selector, noun, [f"{item['id']} {item.get('name') or ''}".rstrip() for item in found])
    raise NotFound(f"no {noun} {selector!r}", hint="give its id, its name or the first four digits or more of its id")


def find(api: Api, collection: str, noun: str, selector: str) -> Item:
    """One item of a collection of the API, such as ``plans``; a whole id is looked up directly."""
    if is_id(selector):
        found: Item = api.get(f"/{collection}/{part(selector)}", noun)
        return found
    return pick(selector, api.listing(f"/{collection}", collection), noun)


def find_provider(api: Api, selector: str | None) -> Item:
    """The provider of that name or id; without a selector the only one there is."""
    if selector is not None:
        return find(api, "providers", "provider", selector)
    known = list(api.listing("/providers", "providers"))
    if len(known) == 1:
        return known[0]
    if not known:
        raise NotFound("the service offers this project no provider")
    raise ambiguous("", "provider", [f"{item['id']} {item['name']}" for item in known], hint="choose with --provider")


def find_checkpoint(api: Api, provider: str | None, selector: str) -> Item:
    """One checkpoint, of the provider named or of any."""
    providers = [find_provider(api, provider)] if provider else list(api.listing("/providers", "providers"))
    paths = [f"/providers/{part(item['id'])}/checkpoints" for item in providers]
    if not is_id(selector):
        known = [item for path in paths for item in api.listing(path, "checkpoints")]
        return pick(selector, known, "checkpoint")
    for path in paths:
        try:
            found: Item = api.get(f"{path}/{part(selector)}", "checkpoint")
        except NotFound:
            continue
        return found
    raise NotFound(f"no checkpoint {selector!r}")


def find_type(api: Api, selector: str) -> str:
    """A resource type by its name or by the end of it: `volume` for `OS::Cinder::Volume`."""
    known: list[str] = api.get("/protectables", "protectable_type")
    if selector in known:
        return selector
    found = [kind for kind in known if kind.lower().rpartition("::")[2] == selector.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ambiguous(selector, "resource type", found)
    raise NotFound(f"no resource type {selector!r}", hint=f"there are {', '.join(known)}")


def checkpoint_path(checkpoint: Item) -> str:
    """Where the API has a checkpoint."""
    provider = checkpoint["protection_plan"]["provider_id"]
    return f"/providers/{part(provider)}/checkpoints/{part(checkpoint['id'])}"


def is_id(selector: str) -> bool:
    """Whether this is a whole id and not a name or a beginning."""
    return _UUID.fullmatch(selector) is not None


def ambiguous(selector: str, noun: str, candidates: Sequence[str], *, hint: str = "") -> InvalidInput:
    """The error for a selector that fits several things; names them."""
    shown = ", ".join(candidates[:_SHOWN]) + (", …" if len(candidates) > _SHOWN else "")
    what = f"{selector!r} fits {len(candidates)} {noun}s" if selector else f"there are {len(candidates)} {noun}s"
    return InvalidInput(f"{what}: {shown}", hint=hint or "say more of the id")
