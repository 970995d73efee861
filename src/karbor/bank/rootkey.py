"""A provider's root key: 256 bits that open every repository of it, kept in a file and printable on paper.

Everything else is derived from it by HKDF-SHA256 (RFC 5869). The paper form is base32 in groups, with a checksum,
so that it can be typed in again.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = 32
_CHECK = 3
_HEADER = "karbor-root-key-1"


def derive(root_key: bytes, info: str) -> bytes:
    """32 bytes for one purpose, named by `info`."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"karbor 1 {info}".encode()).derive(root_key)


def to_paper(root_key: bytes) -> str:
    """The key as people write it down: a header and base32 groups, the last of them a checksum."""
    body = base64.b32encode(root_key + hashlib.sha256(root_key).digest()[:_CHECK]).decode().rstrip("=")
    return f"{_HEADER} " + "-".join(body[at : at + 7] for at in range(0, len(body), 7))


def from_paper(text: str) -> bytes:
    """The key from its paper form; `InvalidInput` where it was mistyped."""
    body = text.strip().removeprefix(_HEADER).replace("-", "").replace(" ", "").replace("\n", "").upper()
    try:
        raw = base64.b32decode(body + "=" * (-len(body) % 8))
    except ValueError as error:
        raise InvalidInput("this is not a root key: it has characters that base32 does not", field="key") from error
    key, check = raw[:-_CHECK], raw[-_CHECK:]
    if len(key) != SIZE or hashlib.sha256(key).digest()[:_CHECK] != check:
        raise InvalidInput("this is not a root key: its checksum is wrong, something was mistyped", field="key")
    return key


def read_key_file(path: Path) -> bytes:
    """The key in a file; refuses one that others may read."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except OSError as error:
        raise InvalidInput(f"root key file {path} cannot be read: {error.strerror}", field="root_key_file") from error
    if stat.S_IMODE(mode) & 0o077:
        raise InvalidInput(f"root key file {path} can be read by others; its mode must be 0600", field="root_key_file")
    return from_paper(text)


def make_key_file(path: Path, random: Callable[[int], bytes]) -> bytes:
    """A new key in a new file (0600, durable); the existing one where there is a file."""
    if path.exists():
        return read_key_file(path)
    key = random(SIZE)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(to_paper(key) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key
