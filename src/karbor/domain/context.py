"""Who asks: the caller of a request or the one on whose behalf a run works."""

from __future__ import annotations

import msgspec


class Token:
    """A caller's token while his request lasts. It is no struct on purpose: what holds one cannot be written to the
    journal or shown, because no encoder knows it.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def reveal(self) -> str:
        """The token itself, for the one place that sends it."""
        return self._secret

    def __repr__(self) -> str:
        return "Token(…)"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The authenticated caller. `is_admin` is the policy's answer, not a role name."""

    user_id: str
    project_id: str
    roles: tuple[str, ...] = ()
    is_admin: bool = False
    request_id: str = ""
    user_name: str = ""
    project_name: str = ""
    domain_id: str = ""
    token: Token | None = None
    """Only while the request lasts, and only where there is a cloud."""

    def remembered(self) -> Caller:
        """The caller as runs keep him: without the token."""
        return msgspec.structs.replace(self, token=None)
