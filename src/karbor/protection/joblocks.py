"""restic's own locks for our jobs: while a run works on a repository, a plain `restic prune` there refuses.

One shared lock per repository and worker, held from the first step of a run until no run needs it any more. A run
that another worker ended is forgotten after `_QUIET` seconds without a step here; the lock file of a dead worker is
stale for everybody after half an hour and is removed by the next job.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from karbor.bank.vault.locks import RepositoryLock, remove_stale_locks

if TYPE_CHECKING:
    from karbor.bank.vault.repository import Repository
    from karbor.domain.clock import Clock

_QUIET = 900.0


class _Job:
    """A held lock and when each run last needed it."""

    def __init__(self, lock: RepositoryLock) -> None:
        self.lock = lock
        self.needed: dict[str, float] = {}


class JobLocks:
    """The locks of one worker; called from all of its threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._jobs: dict[str, _Job] = {}

    def need(self, repository: Repository, run_id: str, incarnation: str) -> None:
        """Hold the repository's lock for a run; raises `Unavailable` where another's exclusive lock forbids it, and
        `LeaseLost` where it could not be refreshed."""
        key = f"{repository.bank.location}/{repository.prefix}"
        with self._mutex:
            job = self._jobs.get(key)
            if job is None:
                remove_stale_locks(repository)
                job = self._jobs[key] = _Job(RepositoryLock(repository, incarnation=incarnation).__enter__())
            job.lock.check()
            job.needed[run_id] = self._clock.monotonic()

    def release(self, run_id: str) -> None:
        """The run has ended here; locks that nobody needs are removed."""
        quiet = self._clock.monotonic() - _QUIET
        with self._mutex:
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
