"""The code blocks of the documentation's pages, with their headings and the words after their language."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LINE = re.compile(r"^(?:(?P<fence>```)(?P<info>.*)|#+ (?P<heading>.*))$")


class Block(msgspec.Struct, frozen=True):
    """One block: `words` are those of its first line, as ``sh run``; `line` is the number of that line."""

    page: str
    heading: str
    line: int
    words: tuple[str, ...]
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    heading, opened, words, lines = "", 0, (), []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        found = _LINE.match(line)
        if found and found["fence"] and not opened:
            opened, words, lines = number, tuple(found["info"].split()), []
        elif found and found["fence"]:
            yield Block(page.name, heading, opened, words, "\n".join(lines) + "\n")
            opened = 0
        elif opened:
            lines.append(line)
        elif found:
            heading = found["heading"]
    assert not opened, f"{page.name}:{opened}: a block is not closed"
