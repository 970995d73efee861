"""A session to an OpenStack cloud, as protectables and protections of cloud resources see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from karbor.sdk.protectable import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class CloudSession(Session, Protocol):
    """Acts for one user in one project. Whatever is called through it raises `KarborError`s only, naming the service,
    its status and the id of the request; every call has a timeout.
    """

    user_id: str
    region: str
    timeout: float
    """Seconds that one call takes at most."""

    @property
    def connection(self) -> Any:
        """Openstacksdk's connection: ``session.connection.block_storage.volumes()`` and so on."""
        ...

    def has(self, service_type: str) -> bool:
        """Whether the cloud's catalogue names such a service in this region."""
        ...

    def read_image(self, image_id: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of an image from an offset."""
        ...

    def write_image(self, image_id: str, size: int, blocks: Iterable[bytes]) -> None:
        """Upload the bytes of an image that is `queued`; `size` bytes in all."""
        ...

    def remembered(self, name: str, load: Callable[[], Any]) -> Any:
        """What `load` gave when it was first asked for under `name` in this session, which is that of one request of
        the API or of one step of a run: so that lists are asked for once."""
        ...
