"""restic's own locks for our jobs: while a run works on a repository, a plain `restic prune` there refuses.

One shared lock per repository and worker, held from the first step of a run until no run needs it any more. A run
that another worker ended is forgotten after `_QUIET` seconds without a step here. Who takes a run over removes the
locks of the workers that died with it: their ids are in the journal.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from karbor.bank.vault.locks import RepositoryLock, remove_locks
from karbor.errors import BankError

if TYPE_CHECKING:
    from karbor.bank.vault.repository import Repository
    from karbor.domain.clock import Clock
    from karbor.flow.journal import Journal
    from karbor.flow.worker import Claim

_QUIET = 900.0
_HOLDER = "lock"
_READERS = frozenset({"restore", "verify"})


class _Job:
    """A held lock and when each run last needed it."""

    def __init__(self, lock: RepositoryLock) -> None:
        self.lock = lock
        self.needed: dict[str, float] = {}


class JobLocks:
    """The locks of one worker; called from all of its threads."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal, self._clock = journal, clock
        self._mutex = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._without: set[str] = set()
        """Runs that read from a bank where no lock can be written."""

    def need(self, repository: Repository, claim: Claim) -> None:
        """Hold the repository's lock for the run of a step; raises `Unavailable` where another's exclusive lock
        forbids it, and `LeaseLost` where it could not be refreshed. What only reads needs no room in the bank: it goes on
        where no lock can be written."""
        run_id = claim.step.run_id
        key = f"{repository.bank.location}/{repository.prefix}"
        with self._mutex:
            if run_id in self._without:
                return
            job = self._jobs.get(key)
            if job is None:
                self._enter(claim)
                lock = RepositoryLock(repository, incarnation=claim.worker_id)
                try:
                    job = _Job(lock.__enter__())
                except BankError:
                    if claim.step.operation not in _READERS:
                        raise
                    self._without.add(run_id)
                    return
                self._jobs[key] = job
                self._bury(repository, run_id)
            elif run_id not in job.needed:
                self._enter(claim)
                self._bury(repository, run_id)
            job.lock.check()
            job.needed[run_id] = self._clock.monotonic()

    def _enter(self, claim: Claim) -> None:
        """Journal who holds a lock for the run, before it is written."""
        self._journal.record(claim.worker_id, claim.step, _HOLDER, msgspec.json.encode(claim.worker_id))

    def _bury(self, repository: Repository, run_id: str) -> None:
        """Remove what dead workers held for the run."""
        holders = {msgspec.json.decode(raw, type=str) for _, raw in self._journal.all_records(run_id, _HOLDER)}
        for dead in holders - self._journal.living():
            remove_locks(repository, dead)

    def release(self, run_id: str) -> None:
        """The run has ended here; locks that nobody needs are removed."""
        quiet = self._clock.monotonic() - _QUIET
        with self._mutex:
            self._without.discard(run_id)
            for key, job in list(self._jobs.items()):
                job.needed = {run: at for run, at in job.needed.items() if run != run_id and at > quiet}
                if not job.needed:
                    del self._jobs[key]
                    job.lock.__exit__(None, None, None)

    def close(self) -> None:
        """Remove every lock: the worker stops."""
        with self._mutex:
            for job in self._jobs.values():
                job.lock.__exit__(None, None, None)
            self._jobs.clear()
