"""Keystone: keystonemiddleware around the application, and the authenticator that reads what it found out.

The middleware is told to delay its decision, so that a refusal has v1's shape of errors and what needs no token
(versions, health, OpenAPI) answers without one. It removes identity headers that a client made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.domain.context import Caller, Token
from karbor.errors import NotAuthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oslo_config.cfg import ConfigOpts

    Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class KeystoneAuth:
    """Believes the headers that keystonemiddleware sets: use it under `behind_keystone` only."""

    def __init__(self, www_authenticate_uri: str) -> None:
        self.challenge = f"Keystone uri='{www_authenticate_uri}'"

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """The owner of a token that Keystone confirmed and that is for a project."""
        if headers.get("X-IDENTITY-STATUS") != "Confirmed":
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
    from keystonemiddleware import auth_token  # noqa: PLC0415 - half a second, and only where Keystone is used

    options = {"oslo_config_config": conf, "delay_auth_decision": True}
    protected: Wsgi = auth_token.AuthProtocol(application, options)
    return protected
