"""Who asks: the port, and the two authenticators that need no Keystone.

Headers come with upper-case names, as Falcon gives them. An authenticator leaves `Caller.is_admin` to the policy.
"""

from __future__ import annotations

import hashlib
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from karbor.domain.context import Caller
from karbor.errors import InvalidInput, NotAuthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping


class Authenticator(Protocol):
    """Finds the caller of a request."""

    challenge: str
    """What a 401 says in `WWW-Authenticate`."""

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """The caller; raises `NotAuthenticated`."""
        ...


class StaticAuth:
    """Fixed tokens, as the standalone service has one. Only their digests are kept and compared."""

    challenge = "Token"

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self._callers = {_digest(token): caller for token, caller in callers.items()}

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """The caller whose token stands in `X-Auth-Token`."""
        caller = self._callers.get(_digest(headers.get("X-AUTH-TOKEN", "")))
        if caller is None:
            raise NotAuthenticated("The request you have made requires authentication.")
        return caller


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class NoAuth:
    """For tests: believes what the request says, as v1's `noauth` did. Everyone is an administrator.

    A token is ``user:project``; without one, `X-Auth-User` and `X-Auth-Project-Id` count, each `admin` by default.
    """

    challenge = "None"

    def __init__(self, address: str) -> None:
        """`address` is where the service listens; raises `InvalidInput` where others can reach it."""
        if address != "localhost" and not _is_loopback(address):
            raise InvalidInput(f"auth_strategy noauth is refused on {address}: it is for a loopback address only")

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """Whoever the request says it comes from."""
        user, _, project = headers.get("X-AUTH-TOKEN", "").partition(":")
        user = user or headers.get("X-AUTH-USER", "admin")
        project = project or headers.get("X-AUTH-PROJECT-ID", "admin")
        return Caller(user_id=user, project_id=project, roles=("admin",))


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
