"""From bytes and query strings to values; everything that is wrong becomes an `InvalidInput` that names the field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from karbor.api.route import RawPath
from karbor.errors import InvalidInput, NotFound
from karbor.wire import fields

if TYPE_CHECKING:
    from karbor.api.route import Route

T = TypeVar("T")

_PLACE = re.compile(r"^(?P<text>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?:missing required|contains unknown) field `(.*)`")
_PATTERN = re.compile(r"`str` matching regex '(.*)'", re.DOTALL)


def body(decoder: msgspec.json.Decoder[T], content_type: str | None, data: bytes) -> T:
    """The JSON document as the decoder's type."""
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise InvalidInput("the request needs a body of Content-Type application/json", field="Content-Type")
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _explained(error) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput("Malformed request body") from error


def query(route: Route, query_string: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Declared parameters by name, and the names of the others. Of a repeated one the last counts.

    Bytes that are not UTF-8 stay as surrogate escapes in a `RawPath` and are refused elsewhere.
    """
    try:
        pairs = parse_qsl(query_string, keep_blank_values=True, errors="surrogateescape", max_num_fields=100)
    except ValueError as error:
        raise InvalidInput("the query has too many parameters") from error
    given = dict(pairs)
    types = route.query_types
    known = {name: _parameter(name, kind, given[name]) for name, kind in types.items() if name in given}
    for name in route.required:
        if not known.get(name):
            raise InvalidInput(f"the query parameter {name} is required", field=name)
    return known, tuple(name for name in given if name not in types)


def _parameter(name: str, kind: Any, text: str) -> Any:
    if kind is not RawPath and not text.isascii() and not _is_unicode(text):
        raise InvalidInput(f"the query parameter {name} is not UTF-8", field=name)
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _explained(error, name) from error


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def path(route: Route, elements: dict[str, str]) -> dict[str, str]:
    """The elements of the path, identifiers in their one spelling."""
    known = {}
    for name, value in elements.items():
        known[name] = value
        if name.endswith("_id") and name != "project_id" and name not in route.unchecked:
            known[name] = _identifier(name, value)
    return known


def _identifier(name: str, value: str) -> str:
    if value == "new":  # v1's router kept this word for a form that never existed
        raise NotFound("The resource could not be found.")
    if not fields.is_uuid(value):
        raise InvalidInput(f"Invalid {name.removesuffix('_id').replace('_', ' ')} id provided.", field=name)
    return fields.canonical_uuid(value)


def _explained(error: msgspec.ValidationError, place: str = "") -> InvalidInput:
    """Msgspec says ``Expected … - at `$.plan.name```, our structs ``parameters.x: expected … - at `$.plan```."""
    found = _PLACE.match(str(error))
    assert found is not None  # the pattern matches any text
    text, where = found["text"], [found["path"] or place]
    named = _FIELD.search(text)
    if named:
        where.append(named[1])
    elif text[:1].islower() and ": " in text:
        own, _, text = text.partition(": ")
        where.append(own)
    field = ".".join(filter(None, where))
    text = _PATTERN.sub(lambda match: fields.IN_WORDS.get(_unescaped(match[1]), match[0]), text)
    return InvalidInput(f"Invalid input for {field}: {text}" if field else f"Invalid input: {text}", field=field)


def _unescaped(pattern: str) -> str:
    return pattern.replace("\\\\", "\\")
