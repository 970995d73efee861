"""The worker: claims steps, runs their handlers on threads, writes how they ended.

One thread speaks with the database (claims, and group commits of outcomes), one sends heartbeats, the others run
handlers. Recovery needs no code: steps of a worker that is not heard of become ready and are claimed again.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import msgspec

from karbor.domain.operation import Reason
from karbor.errors import Cancelled, KarborError, LeaseLost, PluginError
from karbor.flow.lease import Lease
from karbor.flow.model import Fail, Park, Retry
from karbor.sdk.op import Parked

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from karbor.domain.clock import Clock, Randomness
    from karbor.flow.journal import Journal
    from karbor.flow.model import Outcome, Step


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works; times in seconds."""

    threads: int = 4
    batch: int = 32
    """How many steps are held claimed at most, running ones included."""
    lease: float = 30.0
    heartbeat: float = 10.0
    report: float = 2.0
    chore: float = 20.0
    """How often the worker does what is nobody's in particular: it begins upkeep that is due, and writes histories."""
    idle: float = 0.25
    """How often the database is asked while there is nothing to do."""
    drain: float = 10.0
    """How long running handlers get to give their steps back at a stop."""
    max_tries: int = 5
    patient: frozenset[str] = frozenset()
    """Actions that are tried for ever when the failure may pass: those that say how a run ended."""
    backoff: float = 2.0
    """Wait before the second try; doubled each time, with jitter, at most `backoff_limit`."""
    backoff_limit: float = 300.0


class Claim:
    """A step that this worker holds, as its handler sees it."""

    def __init__(self, step: Step, worker: Worker) -> None:
        self.step = step
        self.lease = worker.lease
        self.worker_id = worker.worker_id
        self._worker = worker
        self.cancelled = threading.Event()
        if step.cancelled:
            self.cancelled.set()

    @property
    def draining(self) -> bool:
        """The worker is stopping: leave at the next opportunity."""
        return self._worker.stopping.is_set()

    @property
    def last_try(self) -> bool:
        """A failure now is final, retryable or not."""
        options = self._worker.options
        return self.step.tries + 1 >= options.max_tries and self.step.action not in options.patient

    def report(self, done: int, total: int, what: str) -> None:
        """Remember how far the step is; written with the next report."""
        self._worker.figures[(self.step.run_id, self.step.seq)] = (done, total, what)


class Worker:
    """One incarnation; `run` returns when `stopping` is set or the lease was lost."""

    def __init__(
        self,
        journal: Journal,
        handler: Callable[[Claim], Outcome],
        *,
        worker_id: str,
        host: str,
        pid: int,
        clock: Clock,
        random: Randomness,
        log: logging.Logger,
        options: WorkerOptions,
        chore: Callable[[], object] = lambda: None,
        may_claim: Callable[[], bool] = lambda: True,
    ) -> None:
        self.worker_id = worker_id
        self.stopping = threading.Event()
        self.lease = Lease(clock, options.lease)
        self.figures: dict[tuple[str, int], tuple[int, int, str]] = {}
        self._journal = journal
        self._handler = handler
        self._host, self._pid = host, pid
        self._clock, self._random, self._log, self._chore = clock, random, log, chore
        self._may_claim = may_claim
        self.options = options
        self._todo: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[tuple[Claim, Outcome]] = queue.SimpleQueue()
        self._held: dict[tuple[str, int], Claim] = {}
        self._beating = threading.Event()

    def run(self) -> None:
        """Work until told to stop or until the lease is lost; then give back what is held."""
        self._journal.enlist(self.worker_id, self._host, self._pid)
        self.lease.renew(self._clock.monotonic())
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        hands = [
            threading.Thread(target=self._work, name=f"step-{i}", daemon=True) for i in range(self.options.threads)
        ]
        for thread in [heart, *hands]:
            thread.start()
        try:
            self._serve()
        finally:
            self._stop(hands)
            self._beating.set()
            heart.join()

    def _serve(self) -> None:
        expired = reported = done_chore = float("-inf")
        while not self.stopping.is_set() and self.lease.left() > 0:
            now = self._clock.monotonic()
            try:
                if now - expired >= self.options.lease / 3:
                    expired = now
                    taken = self._journal.expire()
                    if taken:
                        self._log.warning("steps taken over", extra={"event": "takeover", "steps": taken})
                if now - done_chore >= self.options.chore:
                    done_chore = now
                    self._chore()
                if now - reported >= self.options.report:
                    reported = now
                    self._report()
                busy = self._claim()
            except KarborError as error:
                if not error.retryable:
                    raise
                self._log.warning("database does not answer: %s", error, extra={"event": "database"})
                busy = False
                self._clock.sleep(self.options.idle)
            self._commit(wait=0.005 if busy else self.options.idle)

    def _claim(self) -> bool:
        room = self.options.batch - len(self._held)
        if room < max(1, self.options.batch // 4):
            return True
        if not self._may_claim():
            return False
        steps = self._journal.claim(self.worker_id, room)
        for step in steps:
            claim = Claim(step, self)
            self._held[(step.run_id, step.seq)] = claim
            self._todo.put(claim)
        return bool(steps)

    def _commit(self, wait: float) -> None:
        """Take what has ended, waiting for the first, and write it in one transaction."""
        ended: list[tuple[Claim, Outcome]] = []
        try:
            ended.append(self._ended.get(timeout=wait))
            while len(ended) < 2 * self.options.batch:
                ended.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        if not ended:
            return
        try:
            self._journal.finish_many(self.worker_id, [(claim.step, outcome) for claim, outcome in ended])
        except KarborError as error:
            if error.retryable:
                self._put_back(ended, error)
                return
            self._commit_singly(ended)
            return
        self._let_go(ended)

    def _put_back(self, ended: list[tuple[Claim, Outcome]], error: KarborError) -> None:
        """The database does not answer: an outcome that is not written is kept, as long as the lease is."""
        self._log.warning("outcomes not written yet: %s", error, extra={"event": "database"})
        for each in ended:
            self._ended.put(each)
        self._clock.sleep(self.options.idle)

    def _let_go(self, ended: list[tuple[Claim, Outcome]]) -> None:
        for claim, _ in ended:
            key = (claim.step.run_id, claim.step.seq)
            self._held.pop(key, None)
            self.figures.pop(key, None)

    def _commit_singly(self, ended: list[tuple[Claim, Outcome]]) -> None:
        """One of several outcomes cannot be written: write the others, and fail the one with its reason."""
        for claim, outcome in ended:
            try:
                self._finish(claim, outcome)
            except LeaseLost:
                self._log.warning(
                    "step lost", extra={"event": "fenced", "run": claim.step.run_id, "seq": claim.step.seq}
                )
            except KarborError as error:
                self._put_back([(claim, outcome)], error)
                continue
            self._let_go([(claim, outcome)])

    def _finish(self, claim: Claim, outcome: Outcome) -> None:
        """Write one outcome; where its own effects are refused, that is how the step ends."""
        try:
            self._journal.finish(self.worker_id, claim.step, outcome)
        except KarborError as error:
            if error.retryable:
                raise
            self._journal.finish(self.worker_id, claim.step, self._failure(claim, error))

    def _report(self) -> None:
        figures = dict(self.figures)
        for key in list(self._held):
            figures.setdefault(key, (0, 0, ""))
        if not figures:
            return
        cancelled = self._journal.report(self.worker_id, figures)
        for (run_id, _), claim in list(self._held.items()):
            if run_id in cancelled:
                claim.cancelled.set()

    def _beat(self) -> None:
        while not self._beating.wait(self.options.heartbeat):
            began = self._clock.monotonic()
            try:
                alive = self._journal.heartbeat(self.worker_id)
            except KarborError as error:
                self._log.warning("heartbeat failed: %s", error, extra={"event": "heartbeat"})
                continue
            if not alive:
                self.lease.lose()
                return
            self.lease.renew(began)

    def _work(self) -> None:
        while True:
            claim = self._todo.get()
            if claim is None:
                return
            self._ended.put((claim, self._outcome(claim)))

    def _outcome(self, claim: Claim) -> Outcome:
        """Run the handler; the one place where whatever a plugin raises becomes a reason."""
        if claim.draining:
            return Park(seconds=0)
        try:
            claim.lease.check()
            return self._handler(claim)
        except Parked as parked:
            return Park(seconds=parked.seconds)
        except LeaseLost:
            # Written only if the lease was not lost after all: then the step is offered again.
            return Park(seconds=1)
        except KarborError as error:
            return self._failure(claim, error)
        except Exception as error:  # noqa: BLE001 - the step runner is the edge to foreign code
            self._log.exception("handler broke", extra={"event": "plugin_error", "action": claim.step.action})
            return self._failure(claim, PluginError(f"{type(error).__name__}: {error}"))

    def _failure(self, claim: Claim, error: KarborError) -> Outcome:
        step = claim.step
        reason = Reason(
            code=error.code,
            message=error.message,
            hint=error.hint,
            retryable=error.retryable,
            resource=step.resource,
            step=step.action,
        )
        if error.retryable and not claim.last_try and not isinstance(error, Cancelled):
            limit = min(self.options.backoff_limit, self.options.backoff * 2 ** min(step.tries, 16))
            return Retry(seconds=limit * (0.5 + self._random.uniform() / 2), reason=reason)
        return Fail(reason=reason)

    def _stop(self, hands: list[threading.Thread]) -> None:
        """Give running handlers a moment to leave, write what ended, give back the rest."""
        self.stopping.set()
        for _ in hands:
            self._todo.put(None)
        deadline = self._clock.monotonic() + self.options.drain
        while self._held and self.lease.left() > 0 and self._clock.monotonic() < deadline:
            self._commit(wait=0.1)
        if self.lease.left() > 0:
            self._journal.leave(self.worker_id)
