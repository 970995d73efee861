"""Who may act for a user when his request is long over: one recorded right per user, project and set of roles.

It is recorded as `pending` before it is asked for and as `active` afterwards; whoever finds it pending looks for what
an earlier attempt made.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from karbor.domain.delegation import ACTIVE, PENDING, Delegation, delegation_id
from karbor.errors import Conflict, NotFound

if TYPE_CHECKING:
    from karbor.domain.clock import Clock
    from karbor.domain.context import Caller
    from karbor.protection.catalogue import Catalogue


class Rights(Protocol):
    """How a cloud lets one user act for another; every call uses the caller's own token."""

    def find(self, caller: Caller) -> str:
        """A reference to a right that exists and says what `grant` would, or nothing."""
        ...

    def grant(self, caller: Caller) -> str:
        """Make the right; returns its reference, which is of use to the service alone. `Forbidden` where the cloud
        does not let this caller delegate."""
        ...

    def holds(self, caller: Caller, reference: str) -> bool:
        """Whether the right is still there, with the caller's roles."""
        ...

    def revoke(self, caller: Caller, reference: str) -> None:
        """Take the right back."""
        ...


class Delegations(Protocol):
    """What the service asks for before it begins long work."""

    def ensure(self, caller: Caller) -> str:
        """The id of the caller's delegation, made now if there is none; empty where nothing acts in a cloud."""
        ...


class NoDelegations:
    """Where there is no cloud."""

    def ensure(self, caller: Caller) -> str:  # noqa: ARG002 - nobody has to be asked
        """None is needed."""
        return ""


class RecordedDelegations:
    """Implements `Delegations` over the catalogue and a cloud's rights."""

    def __init__(self, catalogue: Catalogue, rights: Rights, clock: Clock) -> None:
        self._catalogue, self._rights, self._clock = catalogue, rights, clock

    def ensure(self, caller: Caller) -> str:
        """The id of a delegation that holds."""
        known = self._recorded(caller)
        if known.status == ACTIVE and self._rights.holds(caller, known.reference):
            return known.id
        reference = self._rights.find(caller)
        made = "" if reference else self._rights.grant(caller)
        active = msgspec.structs.replace(known, status=ACTIVE, reference=reference or made)
        try:
            self._catalogue.transact(
                lambda tx: self._catalogue.replace(tx, active, expected_status=self._expected(tx, known))
            )
        except Conflict:  # another request of the same user was faster: his serves both
            if made:
                self._rights.revoke(caller, made)
        return known.id

    def _recorded(self, caller: Caller) -> Delegation:
        fresh = Delegation(
            id=delegation_id(caller),
            project_id=caller.project_id,
            project_name=caller.project_name,
            user_id=caller.user_id,
            roles=tuple(sorted(caller.roles)),
            status=PENDING,
            created_at=self._clock.now(),
        )
        with suppress(NotFound):
            return self._catalogue.get(Delegation, caller.project_id, fresh.id)
        with suppress(Conflict):
            self._catalogue.transact(lambda tx: self._catalogue.insert(tx, fresh))
            return fresh
        return self._catalogue.get(Delegation, caller.project_id, fresh.id)

    def _expected(self, tx: object, known: Delegation) -> str:
        """The status that the record must still have; a `Conflict` where somebody else has renewed it meanwhile."""
        now = self._catalogue.get(Delegation, known.project_id, known.id, tx=tx)
        if now.reference != known.reference:
            raise Conflict(f"delegation {known.id} has been renewed meanwhile")
        return now.status
