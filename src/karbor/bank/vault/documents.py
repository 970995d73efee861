"""Documents: the sealed JSON objects of a repository (index, snapshots, locks and our own), named by their hash."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from karbor.bank.vault.codec import MAX_DOCUMENT, Compressor, Decompressor
from karbor.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from karbor.bank.vault.crypto import SealKey
    from karbor.sdk.bank import Bank, ObjectStat

_LEVEL = 3
_HASH = re.compile("[0-9a-f]{64}")


class Documents:
    """Puts and gets documents in the folders of one repository."""

    def __init__(self, bank: Bank, prefix: str, key: SealKey) -> None:
        self.bank, self.prefix, self._key = bank, prefix, key
        self._decompressor = Decompressor()

    def path(self, folder: str, name: str) -> str:
        """The bank key of a document."""
        return f"{self.prefix}{folder}/{name}"

    def seal(self, plain: bytes) -> tuple[str, bytes]:
        """The name and the sealed bytes of a document. Sealing twice gives two names."""
        sealed = self._key.seal(Compressor(_LEVEL).document(plain))
        return hashlib.sha256(sealed).hexdigest(), sealed

    def put(self, folder: str, plain: bytes) -> str:
        """Seal and store a document; its name."""
        name, sealed = self.seal(plain)
        self.put_sealed(folder, name, sealed)
        return name

    def put_sealed(self, folder: str, name: str, sealed: bytes) -> None:
        """Store what `seal` returned; doing it again changes nothing."""
        self.bank.put(self.path(folder, name), [sealed])

    def get(self, folder: str, name: str) -> bytes:
        """The plain bytes of a document; `ObjectMissing`, or `Damaged` where its hash is not its name."""
        path = self.path(folder, name)
        sealed = self.bank.get(path, limit=MAX_DOCUMENT)
        if hashlib.sha256(sealed).hexdigest() != name:
            raise Damaged(path, "its hash is not its name")
        return self.open(sealed, path)

    def open(self, sealed: bytes, path: str) -> bytes:
        """The plain bytes of a sealed document that was read from the bank key `path`."""
        return self._decompressor.document(self._key.open(sealed, path), path)

    def stats(self, folder: str) -> Iterator[ObjectStat]:
        """Every object below a folder, in order; a name that is no hash is left out, as temporary files of others are."""
        for stat in self.bank.list(f"{self.prefix}{folder}/"):
            if _HASH.fullmatch(stat.key.rpartition("/")[2]):
                yield stat

    def names(self, folder: str) -> Iterator[str]:
        """The names of the documents in a folder, in order."""
        return (stat.key.rpartition("/")[2] for stat in self.stats(folder))

    def delete(self, folder: str, name: str) -> None:
        """Remove a document, if it is there."""
        self.bank.delete(self.path(folder, name))
