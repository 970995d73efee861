"""Exclude patterns."""

from __future__ import annotations

import pytest

from karbor.bank.vault.files_patterns import Excludes
from karbor.errors import InvalidInput


def excluded(pattern, path):
    """As a walk decides: a path is out when it or a directory above it is; a slash at its end makes it a directory."""
    excludes = Excludes([pattern])
    parts = path.rstrip("/").split("/")
    return any(
        excludes.match(name, "/".join(parts[:depth]), directory=depth < len(parts) - 1 or path.endswith("/"))
        for depth, name in enumerate(parts)
    )


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("*.tmp", ["a.tmp", "x/y/.tmp", "a.tmp/below"], ["a.tmpx", "tmp", "a.tmp~"]),
        ("cache/", ["cache/", "a/cache/", "cache/x"], ["cache", "a/cache", "cached/"]),
        ("/top", ["top", "top/x"], ["a/top"]),
        ("a/b", ["a/b", "a/b/c"], ["x/a/b", "a/x/b"]),
        ("var/log/**", ["var/log/x", "var/log/x/y"], ["var/log", "x/var/log/y"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["ax", "a/bx"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "b"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        ("[a-c]x", ["ax", "q/cx"], ["dx", "x"]),
        ("[!a-c]x", ["dx"], ["ax", "/x"]),
        ("[]]x", ["]x"], ["x"]),
        (r"\*", ["*"], ["a"]),
        (r"\#x", ["#x"], ["x"]),
        ("# x", [], ["# x", "x"]),
        ("", [], ["x"]),
        ("x  ", ["x"], ["x  "]),
        (r"x\ ", ["x "], ["x"]),
        ("a(b|c)+.$", ["a(b|c)+.$"], ["ab."]),
        ("caf\udce9*", ["caf\udce9s"], ["cafe"]),
    ],
)
def test_patterns_mean_what_gitignore_says(pattern, inside, outside):
    assert [path for path in inside if not excluded(pattern, path)] == []
    assert [path for path in outside if excluded(pattern, path)] == []


def test_all_patterns_of_a_list_count():
    excludes = Excludes(["*.a", "b/", "/c/d"])
    assert excludes.match("x.a", "deep", directory=False)
    assert excludes.match("b", "", directory=True)
    assert excludes.match("d", "c", directory=False)
    assert not excludes.match("b", "", directory=False)


@pytest.mark.parametrize("pattern", ["!x", "!", "[z-a]"])
def test_what_cannot_be_meant_is_refused(pattern):
    with pytest.raises(InvalidInput, match="pattern"):
        Excludes([pattern])
