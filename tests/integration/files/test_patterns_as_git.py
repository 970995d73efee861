"""Exclude patterns mean what git makes of them."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karbor.bank.vault.files_patterns import Excludes


def excluded(pattern, path):
    """As a walk decides: a path is out when it or a directory above it is; a slash at its end makes it a directory."""
    excludes = Excludes([pattern])
    parts = path.rstrip("/").split("/")
    return any(
        excludes.match(name, "/".join(parts[:depth]), directory=depth < len(parts) - 1 or path.endswith("/"))
        for depth, name in enumerate(parts)
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    path = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", path], check=True)
    return path


PIECES = st.sampled_from(["a", "b", "*", "**", "?", "/", "[ab]", "[!a]", ".", "ab", r"\*"])
NAMES = st.text("ab.*", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))


@settings(max_examples=100, deadline=None)
@given(
    pattern=st.lists(PIECES, min_size=1, max_size=5).map("".join).filter(lambda text: "//" not in text),
    path=st.lists(NAMES, min_size=1, max_size=3).map("/".join),
)
def test_git_agrees(repository, pattern, path):
    (repository / ".git" / "info" / "exclude").write_text(pattern + "\n")
    asked = subprocess.run(["git", "-C", repository, "check-ignore", "-q", "--no-index", "--", path], check=False)
    assert excluded(pattern, path) == (asked.returncode == 0)
