"""Triggers: when scheduled operations begin. Properties are text, as v1 shows them; the times follow from them alone."""

from __future__ import annotations

import heapq
import json
from collections import deque
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Literal

import msgspec

from karbor.domain import crontab, recurrence
from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TIME: Literal["time"] = "time"
CALENDAR, CRONTAB = "calendar", "crontab"
_MOMENT = "%Y-%m-%d %H:%M:%S"
_LOOK_AHEAD = 30
"""How many coming times must keep the least interval."""
_MAX_RULES = 10


class Trigger(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A trigger. `properties` has format, pattern and start_time, and may have end_time and window."""

    id: str
    project_id: str
    name: str
    properties: dict[str, str]
    created_at: datetime
    type: Literal["time"] = TIME

    @property
    def properties_text(self) -> str:
        """The properties as v1 stores them, for its filter."""
        return json.dumps(self.properties)


class TriggerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What an administrator allows, in seconds."""

    min_interval: int = 3600
    min_window: int = 900
    max_window: int = 1800

    def __post_init__(self) -> None:
        if not 0 < self.min_window < self.max_window or 2 * self.max_window > self.min_interval:
            raise InvalidInput(
                f"min_window_time {self.min_window}, max_window_time {self.max_window} and min_interval "
                f"{self.min_interval} do not fit: windows would overlap",
                hint="min_window_time < max_window_time, and twice that is at most min_interval",
            )


def stored(moment: datetime) -> str:
    """A moment as properties have it."""
    return moment.astimezone(UTC).strftime(_MOMENT)


def check_properties(properties: Mapping[str, str], limits: TriggerLimits, now: datetime) -> None:
    """Raise `InvalidInput` naming the property that cannot be; a trigger that never fires again is valid."""
    start, end = _start(properties), _end(properties)
    if end is not None and end <= start:
        raise _invalid(
            f"The trigger's start time({start:{_MOMENT}}) is bigger than end time({end:{_MOMENT}})", "end_time"
        )
    window = int(properties.get("window", limits.min_window))
    if not limits.min_window <= window <= limits.max_window:
        raise _invalid(
            f"The trigger windows {window} must be between {limits.min_window} and {limits.max_window}", "window"
        )
    if properties.get("format") != CRONTAB:
        for rule in map(recurrence.parse_rule, event_rules(properties["pattern"])):
            if rule.count:  # the whole series is gone through, so that no later search can fail
                deque(recurrence.occurrences(rule, start, start), maxlen=0)
    for earlier, later in pairwise(preview(properties, now, _LOOK_AHEAD)):
        if (later - earlier).total_seconds() < limits.min_interval:
            raise _invalid(
                f"The interval of two adjacent time points is less than {limits.min_interval}: "
                f"{earlier:{_MOMENT}}, {later:{_MOMENT}}",
                "pattern",
            )


def preview(properties: Mapping[str, str], after: datetime, count: int) -> list[datetime]:
    """The next times strictly after a moment, at most `count`."""
    return list(islice(fire_times(properties, after), count))


def fire_times(properties: Mapping[str, str], after: datetime) -> Iterator[datetime]:
    """The times strictly after a moment, in order; raises `InvalidInput` where the pattern is none.

    A pattern that is no crontab line is a calendar event, whatever the format is called, as v1 has it.
    """
    pattern, start, end = properties["pattern"], _start(properties), _end(properties)
    if properties.get("format") == CRONTAB:
        times = crontab.moments(crontab.parse_crontab(pattern), max(after, start))
    else:
        rules = [recurrence.parse_rule(text) for text in event_rules(pattern)]
        times = _distinct(heapq.merge(*(recurrence.occurrences(rule, start, after) for rule in rules)))
    for moment in times:
        if end is not None and moment > end:
            return
        yield moment


def _distinct(times: Iterator[datetime]) -> Iterator[datetime]:
    last = None
    for moment in times:
        if moment != last:
            yield moment
        last = moment


def event_rules(text: str) -> list[str]:
    """The RRULEs of the first VEVENT, bare or in a VCALENDAR. Line ends may be escaped, as v1's clients send them."""
    rules: list[str] = []
    depth = 0
    for line in _content_lines(text):
        head, _, value = line.partition(":")
        name = head.partition(";")[0].strip().upper()
        what = value.strip().upper()
        if name == "BEGIN" and (depth or what == "VEVENT"):
            depth += 1
        elif name == "END" and depth:
            depth -= 1
            if not depth:
                return _needed(rules)
        elif name == "RRULE" and depth == 1:
            rules.append(value)
    raise _invalid("The trigger pattern is invalid: it has no VEVENT component", "pattern")


def _needed(rules: list[str]) -> list[str]:
    if not 1 <= len(rules) <= _MAX_RULES:
        raise _invalid(
            f"The trigger pattern is invalid: the first VEVENT has {len(rules)} RRULE properties, not 1 to {_MAX_RULES}",
            "pattern",
        )
    return rules


def _content_lines(text: str) -> list[str]:
    """Unfolded lines (RFC 5545, section 3.1)."""
    lines: list[str] = []
    for line in text.replace("\\r", "\r").replace("\\n", "\n").replace("\r", "\n").split("\n"):
        if line[:1] in {" ", "\t"} and lines:
            lines[-1] += line[1:]
        elif line.strip():
            lines.append(line)
    return lines


def _start(properties: Mapping[str, str]) -> datetime:
    return _moment(properties["start_time"])


def _end(properties: Mapping[str, str]) -> datetime | None:
    return _moment(properties["end_time"]) if "end_time" in properties else None


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)


def _invalid(message: str, name: str) -> InvalidInput:
    return InvalidInput(message, field=f"trigger_info.properties.{name}")
