from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from karbor.domain.crontab import parse_crontab
from karbor.domain.trigger import TriggerLimits, check_properties, event_rules, preview
from karbor.errors import InvalidInput

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)  # a Sunday
LIMITS = TriggerLimits(min_interval=60, min_window=20, max_window=30)
EVENT = "BEGIN:VEVENT\nRRULE:FREQ=MINUTELY;INTERVAL=2;\nEND:VEVENT"


def trigger(pattern=EVENT, form="calendar", **more):
    return {"format": form, "pattern": pattern, "start_time": "2026-11-22 12:00:00", **more}


def times(pattern, form="calendar", count=3, after=NOON, **more):
    return [f"{each:%m-%d %H:%M}" for each in preview(trigger(pattern, form, **more), after, count)]


@pytest.mark.parametrize(
    "pattern",
    [
        EVENT,
        EVENT.replace("\n", "\r\n"),
        EVENT.replace("\n", "\\n"),
        EVENT.replace("\n", "\\r\\n"),
        f"BEGIN:VCALENDAR\nVERSION:2.0\n{EVENT}\nEND:VCALENDAR",
        f"{EVENT}\n{EVENT.replace('2', '7')}",
        EVENT.replace("INTERVAL", "\n INTERVAL"),
        EVENT.replace("END", "BEGIN:VALARM\nRRULE:FREQ=DAILY\nEND:VALARM\nEND", 1),
        EVENT.lower(),
    ],
)
def test_every_spelling_that_clients_send(pattern):
    assert times(pattern) == ["11-22 12:02", "11-22 12:04", "11-22 12:06"]


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "RRULE:FREQ=DAILY",
        "BEGIN:VEVENT\nEND:VEVENT",
        "BEGIN:VEVENT\nRRULE:FREQ=DAILY",
        "BEGIN:VEVENT\nRRULE:x\nEND:VEVENT",
    ],
)
def test_what_is_no_event_is_refused(pattern):
    with pytest.raises(InvalidInput):
        times(pattern)


def test_several_rules_are_one_series_without_doubles():
    two = "BEGIN:VEVENT\nRRULE:FREQ=HOURLY;INTERVAL=2\nRRULE:FREQ=HOURLY;INTERVAL=3\nEND:VEVENT"
    assert times(two, count=4) == ["11-22 14:00", "11-22 15:00", "11-22 16:00", "11-22 18:00"]
    assert len(event_rules(two)) == 2


def test_nothing_after_the_end_and_nothing_before_the_start():
    assert times(EVENT, end_time="2026-11-22 12:04:00") == ["11-22 12:02", "11-22 12:04"]
    assert times(EVENT, after=NOON - timedelta(days=2), count=1) == ["11-22 12:00"]
    assert times("* * * * *", "crontab", after=NOON - timedelta(days=2), count=1) == ["11-22 12:01"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("* * * * *", ["11-22 12:01", "11-22 12:02", "11-22 12:03"]),
        ("*/20 3 * * *", ["11-23 03:00", "11-23 03:20", "11-23 03:40"]),
        ("5/20 13 * * *", ["11-22 13:05", "11-22 13:25", "11-22 13:45"]),
        ("0 0 * * 7", ["11-29 00:00", "12-06 00:00", "12-13 00:00"]),
        ("0 0 * * mon-tue", ["11-23 00:00", "11-24 00:00", "11-30 00:00"]),
        ("0 0 1 jan,feb *", ["01-01 00:00", "02-01 00:00", "01-01 00:00"]),
        ("0 0 24 * mon", ["11-23 00:00", "11-24 00:00", "11-30 00:00"]),
        ("0 0 29 2 *", ["02-29 00:00", "02-29 00:00", "02-29 00:00"]),
        ("0 0 30 2 *", []),
    ],
)
def test_crontab_lines(line, expected):
    assert times(line, "crontab") == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-2 * * * *",
        "a * * * *",
        "1, * * * *",
        "-1 * * * *",
        "* * * sun *",
        "@daily",
        "\u0661 * * * *",
    ],
)
def test_what_is_no_crontab_line_is_refused(line):
    with pytest.raises(InvalidInput, match="crontab line is invalid"):
        parse_crontab(line)


@pytest.mark.parametrize(
    ("properties", "field"),
    [
        (trigger(EVENT.replace("MINUTELY", "SECONDLY")), "pattern"),
        (trigger("BEGIN:VEVENT\nRRULE:FREQ=DAILY;BYHOUR=3;BYMINUTE=0;BYSECOND=0,1\nEND:VEVENT"), "pattern"),
        (trigger(end_time="2026-11-22 12:00:00"), "end_time"),
        (trigger(window="19"), "window"),
        (trigger(window="31"), "window"),
    ],
)
def test_limits(properties, field):
    with pytest.raises(InvalidInput) as caught:
        check_properties(properties, LIMITS, NOON)
    assert caught.value.field.endswith(field)


def test_what_is_within_the_limits_is_taken_and_may_be_over_for_good():
    check_properties(trigger(window="20", end_time="2026-11-23 00:00:00"), LIMITS, NOON)
    check_properties(trigger("BEGIN:VEVENT\nRRULE:FREQ=DAILY;COUNT=1\nEND:VEVENT"), LIMITS, NOON)


def test_windows_that_would_overlap_are_refused():
    with pytest.raises(InvalidInput, match="overlap"):
        TriggerLimits(min_interval=60, min_window=20, max_window=31)
