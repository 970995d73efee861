"""What there is to protect of networks: one thing that stands for all of a project's, as in v1; any one network by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from karbor.domain.resource import NETWORK, Resource
from karbor.errors import NotFound
from karbor.plugins.cloud_inventory import CloudProtectable
from karbor.plugins.network.neutron import Neutron

if TYPE_CHECKING:
    from collections.abc import Iterable

    from karbor.plugins.cloud_inventory import Dependents
    from karbor.sdk.cloud import CloudSession
    from karbor.sdk.protectable import Session

TOPOLOGY = "Network Topology"


class Networks(CloudProtectable):
    """The topology has the project's id; there is none where the project has no network."""

    type = NETWORK

    def found(self, session: CloudSession) -> Iterable[Any]:
        """By one listing."""
        return [row for row in Neutron(session).seen("networks") if row["project_id"] == session.project_id]

    def list(self, session: Session) -> Iterable[Resource]:
        """At most one."""
        if not self.found(cast("CloudSession", session)):
            return []
        return [Resource(type=NETWORK, id=session.project_id, name=TOPOLOGY)]

    def dependents(self, session: Session, parents: Iterable[Resource]) -> Dependents:
        """The topology, below the project."""
        found = [*self.list(session)]
        known = [*parents]
        for parent in known:
            if parent.id != session.project_id:
                raise NotFound(f"project {parent.id} is not the one that the caller's token is for")
        return {parent.key: found for parent in known}

    def show(self, session: Session, ident: str) -> Resource | None:
        """The topology, or one of the project's networks."""
        if ident == session.project_id:
            return next(iter(self.list(session)), None)
        rows = self.found(cast("CloudSession", session))
        return next((Resource(type=NETWORK, id=ident, name=row["name"]) for row in rows if row["id"] == ident), None)
