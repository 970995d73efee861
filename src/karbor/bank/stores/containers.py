"""Where a bank's keys lie in Swift: one container for each repository, so that its project alone may read it.

A repository's keys begin with ``<provider>/<project>-g<generation>/``; they lie in the container
``<bank>.<provider>.<project>-g<generation>`` under the rest of the key, where plain restic opens them as
``swift:<container>:/``. Every other key lies in the container ``<bank>`` under its own name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

# No dot, so that a container's name tells its parts; a letter or digit first, so that none is Swift's word (".r").
_PROVIDER = r"(?P<provider>[A-Za-z0-9][A-Za-z0-9_-]{0,63})"
_PROJECT = r"(?P<project>[A-Za-z0-9][A-Za-z0-9_-]{0,63})-g(?P<generation>[0-9]{1,9})"
_PREFIX = re.compile(rf"{_PROVIDER}/{_PROJECT}/")
_OF_REPOSITORY = re.compile(rf"{_PROVIDER}\.{_PROJECT}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_ACL_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Place(msgspec.Struct, frozen=True):
    """A container, what the keys in it begin with (nothing in the bank's own), and the project that may read it."""

    container: str
    start: str = ""
    project_id: str = ""


class Containers:
    """The containers of one bank. `bank` is the name of its own, and what the others' begin with."""

    def __init__(self, bank: str) -> None:
        if _NAME.fullmatch(bank) is None:
            raise InvalidInput(f"{bank!r} is not the name of a bank's container", field="container")
        self.bank = bank
        self.first = f"{bank}."
        """What the names of the repositories' containers begin with."""

    def of_key(self, key: str) -> Place:
        """Where a key lies, or a prefix that reaches into a repository."""
        found = _PREFIX.match(key)
        if found is None:
            return Place(self.bank)
        container = f"{self.first}{found['provider']}.{found['project']}-g{found['generation']}"
        return Place(container, found[0], found["project"])

    def of_repository(self, prefix: str) -> Place:
        """Where a repository lies; `InvalidInput` where the prefix is none of a repository."""
        place = self.of_key(prefix)
        if not prefix or place.start != prefix:
            raise InvalidInput(f"{prefix!r} is not the prefix of a repository", field="prefix")
        return place

    def below(self, prefix: str, containers: Iterable[str]) -> list[Place]:
        """Those of the containers that are repositories whose keys begin with `prefix`, in the order of keys."""
        named = (_OF_REPOSITORY.fullmatch(name.removeprefix(self.first)) for name in containers)
        places = (self.of_key(f"{name['provider']}/{name['project']}-g{name['generation']}/") for name in named if name)
        return sorted((place for place in places if place.start.startswith(prefix)), key=lambda place: place.start)


def readers(project_ids: Iterable[str]) -> str:
    """The access list by which the users of these projects, whatever their names, read a container."""
    chosen = list(project_ids)
    for project_id in chosen:
        if _ACL_PROJECT.fullmatch(project_id) is None:
            raise InvalidInput(f"{project_id!r} is not the id of a project", field="project_ids")
    return ",".join(f"{project_id}:*" for project_id in chosen)
