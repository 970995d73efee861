"""v1's envelopes: one key around every value, derived from the value's type instead of written down twice."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from karbor.wire.answers import Link


@functools.cache
def one(key: str, value: Any) -> type[msgspec.Struct]:
    """``{key: value}``, nothing else beside it."""
    return msgspec.defstruct(
        _title(key, value), [(_attribute(key), value)], rename={_attribute(key): key}, forbid_unknown_fields=True
    )


@functools.cache
def page(key: str, value: Any) -> type[msgspec.Struct]:
    """``{key: [value, …], key_links?: [{rel, href}]}``."""
    links = f"{key}_links"
    return msgspec.defstruct(
        _title(key, value) + "Page",
        [(key, list[value]), (links, list[Link] | msgspec.UnsetType, msgspec.UNSET)],
    )


def _attribute(key: str) -> str:
    return key.replace("-", "_")


def _title(key: str, value: Any) -> str:
    name = getattr(value, "__name__", "Value")
    words = "".join(part.capitalize() for part in key.replace("-", "_").split("_"))
    return f"{words}Of{name}"
