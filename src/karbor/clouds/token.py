"""A caller's own token as keystoneauth wants it: its catalogue is asked for, the token is never exchanged.

Tokens of application credentials and of trusts cannot be rescoped, and need not be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keystoneauth1.access import AccessInfo, create
from keystoneauth1.identity.base import BaseIdentityPlugin

if TYPE_CHECKING:
    from keystoneauth1.session import Session


class HeldToken(BaseIdentityPlugin):
    """Uses one token as it is; when it ends, so does the session."""

    def __init__(self, auth_url: str, token: str) -> None:
        super().__init__(auth_url=auth_url, reauthenticate=False)
        self._held = token

    def get_auth_ref(self, session: Session, **_options: Any) -> AccessInfo:
        """Ask Keystone what the token is for (Identity API v3, GET /auth/tokens)."""
        headers = {"X-Auth-Token": self._held, "X-Subject-Token": self._held}
        base = str(self.auth_url).rstrip("/").removesuffix("/v3")
        answer = session.get(f"{base}/v3/auth/tokens", headers=headers, authenticated=False, log=False)
        return create(body=answer.json(), auth_token=self._held)

    @property
    def has_scope_parameters(self) -> bool:
        """The token is for a project already."""
        return True
