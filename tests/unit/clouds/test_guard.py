"""What the cloud's libraries raise becomes an error of ours that says who, what and in which request."""

from __future__ import annotations

import pytest
from keystoneauth1 import exceptions as auth
from openstack import exceptions as sdk

from karbor.clouds.guard import Guarded, translated
from karbor.domain.context import Token
from karbor.errors import Conflict, Forbidden, NotFound, OverLimit, ResourceFailed, Timeout, Unavailable


def http(status, message="no", request_id="req-1"):
    error = auth.HttpError(message, http_status=status, request_id=request_id)
    error.http_status = status
    return error


@pytest.mark.parametrize(
    ("raised", "wanted"),
    [
        (http(404), NotFound),
        (http(403), Forbidden),
        (http(403, "Quota exceeded for instances"), OverLimit),
        (http(409), Conflict),
        (http(400), ResourceFailed),
        (http(500), Unavailable),
        (http(429), Unavailable),
        (auth.ConnectTimeout("slow"), Timeout),
        (auth.ConnectFailure("away"), Unavailable),
        (auth.EndpointNotFound("no"), ResourceFailed),
        (sdk.SDKException("odd"), ResourceFailed),
    ],
)
def test_errors_are_translated(raised, wanted):
    with pytest.raises(wanted) as found, translated("volume"):
        raise raised
    assert type(found.value) is wanted
    assert "volume" in found.value.message


def test_the_request_is_named():
    with pytest.raises(NotFound, match=r"404.*req-1"), translated("volume"):
        raise http(404)


def test_listings_are_translated_where_they_break():
    class Service:
        def volumes(self):
            yield 1
            raise http(503)

    pages = Guarded(Service(), "volume", lambda: None).volumes()
    assert next(pages) == 1
    with pytest.raises(Unavailable):
        next(pages)


def test_a_deadline_is_asked_for_before_each_call():
    def late():
        raise Timeout("too late")

    class Service:
        def volumes(self):
            raise AssertionError("it was called")

    with pytest.raises(Timeout):
        Guarded(Service(), "volume", late).volumes()


def test_a_token_is_never_shown():
    assert "secret" not in repr(Token("secret"))
