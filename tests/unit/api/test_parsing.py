from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karbor.api import parsing
from karbor.api.routes import ROUTES
from karbor.errors import InvalidInput, NotFound

WITH_BODY = [route for route in ROUTES if route.body]
KEYS = st.sampled_from(
    [
        "plan",
        "name",
        "provider_id",
        "parameters",
        "resources",
        "plan_id",
        "checkpoint",
        "extra-info",
        "restore",
        "state",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.handler.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_any_json_is_a_value_or_a_clear_error(route, data):
    decoder = msgspec.json.Decoder(route.request_type)
    inner = data.draw(JSON)
    sent = {route.body_key: inner} if route.body_key else inner
    with contextlib.suppress(InvalidInput):
        parsing.body(decoder, "application/json", msgspec.json.encode(sent))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_clear_error(content):
    decoder = msgspec.json.Decoder(WITH_BODY[0].request_type)
    with pytest.raises(InvalidInput):
        parsing.body(decoder, "application/json", content)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.query_types], ids=lambda r: r.handler.__name__)
@settings(max_examples=20)
@given(text=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40), data=st.data())
def test_any_query_is_a_value_or_a_clear_error(route, text, data):
    name = data.draw(st.sampled_from(sorted(route.query_types)))
    with contextlib.suppress(InvalidInput):
        known, _ = parsing.query(route, f"{name}={text}")
        assert set(known) <= set(route.query_types)


@given(st.text(max_size=40))
def test_any_identifier_is_canonical_or_a_clear_error(text):
    route = next(route for route in ROUTES if route.path == "/plans/{plan_id}")
    with contextlib.suppress(InvalidInput, NotFound):
        known = parsing.path(route, {"project_id": "p", "plan_id": text})
        assert len(known["plan_id"]) == 36
