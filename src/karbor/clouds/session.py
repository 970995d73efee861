"""Sessions to OpenStack: in a caller's own name while his request lasts, or by a delegation for long work."""

from __future__ import annotations

import threading
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from karbor.clouds.guard import Guarded, translated
from karbor.errors import Forbidden, InvalidInput, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from keystoneauth1.session import Session as HttpSession

    from karbor.domain.clock import Clock
    from karbor.domain.context import Caller
    from karbor.domain.delegation import Delegation

SECTION = "trustee"
"""v1's section for the user to whom users delegate."""
_BLOCK = 1 << 20
_DATA_TIMEOUT = 120.0
_KEPT = 256


class Link:
    """One authenticated way into the cloud, used by any number of sessions; nothing is contacted before its first use."""

    def __init__(self, http: HttpSession, *, region: str, interface: str) -> None:
        self.http, self.region, self.interface = http, region, interface

    @cached_property
    def connection(self) -> Any:
        """Openstacksdk's connection."""
        from openstack.connection import Connection  # noqa: PLC0415 - a second, and only where there is a cloud

        with translated("identity"):
            return Connection(session=self.http, region_name=self.region or None, interface=self.interface)


class OpenStackSession:
    """Implements `karbor.sdk.cloud.CloudSession`: one request of the API, or one step of a run."""

    def __init__(
        self,
        link: Link,
        *,
        project_id: str,
        project_name: str,
        user_id: str,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.project_id, self.project_name, self.user_id = project_id, project_name, user_id
        self.region = link.region
        self.timeout = float(link.http.timeout or 0.0)
        self._link, self._check = link, check
        self._memory: dict[str, Any] = {}

    @cached_property
    def connection(self) -> Guarded:
        """Openstacksdk's connection, guarded."""
        return Guarded(self._link.connection, "", self._check)

    def has(self, service_type: str) -> bool:
        """Whether the catalogue names such a service."""
        with translated("identity"):
            return bool(
                self._link.connection.endpoint_for(
                    service_type, interface=self._link.interface, region_name=self.region or None
                )
            )

    def read_image(self, image_id: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of an image from an offset."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        self._check()
        with translated("image"):
            answer = self._link.connection.image.get(
                f"/images/{image_id}/file", headers=headers, stream=True, timeout=_DATA_TIMEOUT, raise_exc=True
            )
        if offset and answer.status_code != 206:
            raise Forbidden(f"image: {image_id} cannot be read from the middle")
        with answer:
            blocks = answer.iter_content(_BLOCK)
            while True:
                with translated("image"):
                    block = next(blocks, None)
                if block is None:
                    return
                yield block

    def write_image(self, image_id: str, size: int, blocks: Iterable[bytes]) -> None:
        """Upload the bytes of an image."""
        self._check()
        self._link.http.get_token()  # a fresh one: a body that was sent cannot be sent again after a 401
        headers = {"Content-Type": "application/octet-stream", "Accept": ""}
        with translated("image"):
            self._link.connection.image.put(
                f"/images/{image_id}/file",
                data=_Body(size, blocks),
                headers=headers,
                timeout=_DATA_TIMEOUT,
                raise_exc=True,
                log=False,
            )

    def remembered(self, name: str, load: Callable[[], Any]) -> Any:
        """What `load` gave when it was first asked for in this session."""
        if name not in self._memory:
            self._memory[name] = load()
        return self._memory[name]


class _Body:
    """Blocks of a known length in all, as HTTP sends them."""

    def __init__(self, size: int, blocks: Iterable[bytes]) -> None:
        self._size, self._blocks = size, blocks

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._blocks)


class Clouds:
    """Makes the sessions of one cloud. `conf` is a ConfigOpts with the section [trustee], as keystoneauth reads it.

    `timeout` bounds one call, in seconds: shorter than what is left of a worker's lease between two heartbeats.
    `deadline` bounds everything that one request to the API does in the cloud.
    """

    def __init__(
        self, conf: Any, *, region: str, interface: str, timeout: float, deadline: float, clock: Clock
    ) -> None:
        self._conf, self._clock = conf, clock
        self._timeout, self._deadline = timeout, deadline
        self._link = partial(Link, region=region, interface=interface)
        self._lock = threading.Lock()
        self._delegated: dict[str, Link] = {}

    def of_caller(self, caller: Caller) -> OpenStackSession:
        """In the name of the caller, by his own token, until the deadline."""
        from karbor.clouds.token import HeldToken  # noqa: PLC0415 - keystoneauth at first use

        if caller.token is None:
            raise Forbidden("this request came without a token that the cloud would accept")
        ends = self._clock.monotonic() + self._deadline

        def check() -> None:
            if self._clock.monotonic() > ends:
                raise Timeout(f"the cloud has not answered within {self._deadline:.0f} seconds")

        http = self._http(HeldToken(self.auth_url, caller.token.reveal()), min(self._timeout, self._deadline))
        return OpenStackSession(
            self._link(http),
            project_id=caller.project_id,
            project_name=caller.project_name,
            user_id=caller.user_id,
            check=check,
        )

    def of_delegation(self, delegation: Delegation) -> OpenStackSession:
        """In the name of the user who delegated; the way in is kept, so that its token is used as long as it lasts."""
        with self._lock:
            link = self._delegated.get(delegation.reference)
            if link is None:
                link = self._link(self._http(self._trustee(trust_id=delegation.reference), self._timeout))
                self._delegated[delegation.reference] = link
                if len(self._delegated) > _KEPT:
                    del self._delegated[next(iter(self._delegated))]
        return OpenStackSession(
            link,
            project_id=delegation.project_id,
            project_name=delegation.project_name,
            user_id=delegation.user_id,
        )

    @cached_property
    def trustee_id(self) -> str:
        """Id of the service's own user, to whom users delegate."""
        with translated("identity"):
            return str(self._http(self._trustee(), self._timeout).get_user_id())

    @cached_property
    def auth_url(self) -> str:
        """Where Keystone is."""
        return str(self._trustee().auth_url)

    def _trustee(self, **scope: str) -> Any:
        from keystoneauth1 import loading  # noqa: PLC0415 - at first use

        with translated("identity"):
            loading.register_auth_conf_options(self._conf, SECTION)
            plugin = loading.load_auth_from_conf_options(self._conf, SECTION, **scope)
        if plugin is None:
            raise InvalidInput("section [trustee] has no auth_type: the service's own user is unknown", field=SECTION)
        return plugin

    def _http(self, auth: Any, timeout: float) -> HttpSession:
        from keystoneauth1 import loading  # noqa: PLC0415 - at first use

        loading.register_session_conf_options(self._conf, SECTION)
        session: HttpSession = loading.load_session_from_conf_options(self._conf, SECTION, auth=auth)
        session.timeout = timeout
        return session
