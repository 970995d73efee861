"""From declarations to resources and back: stable ids, and the declaration behind a resource key."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.domain.resource import HOST_APPLICATION, HOST_DATABASE, HOST_DIRECTORY, HOST_DISK_IMAGE, Resource
from karbor.errors import NotFound
from karbor.plugins.host.declaration import Application, Directory, DiskImage, Member, Server, load_declarations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "host.karbor")


class Declared(msgspec.Struct, frozen=True):
    """What a resource stands for: the application, and the member unless it is the application itself."""

    application: Application
    resource: Resource
    member: Member | None = None


class Inventory:
    """The declared resources, read anew each time: an administrator's change holds at once.

    `options` are those of the configuration: ``hosts_dir``, and ``never``: the absolute paths of the service's own
    bank, state and keys, joined by `os.pathsep`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._directory = str(options.get("hosts_dir", ""))
        never = str(options.get("never", "")).split(os.pathsep)
        self.never = tuple(os.path.realpath(path) for path in never if path)

    def all(self) -> Iterator[Declared]:
        """Everything declared: each application before its members. Raises `InvalidInput` where a file is wrong."""
        for application in load_declarations(self._directory) if self._directory else ():
            yield Declared(application, application_resource(application))
            for member in application.members:
                yield Declared(application, member_resource(application, member), member)

    def find(self, resource: Resource) -> Declared:
        """What is declared for a resource; `NotFound` where nothing is.

        Only type and id count: name and extra info come from whoever sent the resource.
        """
        for declared in self.all():
            if declared.resource.key == resource.key:
                return declared
        raise NotFound(
            f"{resource.key} ({resource.name}) is not declared in {self._directory}",
            hint="declare the application again under the same name and with the same paths: ids follow from them",
        )

    def member(self, resource: Resource, kind: type[Any]) -> tuple[Application, Any]:
        """The application and the member of one kind that a resource stands for; `NotFound` where there is none."""
        declared = self.find(resource)
        if not isinstance(declared.member, kind):
            raise NotFound(f"{resource.key} is not declared as {kind.__name__}")
        return declared.application, declared.member


def application_resource(application: Application) -> Resource:
    """The resource of an application."""
    return Resource(
        type=HOST_APPLICATION,
        id=str(uuid.uuid5(_NAMESPACE, application.name)),
        name=application.name,
        extra_info={"kind": "application"},
    )


def member_resource(application: Application, member: Member) -> Resource:
    """The resource of a member; its id follows from the application's name and the member's."""
    extra = {"kind": _kind(member), "application": application.name, "layer": member.layer}
    if not isinstance(member, Server):
        extra["path"] = member.path
    return Resource(
        type=_type(member),
        id=str(uuid.uuid5(_NAMESPACE, f"{application.name}\n{member.name}")),
        name=member.name,
        extra_info=extra,
        layer=member.layer,
    )


def moved(resource: Resource, path: str) -> Resource:
    """The resource that a restore to another path made."""
    return Resource(
        type=resource.type,
        id=str(uuid.uuid5(_NAMESPACE, f"{resource.key}\n{path}")),
        name=path,
        extra_info={**(resource.extra_info or {}), "path": path},
        layer=resource.layer,
    )


def _type(member: Member) -> str:
    if isinstance(member, Directory):
        return HOST_DIRECTORY
    return HOST_DISK_IMAGE if isinstance(member, DiskImage) else HOST_DATABASE


def _kind(member: Member) -> str:
    return member.engine if isinstance(member, Server) else str(member.__struct_config__.tag)
