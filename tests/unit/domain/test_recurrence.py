"""Recurrence rules against python-dateutil, which v1 used."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from karbor.domain.recurrence import occurrences, parse_rule
from karbor.errors import InvalidInput

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def ours(text, start, after, count):
    return list(islice(occurrences(parse_rule(text), start, after), count))


def theirs(text, start, after, count):
    return list(islice(rrulestr(text, dtstart=start).xafter(after), count))


@st.composite
def rules(draw):
    """Rules that have moments on many days, so that the other implementation ends as well."""
    frequency = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"]))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.integers(1, 5))}"]

    def numbers(name, least, most, *, likely=0.25):
        if draw(st.floats(0, 1)) < likely:
            chosen = draw(st.lists(st.integers(least, most).filter(bool), min_size=1, max_size=4, unique=True))
            parts.append(f"{name}={','.join(map(str, chosen))}")

    numbers("BYMONTH", 1, 12)
    if frequency in {"YEARLY", "MONTHLY", "DAILY", "HOURLY"}:
        numbers("BYMONTHDAY", -28, 28)
    if frequency == "YEARLY":
        numbers("BYYEARDAY", -366, 366, likely=0.1)
    if draw(st.booleans()):
        numbered = frequency in {"YEARLY", "MONTHLY"}
        day = st.tuples(
            st.sampled_from(["", "1", "2", "-1", "-2"] if numbered else [""]), st.sampled_from(["MO", "TU", "SU"])
        )
        chosen = draw(st.lists(day, min_size=1, max_size=2, unique=True))
        parts.append("BYDAY=" + ",".join(a + b for a, b in chosen))
    if draw(st.integers(0, 4)) == 0:
        parts.append("WKST=SU")
    numbers("BYHOUR", 1, 23)
    numbers("BYMINUTE", 1, 59)
    numbers("BYSECOND", 1, 59)
    if frequency in {"YEARLY", "MONTHLY"} and len(parts) > 2:
        numbers("BYSETPOS", -3, 3)
    if draw(st.integers(0, 4)) == 0:
        parts.append(f"COUNT={draw(st.integers(1, 30))}")
    elif draw(st.integers(0, 4)) == 0:
        parts.append(f"UNTIL={(NOON + timedelta(days=draw(st.integers(0, 4000)))).strftime('%Y%m%dT%H%M%SZ')}")
    return ";".join(parts)


STEPS = {"SECONDLY": 1, "MINUTELY": 60, "HOURLY": 3600}


@settings(max_examples=80, deadline=None, derandomize=True)
@given(rules(), st.integers(0, 400_000), st.integers(-10, 500))
def test_moments_are_those_of_the_library_that_v1_used(text, minutes, periods):
    start = NOON + timedelta(minutes=minutes)
    after = start + timedelta(seconds=periods * STEPS.get(text.partition(";")[0].removeprefix("FREQ="), 86400))
    try:
        found = ours(text, start, after, 5)
    except InvalidInput:
        assume("COUNT" not in text)
        raise
    assert found == theirs(text, start, after, len(found))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FREQ=MINUTELY;INTERVAL=2;", ["2026-11-22 12:02", "2026-11-22 12:04"]),
        ("freq=daily;byhour=3", ["2026-11-23 03:00", "2026-11-24 03:00"]),
        ("FREQ=MONTHLY;BYDAY=-1FR", ["2026-11-27 12:00", "2026-12-25 12:00"]),
        ("FREQ=MONTHLY;BYMONTHDAY=31", ["2026-12-31 12:00", "2027-01-31 12:00"]),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", ["2028-02-29 12:00", "2032-02-29 12:00"]),
        ("FREQ=DAILY;COUNT=2", ["2026-11-23 12:00"]),
        ("FREQ=DAILY;UNTIL=20261123T120000Z", ["2026-11-23 12:00"]),
        ("FREQ=DAILY;COUNT=1", []),
    ],
)
def test_the_next_two_moments(text, expected):
    assert [f"{each:%Y-%m-%d %H:%M}" for each in ours(text, NOON, NOON, 2)] == expected


def test_the_start_is_a_moment_of_its_own():
    assert ours("FREQ=DAILY", NOON, NOON - timedelta(days=9), 1) == [NOON]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "INTERVAL=2",
        "FREQ=EVER",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=x",
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;COUNT=10001",
        "FREQ=DAILY;BYHOUR=24",
        "FREQ=DAILY;BYHOUR=",
        "FREQ=DAILY;BYMONTHDAY=0",
        "FREQ=DAILY;BYDAY=XX",
        "FREQ=DAILY;BYDAY=1MO",
        "FREQ=MONTHLY;BYDAY=0MO",
        "FREQ=DAILY;UNTIL=soon",
        "FREQ=DAILY;FREQ=DAILY",
        "FREQ=DAILY;BYWEEKNO=2",
        "FREQ=DAILY;BYHOUR",
        "FREQ=DAILY;BYSETPOS=1;BYMINUTE=1,2,3,4,5;BYHOUR=1,2,3,4,5",
    ],
)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(InvalidInput, match="recurrence rule is invalid"):
        parse_rule(text)


EVERY = "BYHOUR=" + ",".join(map(str, range(24)))
EVERY += ";BYMINUTE=" + ",".join(map(str, range(60))) + ";BYSECOND=" + ",".join(map(str, range(60)))


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=WEEKLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;INTERVAL=1000000",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=3",
        f"FREQ=YEARLY;BYMONTHDAY={','.join(map(str, range(1, 32)))};{EVERY}",
        f"FREQ=SECONDLY;BYSECOND=1;INTERVAL=60;{EVERY.partition(';BYSECOND')[0]}",
        "FREQ=SECONDLY;COUNT=10000",
        "FREQ=SECONDLY;INTERVAL=86399;BYHOUR=3;BYMINUTE=7",
    ],
)
def test_no_rule_keeps_a_thread(text):
    ancient = datetime(1, 1, 1, tzinfo=UTC)
    began = time.process_time()
    for start in (NOON, ancient):
        assert len(ours(text, start, NOON, 30)) <= 30
    assert time.process_time() - began < 3


def test_the_end_of_the_calendar_is_the_end():
    late = datetime(9999, 12, 31, 12, tzinfo=UTC)
    for frequency in ("YEARLY", "MONTHLY", "WEEKLY", "DAILY"):
        assert ours(f"FREQ={frequency}", late, late, 2) == []


def test_a_count_that_cannot_be_reached_is_refused():
    with pytest.raises(InvalidInput, match="too far apart"):
        ours("FREQ=SECONDLY;COUNT=1000;BYHOUR=3;BYMINUTE=0;BYSECOND=0", NOON, NOON, 1000)
