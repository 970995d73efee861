"""Seals what steps are given and record before it reaches the database: AES-256-GCM (NIST SP 800-38D).

The key is derived by HKDF-SHA256 (RFC 5869) from the service's root key, so a stolen database tells nothing.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from karbor.errors import Damaged

_NONCE = 12


class Sealer:
    """Seals and opens byte strings; `context` binds a sealed string to its place, so none can be swapped."""

    def __init__(self, root_key: bytes) -> None:
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"karbor journal 1").derive(root_key)
        self._aead = AESGCM(key)

    def seal(self, data: bytes, context: str) -> bytes:
        """`data` sealed for `context`, 28 bytes longer; nothing stays nothing."""
        if not data:
            return b""
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, data, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """What `seal` was given; raises `Damaged` where it was changed, moved or sealed with another root key."""
        if not sealed:
            return b""
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
        except InvalidTag as error:
            raise Damaged(context, "the database row was not sealed with this root key, or was changed") from error
