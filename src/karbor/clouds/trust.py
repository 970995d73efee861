"""Acting for a user by Keystone trusts (Identity API v3, OS-TRUST): he trusts the service's user with his roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from karbor.clouds.session import Clouds
    from karbor.domain.context import Caller

_IMPLIED = frozenset({"reader", "member"})
"""What Keystone adds to an `admin` or `member` by implication: trusted without being named."""


class Trusts:
    """Implements `karbor.protection.delegation.Rights`."""

    def __init__(self, clouds: Clouds) -> None:
        self._clouds = clouds

    def find(self, caller: Caller) -> str:
        """The id of a trust that says what `grant` would; empty where there is none."""
        identity = self._clouds.of_caller(caller).connection.identity
        for trust in identity.trusts(trustor_user_id=caller.user_id, trustee_user_id=self._clouds.trustee_id):
            # A listing names no roles: they are only shown one by one.
            if trust.project_id == caller.project_id and self._holds(identity, trust.id, caller):
                return str(trust.id)
        return ""

    def grant(self, caller: Caller) -> str:
        """Make a trust with the caller's roles in his project and return its id. It has no end of its own."""
        identity = self._clouds.of_caller(caller).connection.identity
        try:
            trust = identity.create_trust(
                trustor_user_id=caller.user_id,
                trustee_user_id=self._clouds.trustee_id,
                project_id=caller.project_id,
                impersonation=True,
                roles=[{"name": role} for role in caller.roles],
            )
        except Forbidden as error:
            raise Forbidden(
                f"Keystone lets this token delegate nothing: {error.message}",
                hint="a token of a trust never can, one of an application credential only if that is unrestricted",
            ) from error
        return str(trust.id)

    def holds(self, caller: Caller, reference: str) -> bool:
        """Whether a trust still is what `grant` would make."""
        return self._holds(self._clouds.of_caller(caller).connection.identity, reference, caller)

    def revoke(self, caller: Caller, reference: str) -> None:
        """Remove a trust; one that is gone is as good."""
        identity = self._clouds.of_caller(caller).connection.identity
        identity.delete_trust(reference, ignore_missing=True)

    def _holds(self, identity: Any, reference: str, caller: Caller) -> bool:
        try:
            trust = identity.get_trust(reference)
        except NotFound:
            return False
        granted = {role["name"] for role in trust.roles or ()}
        return bool(granted) and set(caller.roles) - _IMPLIED <= granted
