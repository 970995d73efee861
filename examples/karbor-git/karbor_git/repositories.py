"""What there is to protect: the repositories in one folder."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karbor.domain.resource import Resource
from karbor.errors import NotFound
from karbor.sdk.protectable import Protectable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from karbor.sdk.protectable import Session

GIT_REPOSITORY = "Example::Git::Repository"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "git.example.karbor")


class Repositories(Protectable):
    """Bare repositories, ``*.git``, directly in the folder that the option `root` names."""

    type = GIT_REPOSITORY
    parents = ()

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.root = Path(str(options.get("root", "/srv/git")))

    def list(self, session: Session) -> Iterable[Resource]:
        """Every repository. A folder that cannot be read raises: an empty answer would say that nothing is there."""
        del session  # a cloud's plugin would ask in the caller's name
        return [resource_of(path) for path in self._paths()]

    def dependents(self, session: Session, parents: Iterable[Resource]) -> dict[str, Any]:
        """None: repositories depend on nothing and nothing on them."""
        del session, parents
        return {}

    def path(self, resource: Resource) -> Path:
        """Where a repository is. It is looked for by id: a tenant's plan may say anything in name and extra info."""
        for path in self._paths():
            if resource_of(path).id == resource.id:
                return path
        raise NotFound(f"no repository {resource.name or resource.id} in {self.root}")

    def _paths(self) -> Iterator[Path]:
        return (path for path in sorted(self.root.iterdir()) if path.suffix == ".git" and path.is_dir())


def resource_of(path: Path) -> Resource:
    """The resource of a repository; its id follows from its name, so a lost one can be restored under the same id."""
    return Resource(type=GIT_REPOSITORY, id=str(uuid.uuid5(_NAMESPACE, path.name)), name=path.name)
