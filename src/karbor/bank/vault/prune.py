"""Forgotten data becomes free space, while writers go on: in two steps, with an epoch as a barrier between them.

*Mark* finds the packs that no snapshot needs, copies what is still needed out of packs that are mostly dead, stores the
list and raises the repository's epoch. Who begins to write from then on takes blobs in listed packs for absent. *Sweep*,
when every run that began in an older epoch has ended and the grace is over, looks again at what snapshots need, takes the
rest of the list out of the index and deletes it. So nothing goes that a snapshot or a run may need: an older run's
snapshot is seen by the second look, a newer run has written again what it needed.

Both steps may be cut off at any moment and done again. Plain restic is kept away by its own locks: `mark` holds a
shared one, `sweep` an exclusive one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from karbor.bank.vault.ballast import refill, throw_off
from karbor.bank.vault.index import INDEX_BLOBS, decode_index, encode_index
from karbor.bank.vault.locks import RepositoryLock
from karbor.bank.vault.marks import Marks
from karbor.bank.vault.prune_mark import Mark, read_mark, write_mark
from karbor.bank.vault.prune_plan import PruneLimits, PrunePlan, plan, stored_packs
from karbor.bank.vault.reach import Lost, Reach
from karbor.bank.vault.snapshot import moment_of
from karbor.errors import BankFull, Damaged, ObjectMissing, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta

    from karbor.bank.vault.repository import Repository
    from karbor.bank.vault.segments import PackEntry

T = TypeVar("T")
_TRIES_FOR_ROOM = 8


class Epochs(Protocol):
    """The repository's epoch, kept by the service beside its runs. A run records the epoch before it opens a writer."""

    def current(self) -> int:
        """The epoch now."""
        ...

    def raise_to(self, epoch: int) -> None:
        """Make `epoch` the epoch of every run that begins from now on; durable when it returns."""
        ...

    def older_runs_ended(self, epoch: int) -> bool:
        """Whether every run that recorded an epoch below `epoch` has ended, well or badly."""
        ...


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep did; `postponed` says why it did nothing."""

    deleted_packs: int = 0
    freed_bytes: int = 0
    kept_packs: int = 0
    """Packs on the list that are needed again."""
    postponed: str = ""


class Pruner:
    """Prunes one repository; one at a time. `roots` are the ids of the snapshots in the catalogue: they count beside
    those that a listing shows. `incarnation` is this process's, for the locks.
    """

    def __init__(
        self,
        repository: Repository,
        epochs: Epochs,
        *,
        incarnation: str,
        grace: timedelta,
        roots: Iterable[str] = (),
        limits: PruneLimits = PruneLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._repository, self._epochs, self._incarnation = repository, epochs, incarnation
        self._grace, self._roots, self._limits = grace, frozenset(roots), limits
        self._victims: list[bytes] = []

    def plan(self) -> PrunePlan:
        """What `mark` would list, with reasons. Changes nothing."""
        repository = self._repository.reopened()
        snapshots, marks = self._reach(repository)
        return plan(repository, marks, snapshots, self._limits)

    def mark(self) -> PrunePlan:
        """List what may go and raise the epoch. `Refused` where the last mark has not been swept."""
        last = read_mark(self._repository.documents)
        if last is not None and not last.swept and last.epoch <= self._epochs.current():
            raise Refused(f"the mark of epoch {last.epoch} has not been swept", hint="sweep first")
        epoch = self._epochs.current() + 1
        with self._locked(exclusive=False) as lock:
            repository = self._repository.reopened()
            snapshots, marks = self._reach(repository)
            found = plan(repository, marks, snapshots, self._limits)
            try:
                _copy(repository, marks, found.going)
            except BankFull:  # what is wholly dead goes first
                found = msgspec.structs.replace(found, repack=())
            lock.check()
            self._store(Mark(epoch=epoch, time=repository.now_ns(), packs=tuple(sorted(map(bytes.hex, found.going)))))
        self._epochs.raise_to(epoch)
        return found

    def sweep(self) -> Swept:
        """Delete what the last mark lists and nothing needs, if it is time."""
        mark = read_mark(self._repository.documents)
        if mark is None or mark.swept:
            return Swept(postponed="there is no mark to sweep")
        if reason := self._too_early(mark):
            return Swept(postponed=reason)
        try:
            with self._locked(exclusive=True) as lock:
                return self._sweep(mark, lock)
        except Unavailable as error:
            return Swept(postponed=error.message)

    def _too_early(self, mark: Mark) -> str:
        if mark.epoch > self._epochs.current():
            return f"the mark of epoch {mark.epoch} was cut off before the epoch was raised; mark again"
        if not self._epochs.older_runs_ended(mark.epoch):
            return f"runs that began before epoch {mark.epoch} have not ended"
        ends = moment_of(mark.time) + self._grace
        return "" if self._repository.clock.now() >= ends else f"the grace ends at {ends.isoformat()}"

    def _sweep(self, mark: Mark, lock: RepositoryLock) -> Swept:
        repository = self._repository.reopened()
        _, marks = self._reach(repository, avoided=mark.pack_ids)
        needed = {pack for pack, used, _ in marks.usage() if used}
        going = mark.pack_ids - needed
        sizes = {pack: size for pack, size in stored_packs(repository) if pack in going}
        self._victims = sorted(sizes)
        self._rewrite_index(repository, going, lock)
        for pack in sorted(going):
            lock.check()
            repository.bank.delete(repository.pack_path(pack))
        self._store(msgspec.structs.replace(mark, swept=True))
        refill(repository.bank)
        return Swept(
            deleted_packs=len(sizes), freed_bytes=sum(sizes.values()), kept_packs=len(mark.pack_ids) - len(going)
        )

    # --- what is needed

    def _reach(self, repository: Repository, *, avoided: frozenset[bytes] = frozenset()) -> tuple[int, Marks]:
        """How many snapshots there are, and marks on all that they need. `Damaged` where one of them cannot be read:
        what it needs is not known then, and nothing may go.
        """
        trees = [repository.snapshot(name).tree for name in self._snapshots(repository)]
        repository.require_sound_index()
        marks = Marks(repository.index, avoided=avoided)

        def lost(blob: Lost) -> None:
            raise Damaged(blob.key, blob.reason, hint="prune leaves a damaged repository alone: check it")

        Reach(repository, marks, lost).add(trees)
        return len(trees), marks

    def _snapshots(self, repository: Repository) -> Iterator[str]:
        listed = frozenset(repository.documents.names("snapshots"))
        yield from listed
        for name in self._roots - listed:
            try:
                repository.bank.stat(repository.documents.path("snapshots", name))
            except ObjectMissing:  # forgotten; a listing alone would not prove it
                continue
            yield name

    # --- the index

    def _rewrite_index(self, repository: Repository, going: frozenset[bytes], lock: RepositoryLock) -> None:
        """Index files without the packs that go, small ones joined. The new ones first: no blob is ever unknown."""
        documents = repository.documents
        old: list[str] = []
        packs: list[PackEntry] = []
        for name in sorted(documents.names("index")):
            found = list(decode_index(documents.get("index", name), documents.path("index", name)))
            kept = [pack for pack in found if pack.id not in going]
            if len(kept) == len(found) and _blobs(kept) > INDEX_BLOBS // 2:
                continue
            old.append(name)
            packs += kept
            if _blobs(packs) >= INDEX_BLOBS:
                self._replace_index(repository, old, packs, lock)
                old, packs = [], []
        self._replace_index(repository, old, packs, lock)

    def _replace_index(
        self, repository: Repository, old: list[str], packs: list[PackEntry], lock: RepositoryLock
    ) -> None:
        lock.check()
        if packs:
            self._with_room(lambda: repository.documents.put("index", encode_index(packs)))
        for name in old:
            repository.documents.delete("index", name)

    # --- room

    def _store(self, mark: Mark) -> None:
        self._with_room(lambda: write_mark(self._repository.documents, mark))

    @contextmanager
    def _locked(self, *, exclusive: bool) -> Iterator[RepositoryLock]:
        lock = RepositoryLock(self._repository, incarnation=self._incarnation, exclusive=exclusive)
        self._with_room(lock.__enter__)
        try:
            yield lock
        finally:
            lock.__exit__(None, None, None)

    def _with_room(self, action: Callable[[], T]) -> T:
        """In a full bank there is no room even to prune: the ballast is thrown off then, and packs go before the index
        files that name them are replaced. Nobody needs them; only plain restic's check would complain, until the end.
        """
        for _ in range(_TRIES_FOR_ROOM):
            try:
                return action()
            except BankFull:
                throw_off(self._repository.bank)
                if self._victims:
                    self._repository.bank.delete(self._repository.pack_path(self._victims.pop()))
        return action()


def _blobs(packs: list[PackEntry]) -> int:
    return sum(len(pack.blobs) for pack in packs)


def _copy(repository: Repository, marks: Marks, going: frozenset[bytes]) -> None:
    """Write what is needed of packs that go into new ones."""
    with repository.writer(dead=going) as writer:
        for kind, blob_id in marks.marked(going):
            writer.save(kind, repository.load(kind, blob_id))
