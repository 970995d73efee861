"""What there is to protect in an OpenStack project: one paged listing per type, for any number of parents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from karbor.domain.resource import DATABASE, IMAGE, POD, PROJECT, SERVER, VOLUME, Resource
from karbor.errors import NotFound
from karbor.sdk.protectable import Protectable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from karbor.sdk.cloud import CloudSession
    from karbor.sdk.protectable import Session

    Found = list[Resource]
    Dependents = dict[str, Found]


def servers_of(session: CloudSession) -> Sequence[Any]:
    """Every server of the project, listed once in a session."""
    found: Sequence[Any] = session.remembered("servers", lambda: list(session.connection.compute.servers(details=True)))
    return found


class Projects(Protectable):
    """The caller's own project."""

    type = PROJECT
    parents = ()

    def __init__(self, options: Mapping[str, Any]) -> None:
        del options

    def list(self, session: Session) -> Iterable[Resource]:
        """One: the project that the session is for."""
        return [Resource(type=PROJECT, id=session.project_id, name=session.project_name)]

    def dependents(self, session: Session, parents: Iterable[Resource]) -> Dependents:  # noqa: ARG002
        """None: nothing has a project below it."""
        return {}


class CloudProtectable(Protectable):
    """What the protectables of a cloud share: `found` lists, `below` says which parent a thing belongs to."""

    parents: ClassVar[tuple[str, ...]] = (PROJECT,)
    unfit: ClassVar[frozenset[str]] = frozenset()
    """Statuses, in upper case, in which a resource is not listed."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        del options

    def found(self, session: CloudSession) -> Iterable[Any]:
        """Every resource of the type that the project sees, as openstacksdk has it."""
        raise NotImplementedError  # a listing is what the port is for

    def resource(self, item: Any) -> Resource:
        """The resource."""
        return Resource(type=self.type, id=item.id, name=item.name or "")

    def owned(self, session: CloudSession, item: Any) -> bool:  # noqa: ARG002 - of most types only one's own is seen
        """Whether it belongs to the project, and not only is seen by it."""
        return True

    def needed_by(self, session: CloudSession, items: Sequence[Any]) -> Iterator[tuple[str, Resource]]:
        """Ids of servers with what they need of this type."""
        del session, items
        return iter(())

    def list(self, session: Session) -> Iterable[Resource]:
        """Every resource of the type that is fit to be protected."""
        found = self.found(cast("CloudSession", session))
        return [self.resource(item) for item in found if str(item.status or "").upper() not in self.unfit]

    def dependents(self, session: Session, parents: Iterable[Resource]) -> Dependents:
        """What projects own and servers need; a server's is listed in any state."""
        cloud = cast("CloudSession", session)
        items = [*self.found(cloud)]
        mine = [item for item in items if str(item.status or "").upper() not in self.unfit and self.owned(cloud, item)]
        needed: Dependents = {}
        known = [*parents]
        if any(parent.type == SERVER for parent in known):
            for server_id, resource in self.needed_by(cloud, items):
                needed.setdefault(server_id, []).append(resource)
        return {
            parent.key: self._of_project(cloud, parent, mine) if parent.type == PROJECT else needed.get(parent.id, [])
            for parent in known
        }

    def _of_project(self, session: CloudSession, project: Resource, mine: Sequence[Any]) -> Found:
        if project.id != session.project_id:
            raise NotFound(f"project {project.id} is not the one that the caller's token is for")
        return [self.resource(item) for item in mine]


class Servers(CloudProtectable):
    """Servers of the project."""

    type = SERVER
    unfit = frozenset({"DELETED", "ERROR", "UNKNOWN", "SOFT_DELETED", "RESCUED", "RESCUE"})

    def found(self, session: CloudSession) -> Iterable[Any]:
        """By one listing."""
        return servers_of(session)


class Volumes(CloudProtectable):
    """Volumes, also as what is attached to a server."""

    type = VOLUME
    parents = (SERVER, PROJECT)
    unfit = frozenset({"ERROR", "DELETING", "ERROR_DELETING"})

    def found(self, session: CloudSession) -> Iterable[Any]:
        """By one listing; Karbor's own temporaries are none of the tenant's."""
        listed = session.connection.block_storage.volumes(details=True)
        return [volume for volume in listed if not (volume.metadata or {}).get("karbor-temporary")]

    def resource(self, item: Any) -> Resource:
        """With its availability zone."""
        extra = {"availability_zone": item.availability_zone}
        return Resource(type=VOLUME, id=item.id, name=item.name or "", extra_info=extra)

    def needed_by(self, session: CloudSession, items: Sequence[Any]) -> Iterator[tuple[str, Resource]]:
        """What is attached, as Cinder knows it."""
        del session
        for item in items:
            for attachment in item.attachments or ():
                yield attachment["server_id"], self.resource(item)


class Images(CloudProtectable):
    """Images that the project sees; those it owns below the project, those its servers were made from below them."""

    type = IMAGE
    parents = (SERVER, PROJECT)
    unfit = frozenset({"KILLED", "DELETED", "PENDING_DELETE", "DEACTIVATED"})

    def found(self, session: CloudSession) -> Iterable[Any]:
        """By one listing; Karbor's own temporaries are none of the tenant's."""
        listed = session.connection.image.images()
        return [image for image in listed if not (image.name or "").startswith("karbor-temporary-")]

    def owned(self, session: CloudSession, item: Any) -> bool:
        """Public and shared ones are seen, too."""
        return bool(item.owner_id == session.project_id)

    def needed_by(self, session: CloudSession, items: Sequence[Any]) -> Iterator[tuple[str, Resource]]:
        """The image that a server was made from, where it still exists: the server's own disk is saved with it."""
        known = {item.id: item for item in items}
        for server in servers_of(session):
            image = known.get((server.image or {}).get("id"))
            if image is not None:
                extra = {"server_id": server.id}
                yield server.id, Resource(type=IMAGE, id=image.id, name=image.name or "", extra_info=extra)


class Databases(CloudProtectable):
    """Trove's instances; none where the cloud has no Trove."""

    type = DATABASE
    unfit = frozenset({"BUILD", "REBOOT", "RESIZE", "ERROR"})

    def found(self, session: CloudSession) -> Iterable[Any]:
        """By one listing."""
        return session.connection.database.instances() if session.has("database") else ()


class Pods(CloudProtectable):
    """The type is known; no Kubernetes is asked for pods, so there are none."""

    type = POD

    def found(self, session: CloudSession) -> Iterable[Any]:
        """None."""
        del session
        return ()
