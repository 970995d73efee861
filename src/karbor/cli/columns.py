"""What the service answers as columns: bytes, times and documents for people, unchanged for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from cliff.columns import FormattableColumn

from karbor.cli.progress import size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Size(FormattableColumn[int]):
    """An amount of bytes."""

    def human_readable(self) -> str:
        """With a unit."""
        return size(self._value)


class Document(FormattableColumn[Any]):
    """A list or an object of JSON; people see a list line by line."""

    def human_readable(self) -> str:
        """As short as can be."""
        if isinstance(self._value, list):
            return "\n".join(_inline(item) for item in self._value)
        return "\n".join(f"{key}: {_inline(value)}" for key, value in self._value.items())


class Losses(FormattableColumn[list[str]]):
    """What a checkpoint survives."""

    def human_readable(self) -> str:
        """Nothing is worth a word."""
        return ", ".join(self._value) or "none"


class Absent(FormattableColumn[None]):
    """Nothing: an empty place for people, null for programs."""

    def human_readable(self) -> str:
        """Empty."""
        return ""


def column(name: str, value: Any) -> Any:
    """A value as the formatters take it."""
    if value is None:
        return Absent(None)
    if name == "survives":
        return Losses(value)
    if isinstance(value, (dict, list)):
        return Document(value)
    if name.endswith("_bytes") or name == "size":
        return Size(value)
    return value


def row(names: Sequence[str], item: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of an item in the order of the columns; what it lacks is null."""
    return tuple(column(name, item.get(name)) for name in names)


def _inline(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and {"type", "id", "name"} <= value.keys():
        return _resource(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_inline(inner)}" for key, inner in value.items() if inner not in (None, "", {}, []))
    return msgspec.json.encode(value).decode()


def _resource(resource: Mapping[str, Any]) -> str:
    """Type and name, and how it fared where that is known; its id is for programs."""
    told = [resource.get("status"), resource.get("reason"), resource.get("data_location"), resource.get("consistency")]
    if resource.get("logical_bytes"):
        told.append(size(resource["logical_bytes"]))
    fared = ", ".join(word for word in told if word and word != "none")
    name = f"{resource['type']} {resource['name'] or resource['id']}"
    return f"{name}: {fared}" if fared else name
