"""Triggers and scheduled operations on the wire.

v1 shows every property as a string, whatever was sent; a trigger's envelope is ``trigger_info``, the list of scheduled
operations stands under ``operations``.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import force_setattr

from karbor.wire import fields

Moment = Annotated[str, Meta(description="YYYY-MM-DD HH:MM:SS in UTC; a T between date and time is taken too.")]
Pattern = Annotated[str, Meta(min_length=1, max_length=8192, description="A crontab line or an iCalendar event.")]
Seconds = Annotated[int | str, Meta(description="Whole seconds, as a number or as text.")]
Definition = Annotated[
    dict[str, Any] | str,
    Meta(description="Scalars by name, provider_id and plan_id among them; the text k=v,k=v is taken too."),
]

_COUNTS = ("max_backups", "retention_duration")


class Properties(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a trigger fires. Which of them are needed depends on whether it is new or changed."""

    format: fields.Text | None = None
    pattern: Pattern | None = None
    start_time: Moment | None = None
    end_time: Moment | None = None
    window: Seconds | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "start_time", _moment(self.start_time, "start_time"))
        force_setattr(self, "end_time", _moment(self.end_time, "end_time"))
        force_setattr(self, "window", None if self.window is None else whole(self.window, "window"))

    @property
    def given(self) -> dict[str, Any]:
        """What was said, by name."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


class TriggerCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new trigger."""

    name: fields.Name
    type: fields.Text
    properties: Properties

    def __post_init__(self) -> None:
        for name in ("format", "pattern"):
            if getattr(self.properties, name) is None:
                raise ValueError(f"properties.{name}: required")


class TriggerUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may change in a trigger. Properties replace the whole set, but empty ones change nothing; the type is
    taken and ignored.
    """

    name: fields.Name | UnsetType = UNSET
    type: fields.Text | UnsetType = UNSET
    properties: Properties | UnsetType = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.properties, Properties) and self.properties.given:
            for name in ("pattern", "start_time"):
                if getattr(self.properties, name) is None:
                    raise ValueError(f"properties.{name}: should be supplied")


class Trigger(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A trigger; every property is text."""

    id: str
    name: str
    type: str
    properties: dict[str, str]


class ScheduledOperationCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new standing order. `enabled` is an addition to v1."""

    name: fields.Name
    operation_type: fields.Text
    trigger_id: fields.Uuid
    operation_definition: Definition
    description: fields.Text | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        force_setattr(self, "trigger_id", fields.canonical_uuid(self.trigger_id))
        force_setattr(self, "operation_definition", definition(self.operation_definition))


class ScheduledOperation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A standing order; every value of its definition is text."""

    id: str
    name: str
    description: str | None
    operation_type: str
    trigger_id: str
    operation_definition: dict[str, str]
    enabled: bool


def definition(given: dict[str, Any] | str) -> dict[str, str]:
    """What to do, every value as text; raises `ValueError` naming what is missing or no scalar."""
    field = "operation_definition"
    if isinstance(given, str):
        pairs = (part.partition("=") for part in given.split(",") if part.strip())
        given = {name.strip(): value.strip() for name, _, value in pairs}
    texts = {name: str(value) for name, value in fields.metadata(given, field).items()}
    for name in ("provider_id", "plan_id"):
        if not fields.is_uuid(texts.get(name, "")):
            raise ValueError(f"{field}.{name}: expected a UUID")
        texts[name] = fields.canonical_uuid(texts[name])
    for name in _COUNTS:
        if name in texts:
            texts[name] = str(whole(texts[name], f"{field}.{name}"))
    return texts


def whole(given: int | str, field: str) -> int:
    """An integer that may have come as text."""
    if isinstance(given, int):
        return given
    digits = given.strip().removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise ValueError(f"{field}: expected a whole number")
    return int(given)


def _moment(given: str | None, field: str) -> str | None:
    if given is None:
        return None
    try:
        return dt.datetime.strptime(given.replace("T", " ", 1), "%Y-%m-%d %H:%M:%S").isoformat(" ")  # noqa: DTZ007 - v1 has no zone: UTC
    except ValueError as error:
        raise ValueError(f"{field}: expected YYYY-MM-DD HH:MM:SS") from error
