"""Locks: restic's own lock files, so that a plain `restic prune` refuses while a job of ours runs, and we while it does.

A writer holds a *shared* lock for its whole life, our sweeper an *exclusive* one. Among ourselves these do not exclude:
prune's epochs keep writers safe from the sweeper (see `prune`). Everybody else's exclusive lock stops a writer, and any
lock of somebody else stops the sweeper. Our locks are known by the host name ``karbor-<incarnation>``, which no other
process has, so that restic never takes a live one for the left-over of a dead process of its own host.

Source of the facts: restic's design document, "Locks", and its behaviour: a lock is refreshed every five minutes by
writing a new file and removing the old one, and is stale after thirty.
"""

from __future__ import annotations

import os
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Self

import msgspec

from karbor.bank.vault.wireformat import go_json, go_time, parse_time
from karbor.errors import Damaged, KarborError, LeaseLost, ObjectMissing, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from karbor.bank.vault.repository import Repository

FOLDER = "locks"
REFRESH_SECONDS = 300.0
STALE_SECONDS = 1800.0
_SETTLE_SECONDS = 0.2
"""Between writing a lock and looking again for the locks of those who did the same."""
_OURS = "karbor-"


class HeldLock(msgspec.Struct, frozen=True, kw_only=True):
    """A lock file. `time` is RFC 3339."""

    time: str
    exclusive: bool = False
    hostname: str = ""
    username: str = ""
    pid: int = 0

    @property
    def ours(self) -> bool:
        """Whether a process of this service holds it."""
        return self.hostname.startswith(_OURS)


def decode_lock(raw: bytes, name: str) -> HeldLock:
    """A lock from its JSON; `Damaged` naming the bank object `name` where it is none."""
    try:
        lock = msgspec.json.decode(raw, type=HeldLock)
        parse_time(lock.time)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damaged(name, f"it holds no lock ({error})") from None
    return lock


def locks(repository: Repository) -> Iterator[tuple[str, HeldLock]]:
    """(name, lock) of every lock file that is not stale."""
    now = repository.now_ns()
    for name in repository.documents.names(FOLDER):
        try:
            lock = decode_lock(repository.documents.get(FOLDER, name), repository.documents.path(FOLDER, name))
        except ObjectMissing:  # refreshed or released meanwhile
            continue
        if now - parse_time(lock.time) < STALE_SECONDS * 1e9:
            yield name, lock


def remove_locks(repository: Repository, incarnation: str) -> int:
    """Remove the locks of a dead incarnation of ours, whose work another has taken over; how many there were."""
    dead = [name for name, lock in locks(repository) if lock.hostname == _OURS + incarnation]
    for name in dead:
        repository.documents.delete(FOLDER, name)
    return len(dead)


def remove_stale_locks(repository: Repository) -> int:
    """Remove lock files that nobody has refreshed for half an hour; how many there were."""
    fresh = {name for name, _ in locks(repository)}
    stale = [name for name in repository.documents.names(FOLDER) if name not in fresh]
    for name in stale:
        repository.documents.delete(FOLDER, name)
    return len(stale)


class RepositoryLock:
    """A lock held and refreshed for the length of a `with` block. `Unavailable` where another's lock forbids it.

    `incarnation` is unique to this process's life. `journal` is told the name of each lock file before it is written, so
    that whoever takes over can remove it.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        incarnation: str,
        exclusive: bool = False,
        journal: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._repository, self._exclusive, self._journal = repository, exclusive, journal
        self._hostname = _OURS + incarnation
        self._name = ""
        self._refreshed = 0.0
        self._lock = Lock()
        self._released = Event()
        self._thread = Thread(target=self._keep, name="vault-lock", daemon=True)

    def __enter__(self) -> Self:
        self._look_for_others()
        self._write()
        try:
            self._repository.clock.sleep(_SETTLE_SECONDS)
            self._look_for_others()
        except BaseException:
            self._remove(self._name)
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join()
        self._remove(self._name)

    def check(self) -> None:
        """Raise `LeaseLost` where the lock could not be refreshed in time: others may take it for stale by now."""
        if self._repository.clock.monotonic() - self._refreshed > STALE_SECONDS - REFRESH_SECONDS:
            raise LeaseLost(f"the lock on repository {self._repository.prefix} was not refreshed in time")

    def refresh(self) -> None:
        """Write the lock anew and remove the old file."""
        with self._lock:
            old = self._name
            self._write()
            self._remove(old)

    def _keep(self) -> None:
        while not self._released.wait(REFRESH_SECONDS):
            try:
                self.refresh()
            except KarborError:  # tried again; `check` notices when it was too long
                continue

    def _write(self) -> None:
        repository = self._repository
        lock = HeldLock(
            time=go_time(repository.now_ns()),
            exclusive=self._exclusive,
            hostname=self._hostname,
            username="karbor",
            pid=os.getpid(),
        )
        started = repository.clock.monotonic()
        name, sealed = repository.documents.seal(go_json(lock))
        self._journal(name)
        repository.documents.put_sealed(FOLDER, name, sealed)
        self._name, self._refreshed = name, started

    def _remove(self, name: str) -> None:
        self._repository.documents.delete(FOLDER, name)

    def _excluded_by(self, lock: HeldLock) -> bool:
        if lock.ours:  # two processes that sweep at once would help nobody
            return lock.exclusive and self._exclusive and lock.hostname != self._hostname
        return lock.exclusive or self._exclusive

    def _look_for_others(self) -> None:
        for name, lock in locks(self._repository):
            if self._excluded_by(lock):
                raise Unavailable(
                    f"repository {self._repository.prefix} is locked by {lock.username}@{lock.hostname}, process {lock.pid}",
                    hint=f"the lock is {FOLDER}/{name}; `restic unlock` removes it if that process is gone",
                )
