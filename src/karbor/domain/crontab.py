"""Crontab lines: minute, hour, day of the month, month, day of the week (POSIX crontab, with steps and names).

Where both days are restricted, either suffices, as POSIX has it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("", *_MONTHS)),
    ("day of the week", 0, 7, _DAYS),
)
_PART = re.compile(r"^(?:\*|(\w+)(?:-(\w+))?)(?:/(\d{1,3}))?$", re.ASCII)
_BARREN_DAYS = 366 * 9
"""The 29th of February comes every eight years at least."""


class Crontab(msgspec.Struct, frozen=True, kw_only=True):
    """The values that each field allows; Sunday is 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Whether day of the month and day of the week are both restricted."""


def parse_crontab(text: str) -> Crontab:
    """The five fields; raises `InvalidInput` naming the field."""
    fields = text.split()
    if len(fields) != 5:
        raise _invalid(f"it has {len(fields)} fields, not minute, hour, day, month, weekday")
    values = [_values(field, *about) for field, about in zip(fields, _FIELDS, strict=True)]
    return Crontab(
        minutes=tuple(sorted(values[0])),
        hours=tuple(sorted(values[1])),
        days=frozenset(values[2]),
        months=frozenset(values[3]),
        weekdays=frozenset(day % 7 for day in values[4]),
        either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
    )


def _values(field: str, name: str, least: int, most: int, words: tuple[str, ...]) -> set[int]:
    values: set[int] = set()
    for part in field.split(","):
        found = _PART.match(part)
        if not found or found[3] == "0" * len(found[3] or "x"):
            raise _invalid(f"{name} {part!r} is no *, number or range, with or without a step")
        first = _number(found[1], name, least, most, words) if found[1] else least
        last = _number(found[2], name, least, most, words) if found[2] else first
        if not found[1] or (found[3] and not found[2]):
            last = most
        if first > last:
            raise _invalid(f"{name} {part!r} is a range that ends before it begins")
        values.update(range(first, last + 1, int(found[3] or 1)))
    return values


def _number(text: str, name: str, least: int, most: int, words: tuple[str, ...]) -> int:
    if text.upper() in words[least:]:
        return words.index(text.upper())
    if not text.isdigit() or len(text) > 2 or not least <= int(text) <= most:
        raise _invalid(f"{name} {text!r} is not from {least} to {most}")
    return int(text)


def _invalid(problem: str) -> InvalidInput:
    return InvalidInput(f"the crontab line is invalid: {problem}", field="pattern")


def moments(line: Crontab, after: datetime) -> Iterator[datetime]:
    """The line's moments strictly after `after`, which is in UTC; none where the line names no day that exists."""
    day, barren = after.replace(hour=0, minute=0, second=0, microsecond=0), 0
    while barren < _BARREN_DAYS:
        barren += 1
        if _fits(line, day):
            barren = 0
            for hour in line.hours:
                for minute in line.minutes:
                    moment = day.replace(hour=hour, minute=minute)
                    if moment > after:
                        yield moment
        try:
            day += timedelta(days=1)
        except OverflowError:  # the calendar ends with the year 9999
            return


def _fits(line: Crontab, day: datetime) -> bool:
    if day.month not in line.months:
        return False
    of_month, of_week = day.day in line.days, day.isoweekday() % 7 in line.weekdays
    return of_month or of_week if line.either_day else of_month and of_week
