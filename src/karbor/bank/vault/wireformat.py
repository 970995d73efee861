"""Go's ways of writing JSON, names, times and file modes, to the byte: restic is a Go program, and a tree that we
write has the name (the hash) that restic would give it.

Sources: Go's encoding/json, strconv.Quote, time.RFC3339Nano and io/fs.FileMode.
"""

from __future__ import annotations

import re
import stat
from datetime import datetime, timedelta
from typing import Any

import msgspec


def id_of(text: str) -> bytes:
    """The 32 bytes of an id in hexadecimal; ValueError where it is none."""
    raw = bytes.fromhex(text)
    if len(raw) != 32:
        raise ValueError("an id has not 32 bytes")
    return raw


_HTML = re.compile(b"[<>&]|\xe2\x80[\xa8\xa9]")


def go_json(value: Any) -> bytes:
    """`value` as Go's encoding/json writes it: compact, ``<>&`` and the two Unicode line separators escaped."""
    return escape_html(msgspec.json.encode(value))


def escape_html(raw: bytes) -> bytes:
    """Go's escapes in finished JSON; these characters occur inside strings only."""
    return _HTML.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), raw)


_SHORT = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_SHORT_BACK = {text[1].encode(): bytes([code]) for code, text in _SHORT.items()} | {b"'": b"'"}


def quote(raw: bytes) -> str:
    """A file name as restic stores it: strconv.Quote without the quotes; any bytes survive."""
    text = raw.decode("utf-8", "surrogateescape")
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(char if char.isprintable() and char not in '"\\' else _quoted(ord(char)) for char in text)


def _quoted(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape shows it
        return f"\\x{code - 0xDC00:02x}"
    if code in _SHORT:
        return _SHORT[code]
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))", re.DOTALL)


def unquote(text: str) -> bytes:
    """The bytes that `quote` made `text` of; ValueError for an escape that Go does not know."""
    raw = text.encode()
    return _ESCAPE.sub(_unquoted, raw) if b"\\" in raw else raw


def _unquoted(match: re.Match[bytes]) -> bytes:
    byte, short, long, octal, char = match.groups()
    if byte:
        return bytes([int(byte, 16)])
    if octal:
        return bytes([int(octal, 8)])
    if code := short or long:
        return chr(int(code, 16)).encode()
    if char in _SHORT_BACK:
        return _SHORT_BACK[char]
    raise ValueError(f"unknown escape {match[0]!r} in a name")


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC without saying so: arithmetic on naive moments is faster
_FIRST_NS = -62_135_596_800 * 10**9
_LAST_NS = 253_402_300_800 * 10**9 - 1


def go_time(ns: int) -> str:
    """RFC 3339 in UTC of Unix nanoseconds, trailing zeros cut; the years 1 to 9999, what lies outside is moved there."""
    seconds, fraction = divmod(min(max(ns, _FIRST_NS), _LAST_NS), 10**9)
    text = (_EPOCH + timedelta(seconds=seconds)).isoformat()
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else text + "Z"


_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)


def parse_time(text: str) -> int:
    """Unix nanoseconds of an RFC 3339 time in any zone; ValueError where it is none."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time: {text[:40]!r}")
    moment, fraction, sign, hours, minutes = match.groups()
    since = datetime.fromisoformat(moment) - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += -offset if sign == "+" else offset
    return seconds * 10**9 + (int(fraction.ljust(9, "0")) if fraction else 0)


_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))
_GO_TYPES = {
    "file": 0,
    "dir": 1 << 31,
    "symlink": 1 << 27,
    "dev": 1 << 26,
    "chardev": 1 << 26 | 1 << 21,
    "fifo": 1 << 25,
    "socket": 1 << 24,
}


def go_mode(kind: str, permissions: int) -> int:
    """Go's FileMode of a node type and its POSIX bits (permissions, set-id, sticky)."""
    mode = permissions & 0o777 | _GO_TYPES[kind]
    for posix, go in _GO_BITS:
        if permissions & posix:
            mode |= go
    return mode


def posix_mode(mode: int) -> int:
    """The POSIX bits (permissions, set-id, sticky) of a Go FileMode."""
    permissions = mode & 0o777
    for posix, go in _GO_BITS:
        if mode & go:
            permissions |= posix
    return permissions
