"""Recurrence rules of iCalendar: RFC 5545, sections 3.3.10 and 3.8.5.3, without BYWEEKNO.

Every search is bounded by how much of the calendar it looks at, so that no pattern a tenant sends can keep a thread.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING

import msgspec

from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
_YEARLY, _MONTHLY, _WEEKLY, _DAILY, _HOURLY, _MINUTELY, _SECONDLY = range(7)
_STEPS = {
    _WEEKLY: timedelta(weeks=1),
    _DAILY: timedelta(days=1),
    _HOURLY: timedelta(hours=1),
    _MINUTELY: timedelta(minutes=1),
    _SECONDLY: timedelta(seconds=1),
}
_PERIODS = (100, 1200, 1500, 10_000, 20_000, 20_000, 20_000)
"""How many periods are looked at, by frequency: a century of years or months, 27 years of days, or 20,000 jumps."""
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_NUMBERS = {
    "BYMONTH": (1, 12, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSECOND": (0, 59, False),
    "BYSETPOS": (1, 366, True),
}
"""Least and greatest value, and whether counting from the end is allowed."""
_DAY_RULES = ("BYMONTHDAY", "BYYEARDAY", "BYDAY")
_MAX_COUNT = 10_000
_MAX_INTERVAL = 1_000_000
_DAY = re.compile(r"^([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)$")
_UNTIL = {8: "%Y%m%d", 15: "%Y%m%dT%H%M%S"}


class Recurrence(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. Weekdays are (ordinal or 0 for every one, 0 for Monday)."""

    frequency: int
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    week_start: int = 0
    by: dict[str, tuple[int, ...]] = {}
    weekdays: tuple[tuple[int, int], ...] = ()


def parse_rule(text: str) -> Recurrence:
    """The value of an RRULE; a semicolon at the end is tolerated. Raises `InvalidInput` naming the part."""
    parts = _parts(text)
    word = parts.pop("FREQ", "")
    if word not in _FREQUENCIES:
        raise _invalid(f"FREQ {word!r} is none of {', '.join(_FREQUENCIES)}")
    rule = Recurrence(
        frequency=_FREQUENCIES.index(word),
        interval=_whole("INTERVAL", parts.pop("INTERVAL", "1"), 1, _MAX_INTERVAL),
        count=_whole("COUNT", parts.pop("COUNT"), 1, _MAX_COUNT) if "COUNT" in parts else None,
        until=_moment(parts.pop("UNTIL")) if "UNTIL" in parts else None,
        week_start=_weekday(parts.pop("WKST", "MO"))[1],
        weekdays=tuple(_weekday(day) for day in parts.pop("BYDAY").split(",")) if "BYDAY" in parts else (),
        by={name: _numbers(name, parts.pop(name)) for name in _NUMBERS if name in parts},
    )
    if parts:
        raise _invalid(f"{next(iter(parts))} is not supported")
    _check(rule)
    return rule


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.upper().split(";"))):
        name, sign, value = part.partition("=")
        if not sign or name in parts:
            raise _invalid(f"{part!r} is no NAME=value that stands once")
        parts[name] = value
    return parts


def _check(rule: Recurrence) -> None:
    if rule.frequency > _MONTHLY and any(ordinal for ordinal, _ in rule.weekdays):
        raise _invalid("a weekday has a number in yearly and monthly rules only")
    size = 1
    for name in ("BYHOUR", "BYMINUTE", "BYSECOND"):
        size *= len(rule.by.get(name, (0,)))
    if "BYSETPOS" in rule.by and size > 24:
        raise _invalid("BYSETPOS chooses among more than 24 times of a day")


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,7}", text) or not least <= int(text) <= most:
        raise _invalid(f"{name} {text!r} is no number from {least} to {most}")
    return int(text)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    least, most, signed = _NUMBERS[name]
    numbers = {_whole(name, each, -most if signed else least, most) for each in text.split(",")}
    if signed and 0 in numbers:
        raise _invalid(f"{name} has no 0")
    return tuple(sorted(numbers))


def _weekday(text: str) -> tuple[int, int]:
    found = _DAY.match(text)
    if not found or (found[1] and int(found[1]) == 0):
        raise _invalid(f"{text!r} is no weekday")
    return int(found[1] or 0), _WEEKDAYS.index(found[2])


def _moment(text: str) -> datetime:
    digits = text.removesuffix("Z")
    try:
        return datetime.strptime(digits, _UNTIL.get(len(digits), "")).replace(tzinfo=UTC)
    except ValueError as error:
        raise _invalid(f"UNTIL {text!r} is no date and no time in UTC") from error


def _invalid(problem: str) -> InvalidInput:
    return InvalidInput(f"the recurrence rule is invalid: {problem}", field="pattern")


def occurrences(rule: Recurrence, start: datetime, after: datetime) -> Iterator[datetime]:
    """The rule's moments strictly after `after`, in order. `start` anchors it (DTSTART), and is one where it matches.
    Both are in UTC, `start` without microseconds. Raises `InvalidInput` where COUNT moments are not to be found.
    """
    begin = start if rule.count or after < start else after
    found = 0
    try:
        period = _at_or_before(rule, start, begin)
        for _ in range(_PERIODS[rule.frequency]):
            for moment in _moments(rule, start, period, begin):
                if moment < start:
                    continue
                if rule.until and moment > rule.until:
                    return
                found += 1
                if rule.count and found > rule.count:
                    return
                if moment > after:
                    yield moment
            period = _following(rule, start, period)
    except (OverflowError, ValueError):  # the calendar ends with the year 9999
        return
    if rule.count:
        raise _invalid("COUNT asks for moments that lie too far apart")


def _begin(rule: Recurrence, moment: datetime) -> datetime:
    """The begin of the period that a moment lies in."""
    if rule.frequency >= _HOURLY:
        names = ("second", "minute")[: _SECONDLY - rule.frequency]
        return moment.replace(microsecond=0, **dict.fromkeys(names, 0))  # type: ignore[arg-type]
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if rule.frequency == _WEEKLY:
        return midnight - timedelta(days=(moment.weekday() - rule.week_start) % 7)
    if rule.frequency == _DAILY:
        return midnight
    return midnight.replace(day=1) if rule.frequency == _MONTHLY else midnight.replace(day=1, month=1)


def _at_or_before(rule: Recurrence, start: datetime, moment: datetime) -> datetime:
    """The last period of the rule that does not begin after a moment; the first one where the moment is before."""
    origin = _begin(rule, start)
    if rule.frequency in _STEPS:
        step = _STEPS[rule.frequency] * rule.interval
        return origin + max(0, (moment - origin) // step) * step
    months = rule.interval * (12 if rule.frequency == _YEARLY else 1)
    passed = (moment.year - origin.year) * 12 + moment.month - origin.month
    return _months_later(origin, max(0, passed // months) * months)


def _months_later(first: datetime, months: int) -> datetime:
    years, month = divmod(first.month - 1 + months, 12)
    return first.replace(year=first.year + years, month=month + 1)


def _following(rule: Recurrence, start: datetime, period: datetime) -> datetime:
    """The next period, without those in an hour or on a day that has none."""
    if rule.frequency <= _MONTHLY:
        return _months_later(period, rule.interval * (12 if rule.frequency == _YEARLY else 1))
    step = _STEPS[rule.frequency] * rule.interval
    upcoming = period + step
    if rule.frequency < _HOURLY:
        return upcoming
    if not _fits(rule, start, period):
        barrier = period.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    elif period.hour not in rule.by.get("BYHOUR", (period.hour,)):
        barrier = period.replace(minute=0, second=0) + timedelta(hours=1)
    elif rule.frequency == _SECONDLY and period.minute not in rule.by.get("BYMINUTE", (period.minute,)):
        barrier = period.replace(second=0) + timedelta(minutes=1)
    else:
        return upcoming
    return max(upcoming, period - (period - barrier) // step * step)


def _moments(rule: Recurrence, start: datetime, period: datetime, begin: datetime) -> Iterator[datetime]:
    """What the rule has in one period, in order; days before `begin` may be left out."""
    times = [_times(rule, start, period, unit) for unit in ("hour", "minute", "second")]
    positions = rule.by.get("BYSETPOS")
    days = (day for day in _days(rule, period) if positions or day.date() >= begin.date())
    moments = (
        day.replace(hour=hour, minute=minute, second=second)
        for day in days
        if _fits(rule, start, day)
        for hour, minute, second in product(*times)
    )
    if not positions:
        return moments
    every = list(moments)
    chosen = {place - (place > 0) for place in positions if -len(every) <= place - (place > 0) < len(every)}
    return iter(sorted({every[place] for place in chosen}))


def _times(rule: Recurrence, start: datetime, period: datetime, unit: str) -> tuple[int, ...]:
    """The hours, minutes or seconds: the period's own where it is that short, else the rule's or the start's."""
    allowed = rule.by.get(f"BY{unit.upper()}")
    if rule.frequency >= {"hour": _HOURLY, "minute": _MINUTELY, "second": _SECONDLY}[unit]:
        own: int = getattr(period, unit)
        return (own,) if allowed is None or own in allowed else ()
    return allowed or (getattr(start, unit),)


def _days(rule: Recurrence, period: datetime) -> Iterator[datetime]:
    length = 1
    if rule.frequency == _YEARLY:
        length = 365 + calendar.isleap(period.year)
    elif rule.frequency == _MONTHLY:
        length = calendar.monthrange(period.year, period.month)[1]
    elif rule.frequency == _WEEKLY:
        length = 7
    return (period + timedelta(days=i) for i in range(length))


def _fits(rule: Recurrence, start: datetime, day: datetime) -> bool:
    """Whether a day passes the rule; where the rule says nothing of days, the start does."""
    by = rule.by
    implied = not rule.weekdays and not any(name in by for name in _DAY_RULES)
    months = by.get("BYMONTH") or ((start.month,) if implied and rule.frequency == _YEARLY else None)
    if months and day.month not in months:
        return False
    if implied:
        if rule.frequency == _WEEKLY:
            return day.weekday() == start.weekday()
        return rule.frequency > _WEEKLY or day.day == start.day
    month_length = calendar.monthrange(day.year, day.month)[1]
    if "BYMONTHDAY" in by and not {day.day, day.day - month_length - 1} & set(by["BYMONTHDAY"]):
        return False
    year_length, of_year = 365 + calendar.isleap(day.year), day.timetuple().tm_yday
    if "BYYEARDAY" in by and not {of_year, of_year - year_length - 1} & set(by["BYYEARDAY"]):
        return False
    within_month = rule.frequency == _MONTHLY or "BYMONTH" in by
    place, length = (day.day, month_length) if within_month else (of_year, year_length)
    ordinals = {0, (place - 1) // 7 + 1, -((length - place) // 7 + 1)}
    return not rule.weekdays or any(day.weekday() == wanted and nth in ordinals for nth, wanted in rule.weekdays)
