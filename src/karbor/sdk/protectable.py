"""The protectable port: how resources of one type are found, with what they depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from karbor.domain.resource import Resource


class Session(Protocol):
    """In whose name and with what the inventory is looked at; a cloud's session adds its connection."""

    project_id: str
    project_name: str


class Protectable:
    """Derive from this. One instance serves every project and thread: keep nothing of a caller in it.

    A listing that fails raises: it is never answered with fewer resources.
    """

    type: ClassVar[str]
    """The resource type it lists."""
    parents: ClassVar[tuple[str, ...]]
    """Types of resources that may depend on this type."""

    def list(self, session: Session) -> Iterable[Resource]:
        """Every resource of the type that the project has and that can be protected, paged through to the end."""
        raise NotImplementedError  # a listing is what the port is for

    def dependents(self, session: Session, parents: Iterable[Resource]) -> Mapping[str, Sequence[Resource]]:
        """Resources of this type by the key of the parent that depends on them, from one listing for all parents."""
        raise NotImplementedError  # a listing is what the port is for

    def show(self, session: Session, ident: str) -> Resource | None:
        """One resource by its id, or None where there is no such resource for this project."""
        return next((resource for resource in self.list(session) if resource.id == ident), None)
