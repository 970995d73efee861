"""Exclude patterns as in .gitignore, without negation, over paths relative to the protected directory.

A pattern without a slash (but for one at its end) matches a name at any depth; with one it is anchored at the root.
A slash at the end matches directories only. ``*`` and ``?`` stop at slashes, ``**`` does not. What lies in an excluded
directory is not looked at. Source: the pattern format in git's gitignore(5).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOKEN = re.compile(r"\\(?P<literal>.)|(?P<set>\[[!^]?\]?[^\]]*\])|(?P<wild>\*+|\?)|(?P<plain>.)", re.DOTALL)


class Excludes:
    """Compiled patterns. `InvalidInput` for one that begins with ``!`` or cannot be read."""

    def __init__(self, patterns: Iterable[str]) -> None:
        names: dict[bool, list[str]] = {False: [], True: []}
        paths: dict[bool, list[str]] = {False: [], True: []}
        for pattern in patterns:
            text = re.sub(r"(?<!\\)\s+$", "", pattern)
            if not text or text.startswith("#"):
                continue
            if text.startswith("!"):
                raise InvalidInput(
                    f"the exclude pattern {pattern!r} is a negation, which is not offered", field="excludes"
                )
            body = text.rstrip("/")
            only_directories = len(body) < len(text)
            (paths if "/" in body else names)[only_directories].append(_translated(body, pattern))
        self._names = {True: _any(names[False] + names[True]), False: _any(names[False])}
        self._paths = {True: _any(paths[False] + paths[True]), False: _any(paths[False])}

    def match(self, name: str, parent: str, *, directory: bool) -> bool:
        """Whether the entry `name` of the directory `parent` (``""`` is the root) is excluded."""
        names, paths = self._names[directory], self._paths[directory]
        if names is not None and names.fullmatch(name):
            return True
        return paths is not None and paths.fullmatch(f"{parent}/{name}" if parent else name) is not None


def _any(expressions: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(expressions), re.DOTALL) if expressions else None


def _translated(body: str, pattern: str) -> str:
    """A regular expression for the whole relative path, or for the name where `body` has no slash."""
    segments = body.removeprefix("/").split("/")
    parts = []
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == "**":
            parts.append(".+" if last else "(?:.*/)?")
        else:
            parts.append(_segment(segment) + ("" if last else "/"))
    expression = "".join(parts)
    try:
        re.compile(expression)
    except re.error as error:
        raise InvalidInput(f"the exclude pattern {pattern!r} cannot be read: {error}", field="excludes") from None
    return f"(?:{expression})"


def _segment(segment: str) -> str:
    """The expression of what stands between two slashes."""
    parts = []
    for token in _TOKEN.finditer(segment):
        if token["wild"]:
            parts.append("[^/]" if token["wild"] == "?" else "[^/]*")
        elif token["set"]:
            inner = token["set"][1:-1].replace("\\", "\\\\").replace("[", "\\[")
            negated = inner[:1] in ("!", "^") and len(inner) > 1
            parts.append(f"[^/{inner[1:]}]" if negated else f"[{inner}]")
        else:
            parts.append(re.escape(token["literal"] or token["plain"]))
    return "".join(parts)
