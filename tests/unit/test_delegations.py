"""One recorded right per user, project and set of roles, whatever breaks in between."""

from __future__ import annotations

import pytest

from karbor.db.catalogue import SqlCatalogue
from karbor.db.engine import Database
from karbor.db.migrate import upgrade
from karbor.domain.context import Caller, Token
from karbor.domain.delegation import ACTIVE, PENDING, Delegation
from karbor.errors import Unavailable
from karbor.protection.delegation import RecordedDelegations
from karbor.system import SystemClock

CALLER = Caller(user_id="u", project_id="p", roles=("member", "reader"), token=Token("t"))


class Keystone:
    """Rights as a cloud keeps them."""

    def __init__(self):
        self.rights = []
        self.broken = False

    def find(self, caller):
        return next(iter(self.rights), "")

    def grant(self, caller):
        self.rights.append(f"right-{len(self.rights) + 1}")
        if self.broken:
            raise Unavailable("the answer was lost")
        return self.rights[-1]

    def holds(self, caller, reference):
        return reference in self.rights

    def revoke(self, caller, reference):
        self.rights.remove(reference)


@pytest.fixture
def catalogue(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/k.db", clock=SystemClock())
    upgrade(database)
    yield SqlCatalogue(database)
    database.close()


@pytest.fixture
def keystone():
    return Keystone()


@pytest.fixture
def delegations(catalogue, keystone):
    return RecordedDelegations(catalogue, keystone, SystemClock())


def test_one_right_serves_every_request(delegations, keystone, catalogue):
    ident = delegations.ensure(CALLER)
    assert delegations.ensure(CALLER) == ident
    assert keystone.rights == ["right-1"]
    record = catalogue.get(Delegation, "p", ident)
    assert (record.status, record.reference) == (ACTIVE, "right-1")


def test_other_roles_are_another_right(delegations):
    import msgspec

    assert delegations.ensure(CALLER) != delegations.ensure(msgspec.structs.replace(CALLER, roles=("reader",)))


def test_a_lost_answer_leaves_no_second_right(delegations, keystone, catalogue):
    keystone.broken = True
    with pytest.raises(Unavailable):
        delegations.ensure(CALLER)
    from karbor.domain.delegation import delegation_id

    assert catalogue.get(Delegation, "p", delegation_id(CALLER)).status == PENDING
    keystone.broken = False
    delegations.ensure(CALLER)
    assert keystone.rights == ["right-1"]


def test_a_right_that_was_taken_back_is_made_anew(delegations, keystone, catalogue):
    ident = delegations.ensure(CALLER)
    keystone.rights[:] = []
    assert delegations.ensure(CALLER) == ident
    assert catalogue.get(Delegation, "p", ident).reference == "right-1"
    assert len(keystone.rights) == 1


def test_no_token_is_recorded(delegations, catalogue):
    import msgspec

    assert b'"t"' not in msgspec.json.encode(catalogue.get(Delegation, "p", delegations.ensure(CALLER)))
    with pytest.raises(TypeError):
        msgspec.json.encode(CALLER)
    assert msgspec.json.decode(msgspec.json.encode(CALLER.remembered()), type=Caller).token is None
