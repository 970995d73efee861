"""Keystone: keystonemiddleware around the application, and the authenticator that reads what it found out.

What the middleware refuses reaches the application all the same, marked, so that the refusal has v1's shape of errors
and a request id. (Its own `delay_auth_decision` would turn a Keystone that does not answer into a 401.) It removes
identity headers that a client made up. What needs no token (versions, health, OpenAPI) goes past it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from karbor.domain.context import Caller, Token
from karbor.errors import NotAuthenticated, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oslo_config.cfg import ConfigOpts

    Environ = dict[str, Any]
    Start = Callable[..., Any]
    Wsgi = Callable[[Environ, Start], Iterable[bytes]]


_LOG = logging.getLogger(__name__)
_STATUS = "HTTP_X_IDENTITY_STATUS"
_REACHED = "karbor.reached"
_UNAVAILABLE = "Unavailable"


class KeystoneAuth:
    """Believes the headers that keystonemiddleware sets: use it under `behind_keystone` only."""

    def __init__(self, www_authenticate_uri: str) -> None:
        self.challenge = f"Keystone uri='{www_authenticate_uri}'"

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """The owner of a token that Keystone confirmed and that is for a project; `Unavailable` where it could not be
        asked.
        """
        status = headers.get("X-IDENTITY-STATUS")
        if status == _UNAVAILABLE:
            raise Unavailable("Keystone does not answer: the token could not be checked")
        if status != "Confirmed":
            raise NotAuthenticated("The request you have made requires authentication.")
        if not headers.get("X-PROJECT-ID") or not headers.get("X-USER-ID"):
            raise NotAuthenticated("The token is not for a project.")
        return Caller(
            user_id=headers["X-USER-ID"],
            project_id=headers["X-PROJECT-ID"],
            roles=tuple(role.strip() for role in headers.get("X-ROLES", "").split(",") if role.strip()),
            user_name=headers.get("X-USER-NAME", ""),
            project_name=headers.get("X-PROJECT-NAME", ""),
            domain_id=headers.get("X-PROJECT-DOMAIN-ID", ""),
            token=Token(headers.get("X-AUTH-TOKEN", "")),
        )


def behind_keystone(application: Wsgi, conf: ConfigOpts) -> Wsgi:
    """The application behind keystonemiddleware, which reads `[keystone_authtoken]` of `conf`."""
    from keystoneauth1.exceptions import ClientException  # noqa: PLC0415 - with the next, half a second to import
    from keystonemiddleware import auth_token  # noqa: PLC0415 - only where Keystone is used

    def reached(environ: Environ, start_response: Start) -> Iterable[bytes]:
        environ[_REACHED] = True
        return application(environ, start_response)

    middleware = auth_token.AuthProtocol(reached, {"oslo_config_config": conf})

    def answer(environ: Environ, start_response: Start) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith("/v1"):
            return application(environ, start_response)
        refused = _UNAVAILABLE

        def begin(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal refused
            if _REACHED in environ:
                return start_response(status, headers, *rest)
            refused = "Invalid" if status.startswith("401") else _UNAVAILABLE
            return _discard

        try:
            body: Iterable[bytes] = middleware(environ, begin)
        except ClientException:
            if _REACHED in environ:
                raise
            _LOG.exception("Keystone cannot be asked about a token")
        if _REACHED in environ:
            return body
        environ[_STATUS] = refused
        return application(environ, start_response)

    return answer


def _discard(data: bytes) -> None:
    """What the middleware would have said."""
