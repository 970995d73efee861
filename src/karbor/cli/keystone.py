"""Requests with a token of Keystone, by keystoneauth: the service's address comes from the catalogue of the cloud.

Imported only when it is used: keystoneauth costs a fifth of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keystoneauth1 import exceptions, loading, session
from keystoneauth1.adapter import Adapter

from karbor.cli.server import server
from karbor.cli.transport import Answer
from karbor.errors import InvalidInput, NotAuthenticated, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE_TYPE = "data-protect"


class KeystoneTransport:
    """See `karbor.cli.transport.Transport`."""

    def __init__(self, opened: session.Session, *, interface: str, region: str | None, endpoint: str | None) -> None:
        self._adapter = Adapter(
            opened,
            service_type=SERVICE_TYPE,
            interface=interface,
            region_name=region,
            endpoint_override=endpoint,
            user_agent="karbor",
        )

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """See `Transport`."""
        sent = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            answer = self._adapter.request(path, method, data=body, headers=sent, raise_exc=False)
        except (exceptions.Unauthorized, exceptions.AuthorizationFailure) as error:
            raise NotAuthenticated(f"Keystone refused: {error}") from error
        except exceptions.CatalogException as error:
            raise Unavailable(f"the catalogue has no {SERVICE_TYPE} service: {error}") from error
        except exceptions.ClientException as error:
            cause = str(error).partition(": HTTP")[0]  # what follows is the HTTP library's inner life
            raise Unavailable(f"no answer: {cause}") from error
        received = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(status=answer.status_code, headers=received, body=answer.content)


def session_by(kind: str, options: Mapping[str, str], *, verify: bool | str, timeout: float) -> session.Session:
    """A session by keystoneauth's plugin `kind` and its options by their own names (``auth_url``, ``username``, …)."""
    try:
        loader: loading.BaseLoader[Any] = loading.get_plugin_loader(kind)
        known = {option.dest for option in loader.get_options()}
        auth = loader.load_from_options(**{name: value for name, value in options.items() if name in known})
    except exceptions.ClientException as error:
        raise InvalidInput(f"Keystone: {error}", hint="set OS_AUTH_URL, OS_USERNAME and the others") from error
    return session.Session(auth=auth, verify=verify, timeout=timeout)


def of_cloud(name: str) -> KeystoneTransport:
    """The way to a cloud of ``clouds.yaml``, read by openstacksdk's own rules."""
    config = server("openstack.config")
    try:
        cloud = config.OpenStackConfig().get_one(cloud=name)
    except server("openstack.exceptions").SDKException as error:
        raise InvalidInput(f"clouds.yaml: {error}") from error
    return KeystoneTransport(
        cloud.get_session(),
        interface=cloud.get_interface(SERVICE_TYPE) or "public",
        region=cloud.get_region_name(SERVICE_TYPE),
        endpoint=cloud.get_endpoint(SERVICE_TYPE),
    )
