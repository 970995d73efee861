from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karbor.wire import administration, envelope, fields, schedules
from karbor.wire.faults import Fault, fault_body, read_fault

U = "0857c1f0-13b4-4a60-a1f7-0f6f3a3b9a02"
TRIGGER = {"name": "t", "type": "time", "properties": {"format": "calendar", "pattern": "BEGIN:VEVENT"}}
OPERATION = {
    "name": "n",
    "operation_type": "protect",
    "trigger_id": U,
    "operation_definition": {"provider_id": U, "plan_id": U},
}


@given(st.uuids())
def test_every_spelling_of_a_uuid_is_one(value):
    text = str(value)
    for spelling in (text, text.upper(), text.replace("-", ""), f"urn:uuid:{text}", "{" + text + "}"):
        assert fields.is_uuid(spelling)
        assert fields.canonical_uuid(spelling) == text


@given(st.text(max_size=50))
def test_what_is_taken_for_a_uuid_has_a_canonical_form(text):
    if fields.is_uuid(text):
        fields.canonical_uuid(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=4))
def test_normalised_parameters_are_scalars_by_type_and_stay_so(given_parameters):
    with contextlib.suppress(ValueError):
        kept = fields.parameters(given_parameters)
        assert fields.parameters(kept) == kept
        for options in kept.values():
            assert all(isinstance(value, bool | int | str) for value in options.values())


@pytest.mark.parametrize(("window", "seconds"), [(25, 25), ("25", 25), (" 25 ", 25)])
def test_a_window_is_a_number_however_it_comes(window, seconds):
    properties = {**TRIGGER["properties"], "window": window}
    trigger = msgspec.convert({**TRIGGER, "properties": properties}, schedules.TriggerCreate)
    assert trigger.properties.window == seconds
    assert trigger.properties.given == {**properties, "window": seconds}


@pytest.mark.parametrize(
    "properties",
    [
        {"format": "calendar"},
        {"pattern": "x"},
        {},
        {**TRIGGER["properties"], "window": "x"},
        {**TRIGGER["properties"], "window": "²"},
        {**TRIGGER["properties"], "window": 1.5},
        {**TRIGGER["properties"], "start_time": "yesterday"},
        {**TRIGGER["properties"], "zz": 1},
    ],
)
def test_bad_triggers(properties):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**TRIGGER, "properties": properties}, schedules.TriggerCreate)


def test_times_with_and_without_t():
    for text in ("2026-11-23 13:00:00", "2026-11-23T13:00:00"):
        assert schedules.Properties(start_time=text).start_time == "2026-11-23 13:00:00"


def test_changing_a_trigger():
    assert msgspec.convert({"properties": {}}, schedules.TriggerUpdate).properties.given == {}
    assert msgspec.convert({"name": "x", "type": "zzz"}, schedules.TriggerUpdate).name == "x"
    for properties in ({"pattern": "x"}, {"start_time": "2026-11-23 13:00:00"}):
        with pytest.raises(msgspec.ValidationError, match="should be supplied"):
            msgspec.convert({"properties": properties}, schedules.TriggerUpdate)


@pytest.mark.parametrize(
    "definition",
    [
        {"provider_id": U, "plan_id": U, "max_backups": 2, "retention_duration": "14", "x": True},
        f"provider_id={U},plan_id={U.replace('-', '')}, max_backups=2,retention_duration=14,x=True",
    ],
)
def test_a_definition_is_text_by_name(definition):
    operation = msgspec.convert({**OPERATION, "operation_definition": definition}, schedules.ScheduledOperationCreate)
    expected = {"provider_id": U, "plan_id": U, "max_backups": "2", "retention_duration": "14", "x": "True"}
    assert operation.operation_definition == expected


@pytest.mark.parametrize(
    "definition",
    [
        {"provider_id": U},
        {"provider_id": U, "plan_id": "abc"},
        {"provider_id": U, "plan_id": U, "max_backups": "abc"},
        {"provider_id": U, "plan_id": U, "x": {}},
        "nonsense",
        [],
    ],
)
def test_bad_definitions(definition):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**OPERATION, "operation_definition": definition}, schedules.ScheduledOperationCreate)


def test_quotas():
    convert = lambda body: msgspec.convert(body, administration.QuotaUpdate)  # noqa: E731 - two words instead of four
    assert (convert({"plans": "3"}).plans, convert({"plans": -1}).plans) == (3, -1)
    assert convert({"bogus": 3}) == convert({})
    for bad in ("abc", -2, "-2", None, 1.5):
        with pytest.raises(msgspec.ValidationError):
            convert({"plans": bad})


def test_services():
    convert = lambda body: msgspec.convert(body, administration.ServiceUpdate)  # noqa: E731 - two words instead of four
    assert convert({"status": "disabled", "disabled_reason": "x"}).disabled_reason == "x"
    assert convert({}).status is None
    with pytest.raises(msgspec.ValidationError):
        convert({"status": "enabled", "disabled_reason": "x"})


def test_envelopes_hold_one_key_and_pages_their_links():
    one = envelope.one("trigger_info", schedules.Trigger)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"trigger_info": None, "zz": 1}, one)
    page = envelope.page("operations", schedules.ScheduledOperation)
    assert msgspec.json.encode(page(operations=[])) == b'{"operations":[]}'


def test_faults_are_read_as_they_are_written():
    fault = Fault(code=404, message="gone", error="not_found")
    assert read_fault(404, msgspec.json.encode(fault_body(fault))) == fault
    assert read_fault(502, b"<html>") == Fault(code=502, message="HTTP 502")
    keystone = b'{"error": {"code": 401, "message": "no", "title": "Unauthorized"}}'
    assert read_fault(401, keystone) == Fault(code=401, message="no")
