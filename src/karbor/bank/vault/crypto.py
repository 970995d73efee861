"""Sealing of everything in a repository: AES-256-CTR with Poly1305-AES, and the scrypt key files that open it.

Source: restic's design document, "Keys, Encryption and MAC". A sealed box is ``IV(16) || ciphertext || MAC(16)``;
the MAC covers the ciphertext only, so whoever opens a blob must compare its hash with its name as well.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from karbor.errors import Damaged, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from karbor.sdk.bank import Buffer

OVERHEAD = 32
"""Bytes that sealing adds."""
MAX_KEY_FILE = 64 << 10
_MAX_SCRYPT_MEMORY = 256 << 20
_MAX_SCRYPT_WORK = 1 << 24


class SealKey:
    """A key that seals and opens; safe to use from many threads. `random` gives n unpredictable bytes."""

    __slots__ = ("_aes", "_mac", "_random", "_secret")

    def __init__(
        self, encrypt: bytes, mac_k: bytes, mac_r: bytes, *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        if (len(encrypt), len(mac_k), len(mac_r)) != (32, 16, 16):
            raise InvalidInput("a repository key has parts of 32, 16 and 16 bytes")
        self._secret = (encrypt, mac_k, mac_r)
        self._aes = algorithms.AES(encrypt)
        self._mac = Cipher(algorithms.AES(mac_k), modes.ECB())  # noqa: S305 - Poly1305-AES makes its pad by one block of AES
        self._random = random

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> SealKey:
        """A new random key."""
        return cls(random(32), random(16), random(16), random=random)

    def _one_time_key(self, iv: bytes) -> bytes:
        return self._secret[2] + self._mac.encryptor().update(iv)

    def seal_into(self, plain: Buffer, out: memoryview) -> int:
        """Seal `plain` into the front of `out`, which has at least `OVERHEAD` + 16 bytes more room; the sealed length."""
        end = 16 + len(plain)
        iv = self._random(16)
        Cipher(self._aes, modes.CTR(iv)).encryptor().update_into(plain, out[16 : end + 16])
        out[:16] = iv
        out[end : end + 16] = Poly1305.generate_tag(self._one_time_key(iv), out[16:end])
        return end + 16

    def seal(self, plain: Buffer) -> bytes:
        """The sealed box of `plain`."""
        out = bytearray(len(plain) + OVERHEAD + 16)
        return bytes(memoryview(out)[: self.seal_into(plain, memoryview(out))])

    def open(self, box: Buffer, name: str) -> bytes:
        """The plain bytes of a sealed box; `Damaged` naming the bank object `name` where it is not authentic."""
        if len(box) < OVERHEAD:
            raise Damaged(name, f"{len(box)} bytes are too short for a sealed box")
        view = memoryview(box)
        iv, ciphertext = bytes(view[:16]), view[16:-16]
        if not any(iv):
            raise Damaged(name, "the initialisation vector is zero")
        try:
            Poly1305.verify_tag(self._one_time_key(iv), ciphertext, bytes(view[-16:]))
        except InvalidSignature:
            raise Damaged(name, "the message authentication code is wrong") from None
        return Cipher(self._aes, modes.CTR(iv)).decryptor().update(ciphertext)

    def to_json(self) -> bytes:
        """The key as it lies, sealed by a passphrase, in a key file. A secret."""
        encrypt, mac_k, mac_r = self._secret
        return msgspec.json.encode(_MasterKey(mac=_MacKey(k=mac_k, r=mac_r), encrypt=encrypt))

    @classmethod
    def from_json(cls, raw: bytes, name: str, *, random: Callable[[int], bytes] = os.urandom) -> SealKey:
        """The inverse of `to_json`; `Damaged` naming `name` where `raw` is no key."""
        try:
            key = msgspec.json.decode(raw, type=_MasterKey)
            return cls(key.encrypt, key.mac.k, key.mac.r, random=random)
        except (msgspec.MsgspecError, InvalidInput, ValueError, RecursionError):
            raise Damaged(name, "it holds no master key") from None


class _MacKey(msgspec.Struct, frozen=True):
    k: bytes
    r: bytes


class _MasterKey(msgspec.Struct, frozen=True):
    mac: _MacKey
    encrypt: bytes


class KdfParams(msgspec.Struct, frozen=True):
    """The cost of scrypt. Memory is 128·N·r bytes."""

    N: int
    r: int
    p: int


MACHINE_KDF = KdfParams(N=1024, r=8, p=1)
"""For passphrases of 256 random bits, which stretching cannot make stronger: 2 ms."""
HUMAN_KDF = KdfParams(N=1 << 16, r=8, p=2)
"""For passphrases that people choose: 64 MiB, about half a second."""


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """A key file: the master key, sealed by a key that scrypt makes of a passphrase."""

    created: str
    username: str
    hostname: str
    kdf: str
    N: int
    r: int
    p: int
    salt: bytes
    data: bytes


def _stretched(passphrase: str, salt: bytes, cost: KdfParams) -> SealKey:
    memory = 128 * cost.r * (cost.N + cost.p + 2)
    raw = hashlib.scrypt(
        passphrase.encode(), salt=salt, n=cost.N, r=cost.r, p=cost.p, dklen=64, maxmem=memory + (1 << 20)
    )
    return SealKey(raw[:32], raw[32:48], raw[48:64])


def make_key_file(
    master: SealKey, passphrase: str, cost: KdfParams, *, created: str, owner: str, random: Callable[[int], bytes]
) -> bytes:
    """A key file that opens `master` with `passphrase`; `created` is RFC 3339, `owner` says for people whose it is."""
    if not passphrase:
        raise InvalidInput("a repository passphrase must not be empty")
    salt = random(64)
    sealed = _stretched(passphrase, salt, cost).seal(master.to_json())
    document = KeyFile(
        created=created,
        username=owner,
        hostname="karbor",
        kdf="scrypt",
        N=cost.N,
        r=cost.r,
        p=cost.p,
        salt=salt,
        data=sealed,
    )
    return msgspec.json.encode(document)


def parse_key_file(raw: bytes, name: str) -> KeyFile:
    """A key file, refused as `Damaged` where its scrypt parameters are invalid or would take too much memory or time."""
    try:
        key = msgspec.json.decode(raw, type=KeyFile)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Damaged(name, "it is not a key file") from None
    sane = key.kdf == "scrypt" and 1 < key.N <= 1 << 24 and key.N & (key.N - 1) == 0 and key.r > 0 and key.p > 0
    if not sane or 128 * key.N * key.r > _MAX_SCRYPT_MEMORY or key.N * key.r * key.p > _MAX_SCRYPT_WORK:
        raise Damaged(name, "its scrypt parameters are not acceptable")
    return key


def unlock(key: KeyFile, passphrase: str, name: str, *, random: Callable[[int], bytes] = os.urandom) -> SealKey | None:
    """The master key, or None where the passphrase is not the one of this key file."""
    try:
        raw = _stretched(passphrase, key.salt, KdfParams(N=key.N, r=key.r, p=key.p)).open(key.data, name)
    except Damaged:
        return None
    return SealKey.from_json(raw, name, random=random)
