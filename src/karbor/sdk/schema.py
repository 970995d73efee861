"""Options of plugins: one struct is the declaration; parsing and the JSON schema that v1 shows come from it.

Values arrive as people and old clients send them: ``"True"`` for a boolean, ``"12"`` for an integer, null for
"not given". `parse` reads them so and keeps the types inside.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There is nothing to choose."""


S = TypeVar("S", bound=msgspec.Struct)

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse(options: type[S], given: Mapping[str, Any], *, field: str) -> S:
    """The options as their struct; raises `InvalidInput` naming the option and what is allowed.

    `field` is where the mapping stands in the request, for the message.
    """
    known = {info.encode_name: info for info in msgspec.structs.fields(options)}
    for name in given:
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise InvalidInput(f"unknown option {name!r}; allowed: {allowed}", field=f"{field}.{name}")
    values = {name: _natural(known[name].type, value) for name, value in given.items() if value is not None}
    try:
        return msgspec.convert(values, options, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{field}: {error}", field=field) from error


def _natural(kind: Any, value: Any) -> Any:
    if isinstance(value, str) and "bool" in str(kind):
        return _BOOLEANS.get(value.strip().lower(), value)
    return value


@functools.cache
def json_schema(options: type[msgspec.Struct], title: str) -> dict[str, Any]:
    """The struct in v1's shape: ``{title, type, properties: {name: {type, title, description, default?, enum?}},
    required}``. A field's title and description come from its `msgspec.Meta`."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    own = msgspec.json.schema(options)
    body = own["$defs"][options.__name__] if "$defs" in own else own
    for name, raw in body.get("properties", {}).items():
        properties[name] = {"title": name.replace("_", " ").capitalize(), "description": "", **_flat(raw)}
        if name in body.get("required", ()):
            required.append(name)
    return {"title": title, "type": "object", "properties": properties, "required": required}


def _flat(raw: dict[str, Any]) -> dict[str, Any]:
    """v1's forms know one type per property: of ``T | null`` only T is shown."""
    if "anyOf" not in raw:
        return {"type": "string", **raw} if "enum" in raw else raw
    rest = {key: value for key, value in raw.items() if key != "anyOf"}
    kinds = [kind for kind in raw["anyOf"] if kind.get("type") != "null"]
    return {**_flat(kinds[0]), **rest} if kinds else rest
