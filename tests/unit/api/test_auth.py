from __future__ import annotations

import pytest

from karbor.api.auth import NoAuth, StaticAuth
from karbor.api.keystone import KeystoneAuth
from karbor.domain.context import Caller
from karbor.errors import InvalidInput, NotAuthenticated

CALLER = Caller(user_id="u", project_id="p")


def test_static_tokens():
    auth = StaticAuth({"secret": CALLER})
    assert auth.authenticate({"X-AUTH-TOKEN": "secret"}) == CALLER
    for headers in ({}, {"X-AUTH-TOKEN": ""}, {"X-AUTH-TOKEN": "other"}):
        with pytest.raises(NotAuthenticated):
            auth.authenticate(headers)
    assert "secret" not in repr(vars(auth))


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_noauth_is_refused_where_others_reach_it(address):
    with pytest.raises(InvalidInput, match="loopback"):
        NoAuth(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_noauth_believes_the_request(address):
    auth = NoAuth(address)
    assert auth.authenticate({"X-AUTH-TOKEN": "u:p"}) == Caller(user_id="u", project_id="p", roles=("admin",))
    assert auth.authenticate({}).project_id == "admin"
    assert auth.authenticate({"X-AUTH-PROJECT-ID": "q"}).project_id == "q"


def test_keystone_reads_what_the_middleware_found():
    auth = KeystoneAuth("https://keystone.example/v3")
    headers = {
        "X-IDENTITY-STATUS": "Confirmed",
        "X-USER-ID": "u",
        "X-PROJECT-ID": "p",
        "X-ROLES": "member, reader",
        "X-PROJECT-NAME": "demo",
    }
    caller = auth.authenticate(headers)
    assert (caller.user_id, caller.project_id, caller.roles) == ("u", "p", ("member", "reader"))
    assert auth.challenge == "Keystone uri='https://keystone.example/v3'"
    for missing in ({**headers, "X-IDENTITY-STATUS": "Invalid"}, {**headers, "X-PROJECT-ID": ""}, {}):
        with pytest.raises(NotAuthenticated):
            auth.authenticate(missing)
