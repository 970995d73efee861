"""What there is to protect on this host: declared applications, and their members as dependents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.domain.resource import HOST_APPLICATION, HOST_DATABASE, HOST_DIRECTORY, HOST_DISK_IMAGE
from karbor.errors import NotFound
from karbor.plugins.host.inventory import Inventory
from karbor.sdk.protectable import Protectable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.domain.resource import Resource
    from karbor.sdk.protectable import Session

    Dependents = dict[str, list[Resource]]


class Applications(Protectable):
    """Applications that the administrator declared."""

    type = HOST_APPLICATION
    parents = ()

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._inventory = Inventory(options)

    def list(self, session: Session) -> Iterable[Resource]:  # noqa: ARG002 - a host has one project
        """Every declared application."""
        return [declared.resource for declared in self._inventory.all() if declared.member is None]

    def dependents(self, session: Session, parents: Iterable[Resource]) -> Dependents:  # noqa: ARG002
        """None: nothing has an application below it."""
        return {}


class Members(Protectable):
    """Members of one type; the classes below say which."""

    parents = (HOST_APPLICATION,)

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._inventory = Inventory(options)

    def list(self, session: Session) -> Iterable[Resource]:  # noqa: ARG002 - a host has one project
        """Every declared member of the type."""
        return [declared.resource for declared in self._inventory.all() if declared.resource.type == self.type]

    def dependents(self, session: Session, parents: Iterable[Resource]) -> Dependents:  # noqa: ARG002
        """Members by application. One that is no longer declared is `NotFound`: a checkpoint never shrinks silently."""
        found: Dependents = {}
        key = ""
        for declared in self._inventory.all():
            if declared.member is None:
                key = declared.resource.key
                found[key] = []
            elif declared.resource.type == self.type:
                found[key].append(declared.resource)
        wanted = {parent.key: parent for parent in parents}
        for gone in sorted(wanted.keys() - found.keys()):
            raise NotFound(f"application {wanted[gone].name or gone} is not declared on this host")
        return {key: found[key] for key in wanted}


class Directories(Members):
    """Directories of declared applications."""

    type = HOST_DIRECTORY


class DiskImages(Members):
    """Disk images of declared applications."""

    type = HOST_DISK_IMAGE


class Databases(Members):
    """Databases of declared applications."""

    type = HOST_DATABASE
