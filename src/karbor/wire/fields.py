"""Field types of the v1 wire, and the one normaliser of each that old clients need.

Old clients send nulls for "not given", ``{Type: null}``, identifiers without dashes and JSON inside strings. What a
type alone can say is said by `msgspec.Meta`; the rest is a function here, called once by the struct that has the field.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Annotated, Any

from msgspec import Meta

_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
TEXT_PATTERN = f"^[^{_CONTROL}]*$"
NAME_PATTERN = rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$"
UUID_PATTERN = r"^(urn:)?(uuid:)?\{*([0-9a-fA-F]-*){32}\}*$"
KEY_PATTERN = r"^[A-Za-z0-9_:.# -]{1,255}$"

IN_WORDS = {
    TEXT_PATTERN: "text without control characters",
    NAME_PATTERN: "text that is not blank and has no control characters",
    UUID_PATTERN: "a UUID",
}
"""What a reader is told instead of a pattern."""

Name = Annotated[str, Meta(max_length=255, pattern=NAME_PATTERN)]
Text = Annotated[str, Meta(max_length=255, pattern=TEXT_PATTERN)]
Uuid = Annotated[str, Meta(pattern=UUID_PATTERN, description="With or without dashes, in any case.")]
ResourceId = Annotated[str, Meta(min_length=1, max_length=255, pattern=TEXT_PATTERN)]

_SCALAR_SCHEMA = {"type": ["boolean", "string", "integer", "null"]}
_METADATA_SCHEMA = {
    "additionalProperties": _SCALAR_SCHEMA,
    "propertyNames": {"pattern": KEY_PATTERN},
}
Metadata = Annotated[
    dict[str, Any],
    Meta(description="Scalars by name; a null value means: not given.", extra_json_schema=_METADATA_SCHEMA),
]
Parameters = Annotated[
    dict[str, Any],
    Meta(
        description="Options by resource type, or by type#id, which wins option by option.",
        extra_json_schema={
            "additionalProperties": {"type": ["object", "null"], **_METADATA_SCHEMA},
            "propertyNames": {"pattern": KEY_PATTERN},
        },
    ),
]

_UUID = re.compile(UUID_PATTERN)
_KEY = re.compile(KEY_PATTERN)


def is_uuid(text: str) -> bool:
    """Whether v1 takes the text for a UUID."""
    return _UUID.match(text) is not None


def canonical_uuid(text: str) -> str:
    """The one spelling that is stored and compared: lower case, with dashes. The text must be a UUID."""
    return str(uuid.UUID(text))


def metadata(given: dict[str, Any] | None, field: str) -> dict[str, Any]:
    """Scalars by name without the nulls; raises `ValueError` naming what is neither."""
    kept = {}
    for name, value in (given or {}).items():
        if not _KEY.match(name):
            raise ValueError(f"{field}: {name!r} is not a valid key")
        if value is not None and not isinstance(value, bool | int | str):
            raise ValueError(f"{field}.{name}: expected a string, an integer or a boolean")
        if value is not None:
            kept[name] = value
    return kept


def parameters(given: dict[str, Any] | None, field: str = "parameters") -> dict[str, dict[str, Any]]:
    """Options by type or type#id, without the nulls; types that have none are kept, as v1 echoes them."""
    kept = {}
    for key, options in (given or {}).items():
        _, mark, ident = key.partition("#")
        if not _KEY.match(key) or (mark and not is_uuid(ident)):
            raise ValueError(f"{field}: {key!r} is neither a resource type nor type#uuid")
        if options is not None and not isinstance(options, dict):
            raise ValueError(f"{field}.{key}: expected an object")
        if options is not None:
            kept[key] = metadata(options, f"{field}.{key}")
    return kept


def extra_info(given: Any, field: str = "extra_info") -> dict[str, Any] | None:
    """An object, or the JSON string of one that v1 shows in checkpoints; empty means none."""
    if isinstance(given, str):
        try:
            given = json.loads(given) if given else None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{field}: expected an object or the JSON text of one") from error
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"{field}: expected an object or null")
    return given or None
