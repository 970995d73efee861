"""The history of a project in its repository: what was done, when, by whom, how it ended, and what was stated.

Entries lie at ``karbor/log/<number>`` beside restic's folders, sealed as its index files are. Each names the hash of
the one before it, so that none can be changed, swapped or taken out of the middle unnoticed; only the newest can be
withheld, and `recover` prints the number it found.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.errors import Damaged, ObjectExists

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from karbor.bank.vault.repository import Repository

_FOLDER = "karbor/log"
FIRST = 1


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it was stored, or that it was removed. `id` is the outbox's; a database that was lost and recovered
    counts anew.
    """

    id: int
    kind: str
    record: dict[str, Any]
    removed: bool = False


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Some changes, in order. `before` is the SHA-256 of the sealed entry before; empty for the first."""

    number: int
    before: str
    changes: tuple[Change, ...]


def append(repository: Repository, entry: Entry) -> tuple[Entry, str]:
    """Store the next entry; returns it with its hash. Where a killed process has stored that number already, what it
    stored is the entry."""
    name = f"{entry.number:020d}"
    key = repository.documents.path(_FOLDER, name)
    _, sealed = repository.documents.seal(msgspec.json.encode(entry))
    try:
        repository.bank.put(key, [sealed], if_absent=True)
    except ObjectExists:
        return _read(repository, name)
    return entry, hashlib.sha256(sealed).hexdigest()


def entries(repository: Repository) -> Iterator[Entry]:
    """Every entry in order; `Damaged` where one was changed, swapped or is missing."""
    before = ""
    stored = repository.bank.list(repository.documents.path(_FOLDER, ""))
    for number, stat in enumerate(stored, start=FIRST):
        entry, own = _read(repository, stat.key.rpartition("/")[2])
        if entry.number != number or entry.before != before:
            raise Damaged(
                stat.key, f"it does not follow entry {number - 1}: one is missing, or was put in another's place"
            )
        yield entry
        before = own


def _read(repository: Repository, name: str) -> tuple[Entry, str]:
    key = repository.documents.path(_FOLDER, name)
    sealed = repository.bank.get(key, limit=256 << 20)
    try:
        entry = msgspec.json.decode(repository.documents.open(sealed, key), type=Entry)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damaged(key, f"it holds no history ({error})") from None
    return entry, hashlib.sha256(sealed).hexdigest()


def newest(changes: Iterable[Change]) -> list[Change]:
    """The last change of each record, removals left out, in the order in which records first appeared."""
    last: dict[tuple[str, str], Change] = {}
    for change in changes:
        last[change.kind, str(change.record.get("id", ""))] = change
    return [change for change in last.values() if not change.removed]
