"""The bank port: named, immutable byte objects, whatever stores them.

What an implementation must guarantee, and `karbor.sdk.contract.bank` proves:

* **Keys** are relative POSIX paths of the characters ``A-Z a-z 0-9 . _ - /``, at most 512 long, without empty,
  ``.`` or ``..`` parts, each part at most 255 long. Any other key is an `InvalidInput` (`check_key`); no key reaches
  anything outside the bank. Nobody uses a key that is a folder of another one.
* **put is atomic**: a reader sees the whole object or none, also after a crash or a cut connection.
* **put is durable**: when it returns the object survives a power failure.
* **if_absent**: where the object exists, `ObjectExists` is raised and nothing changes.
  Where a store cannot promise this to racing writers it leaves the feature out of `features`.
* **read-after-write**: after `put` returned, `get`, `get_range` and `stat` see the object; after `delete`
  returned they raise `ObjectMissing`. `list` may lag where the feature ``list-lag`` is named: so "missing" is
  concluded from `get` or `stat`, never from a listing.
* **list is ordered** by key (bytewise) and pages through any number of objects in bounded memory.
* **delete is idempotent**: a missing object is not an error.
* **Errors** are `BankError` (may pass), `BankFull`, `BankForeign`, `ObjectMissing`, `ObjectExists`; nothing else.
* Every method may be called from many threads at once, and by many processes on the same bank.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import msgspec

from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Buffer = bytes | bytearray | memoryview

FEATURE_IF_ABSENT = "if-absent"
FEATURE_LIST_LAG = "list-lag"
FEATURE_VERSIONING = "versioning"
FEATURE_OBJECT_LOCK = "object-lock"
FEATURE_ATOMIC_DELETE = "atomic-delete"
FEATURE_READERS = "readers"
"""The bank is a `SharedBank`."""

MAX_KEY = 512
MAX_KEY_PART = 255
_KEY_PART = re.compile(r"[A-Za-z0-9._-]+")


def is_key_part(name: str) -> bool:
    """Whether `name` may stand between the slashes of a key."""
    return name not in (".", "..") and len(name) <= MAX_KEY_PART and _KEY_PART.fullmatch(name) is not None


def is_key(key: str) -> bool:
    """Whether a bank may hold an object of this name."""
    return len(key) <= MAX_KEY and all(map(is_key_part, key.split("/")))


def check_key(key: str) -> None:
    """Raise `InvalidInput` where `key` is none that a bank may hold."""
    if not is_key(key):
        raise InvalidInput(f"{key[:80]!r} is not the key of a bank object", field="key")


def check_prefix(prefix: str) -> None:
    """Raise `InvalidInput` where no key can begin with `prefix`: it may be empty and may end anywhere in a key."""
    check_key(f"{prefix}_")


class ObjectStat(msgspec.Struct, frozen=True):
    """A bank object as `list` and `stat` show it; `size` in bytes, `modified` in Unix seconds (0 where unknown)."""

    key: str
    size: int
    modified: float = 0.0


class BankSpace(msgspec.Struct, frozen=True):
    """Room in the bank, in bytes; None where the store cannot tell."""

    total: int | None = None
    free: int | None = None


class Bank(Protocol):
    """A store of named, immutable byte objects; the module's docstring lists its obligations."""

    kind: str
    """The technology: ``filesystem``, ``swift``, ``s3``."""
    location: str
    """Where it is, for people and for plain restic (``/srv/bank``, ``swift:container:/``, ``s3:https://host/bucket``)."""
    features: frozenset[str]
    """What this store can do beyond the obligations: the FEATURE_ constants above."""

    def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """Store the concatenation of `parts` under `key`; replaces an existing object unless `if_absent`."""
        ...

    def get(self, key: str, *, limit: int) -> bytes:
        """The whole object; one that is larger than `limit` bytes is `Damaged`, and not read."""
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; an object that is shorter is `Damaged`."""
        ...

    def stat(self, key: str) -> ObjectStat:
        """Size and time of one object."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectStat]:
        """Objects whose key begins with `prefix`, in bytewise order of keys, those after key `after` only."""
        ...

    def delete(self, key: str) -> None:
        """Remove one object; returns also where there is none."""
        ...

    def space(self) -> BankSpace:
        """How much room there is."""
        ...


class SharedBank(Bank, Protocol):
    """A bank that names the feature `readers`: it can let a project read its own repository, with plain restic too."""

    def set_readers(self, prefix: str, project_ids: Sequence[str]) -> None:
        """Let the users of these projects, and of no other, read the repository at `prefix`; nobody but the service
        where there are none. `InvalidInput` where `prefix` is none of a repository.
        """
        ...

    def repository_location(self, prefix: str) -> str:
        """What plain restic calls the repository at `prefix`."""
        ...
