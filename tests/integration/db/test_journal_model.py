"""The journal against a model of its rules: random histories of claims, ends, silence, cancels and late writers."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from karbor.db.engine import Database
from karbor.db.journal import SqlJournal
from karbor.db.migrate import upgrade
from karbor.domain.operation import Reason
from karbor.errors import LeaseLost
from karbor.flow.model import FINAL_RUNS, FINAL_STEPS, Done, Fail, NewRun, NewStep, Park, Retry
from karbor.flow.sealing import Sealer

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Thousands of transactions are proved here, not the disk."""
LEASE, MAX_TAKEOVERS = 30.0, 2
WORKERS = ("w1", "w2")
WHY = Reason(code="unavailable", message="no")
CANCELLED = Reason(code="cancelled", message="no")


class VirtualClock:
    """Stands still until it is told."""

    def __init__(self):
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self):
        return self.at

    def monotonic(self):
        return self.at.timestamp()

    def sleep(self, seconds):
        self.at += timedelta(seconds=seconds)


class ModelStep:
    def __init__(self, new, first):
        self.needs = {first + need for need in new.needs}
        self.always = new.always
        self.state = "waiting" if new.needs else "ready"
        self.worker, self.attempt, self.tries, self.takeovers = "", 0, 0, 0
        self.due = None


class ModelRun:
    """What the rules say of one run, computed from its graph instead of from counters."""

    def __init__(self, ident, priority, new):
        self.ident, self.priority = ident, priority
        self.steps = [ModelStep(step, 0) for step in new]
        self.state, self.cancelled = "ready", False

    def settle(self):
        """Release and skip until nothing changes, then see whether the run is over."""
        changed = True
        while changed:
            changed = False
            for step in self.steps:
                needs = [self.steps[need].state for need in step.needs]
                if step.state != "waiting":
                    continue
                if not step.always and any(state in FINAL_STEPS and state != "done" for state in needs):
                    step.state, changed = "skipped", True
                elif all(state in FINAL_STEPS for state in needs):
                    step.state, changed = "ready", True
        if self.state not in FINAL_RUNS and all(step.state in FINAL_STEPS for step in self.steps):
            failed = any(step.state == "failed" for step in self.steps)
            self.state = "cancelled" if self.cancelled else "failed" if failed else "succeeded"

    def cancel_steps(self):
        for step in self.steps:
            if not step.always and (step.state == "waiting" or (step.state == "ready" and not step.attempt)):
                step.state = "cancelled"
            elif not step.always and step.state == "parked":
                step.state = "ready"
        self.settle()

    def end(self, state):
        if self.state not in FINAL_RUNS:
            self.state = state
            for step in self.steps:
                if step.state in {"waiting", "ready", "parked"}:
                    step.state = "cancelled" if state == "cancelled" else "skipped"

    def add(self, by, new):
        if self.state in FINAL_RUNS:
            return
        first = len(self.steps)
        self.steps += [ModelStep(step, first) for step in new]
        for step in self.steps[:first]:
            if by in step.needs and step.state == "waiting":
                step.needs |= set(range(first, len(self.steps)))


def graphs(most):
    """Lists of steps whose needs stand before them."""

    def one(i):
        needs = st.sets(st.integers(0, i - 1), max_size=3) if i else st.just(set())
        return st.builds(lambda n, a: NewStep(action="x", needs=tuple(n), always=a and bool(n)), needs, st.booleans())

    return st.integers(1, most).flatmap(lambda size: st.tuples(*(one(i) for i in range(size))))


OUTCOMES = st.one_of(
    st.just(Done()),
    st.builds(lambda add: Done(add=add), graphs(3)),
    st.sampled_from([Done(end_run="succeeded"), Done(end_run="failed"), Done(end_run="cancelled")]),
    st.sampled_from([Fail(reason=WHY), Fail(reason=CANCELLED)]),
    st.builds(lambda seconds: Park(seconds=seconds), st.sampled_from([0, 40])),
    st.builds(lambda seconds: Retry(seconds=seconds, reason=WHY), st.sampled_from([0, 40])),
)


@functools.cache
def empty_database():
    folder = tempfile.TemporaryDirectory(dir=MEMORY)
    database = Database(f"sqlite:///{folder.name}/karbor.db", clock=VirtualClock())
    upgrade(database)
    database.close()
    atexit.register(folder.cleanup)
    return f"{folder.name}/karbor.db"


class JournalRules(RuleBasedStateMachine):
    """Every rule does one thing to the journal and to the model; the invariant compares them."""

    @initialize(new=graphs(6))
    def begin(self, new):
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.clock = VirtualClock()
        shutil.copy(empty_database(), self.folder.name)
        self.database = Database(f"sqlite:///{self.folder.name}/karbor.db", clock=self.clock)
        self.journal = SqlJournal(self.database, Sealer(b"k" * 32), lease=LEASE, max_takeovers=MAX_TAKEOVERS)
        self.runs = []
        self.heard = {}
        self.claimed = []  # every step that was ever handed out, so that late writers are among them
        for worker in WORKERS:
            self.enlist(worker)
        self.new_run(new, 1)

    def teardown(self):
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    def of(self, step):
        run = next(run for run in self.runs if run.ident == step.run_id)
        return run, run.steps[step.seq]

    def holds(self, worker, step):
        _, model = self.of(step)
        return model.state == "running" and (model.worker, model.attempt) == (worker, step.attempt)

    @rule(new=graphs(6), priority=st.integers(0, 1))
    def new_run(self, new, priority):
        run = ModelRun(f"run-{len(self.runs):04}", priority, new)
        known = {"operation": "protect", "project_id": "p", "provider_id": "v", "checkpoint_id": "c", "object_id": "c"}
        row = NewRun(id=run.ident, priority=priority, input=b"i", steps=new, **known)
        self.database.transact(lambda tx: self.journal.begin_run(tx, row))
        self.runs.append(run)

    @rule(worker=st.sampled_from(WORKERS))
    def enlist(self, worker):
        if worker not in self.heard:
            self.journal.enlist(worker, "host", 1)
            self.heard[worker] = self.clock.at

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 5))
    def claim(self, worker, limit):
        if worker not in self.heard:
            with pytest.raises(LeaseLost):
                self.journal.claim(worker, limit)
            return
        offered = [
            (run.priority, run.ident, seq, run, step)
            for run in self.runs
            for seq, step in enumerate(run.steps)
            if step.state == "ready" or (step.state == "parked" and step.due <= self.clock.at)
        ]
        expected = []
        for _, ident, seq, run, step in self.with_few_suspects(
            worker, sorted(offered, key=lambda each: each[:3]), limit
        ):
            if run.state in FINAL_RUNS:
                step.state = "cancelled"
                continue
            run.state = "running"
            step.state, step.worker, step.attempt = "running", worker, step.attempt + 1
            expected.append((ident, seq, step.attempt, step.tries, run.cancelled))
        taken = self.journal.claim(worker, limit)
        assert [(s.run_id, s.seq, s.attempt, s.tries, s.cancelled) for s in taken] == expected
        self.claimed += [(worker, step) for step in taken]

    def with_few_suspects(self, worker, offered, limit):
        """Of steps on their last chance a worker holds one; where that leaves some out, others fill up."""
        mine = [step for run in self.runs for step in run.steps if step.state == "running" and step.worker == worker]
        free = not any(step.takeovers for step in mine)
        chosen, left_out = [], False
        for each in offered[:limit]:
            if each[-1].takeovers:
                if not free:
                    left_out = True
                    continue
                free = False
            chosen.append(each)
        if left_out:
            chosen += [each for each in offered if not each[-1].takeovers and each not in chosen]
        return sorted(chosen, key=lambda each: each[:3])[:limit]

    def held(self):
        return [(worker, step) for worker, step in self.claimed if self.holds(worker, step)]

    def lost(self):
        return [(worker, step) for worker, step in self.claimed if not self.holds(worker, step)]

    @precondition(lambda self: self.held())
    @rule(data=st.data(), outcome=OUTCOMES)
    def finish(self, data, outcome):
        worker, step = data.draw(st.sampled_from(self.held()))
        self.journal.finish(worker, step, outcome)
        self.end_in_model(step, outcome)

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def finish_together(self, data):
        """Everything that one worker holds, and what it has lost: some done, some failed."""
        worker, _ = data.draw(st.sampled_from(self.held()))
        mine = [step for name, step in self.held() if name == worker]
        lost = [step for name, step in self.lost() if name == worker and not self.repeats(name, step, Done())]
        late = {(step.run_id, step.seq): step for step in lost}
        for step in mine:
            late.pop((step.run_id, step.seq), None)
        ended = [(step, data.draw(st.sampled_from([Done(), Fail(reason=WHY)]))) for step in mine]
        self.journal.finish_many(worker, ended + [(step, Done()) for step in late.values()])
        for step, outcome in ended:
            self.end_in_model(step, outcome)

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def give_back(self, data):
        worker, step = data.draw(st.sampled_from(self.held()))
        self.journal.record(worker, step, "name", b"value")
        self.journal.give_back(worker, step)
        self.of(step)[1].state = "ready"

    @precondition(lambda self: self.lost())
    @rule(data=st.data(), outcome=OUTCOMES)
    def write_late(self, data, outcome):
        worker, step = data.draw(st.sampled_from(self.lost()))
        with pytest.raises(LeaseLost):
            self.journal.give_back(worker, step)
        with pytest.raises(LeaseLost):
            self.journal.record(worker, step, "name", b"late")
        if self.repeats(worker, step, outcome):
            self.journal.finish(worker, step, outcome)
            return
        with pytest.raises(LeaseLost):
            self.journal.finish(worker, step, outcome)

    def repeats(self, worker, step, outcome):
        """The very end that is written already."""
        _, model = self.of(step)
        return (model.worker, model.attempt, model.state) == (worker, step.attempt, self.state_after(outcome))

    def state_after(self, outcome):
        if isinstance(outcome, Done):
            return "done"
        if isinstance(outcome, Fail):
            return "cancelled" if outcome.reason.code == "cancelled" else "failed"
        return "parked"

    def end_in_model(self, step, outcome):
        run, model = self.of(step)
        model.state = self.state_after(outcome)
        if isinstance(outcome, Park | Retry):
            unaware = run.cancelled and not step.cancelled
            model.due = self.clock.at + timedelta(seconds=0 if unaware else outcome.seconds)
            model.tries += isinstance(outcome, Retry)
            return
        if isinstance(outcome, Done) and outcome.add:
            run.add(step.seq, outcome.add)
            if run.cancelled and run.state not in FINAL_RUNS:
                run.cancel_steps()
        if isinstance(outcome, Done) and outcome.end_run:
            run.end(outcome.end_run)
        run.settle()

    @rule(worker=st.sampled_from(WORKERS))
    def heartbeat(self, worker):
        assert self.journal.heartbeat(worker) == (worker in self.heard)
        if worker in self.heard:
            self.heard[worker] = self.clock.at

    @rule(seconds=st.sampled_from([1, 20, 31]))
    def time_passes(self, seconds):
        self.clock.sleep(seconds)

    @rule()
    def expire(self):
        silent = {name for name, at in self.heard.items() if self.clock.at - at > timedelta(seconds=LEASE)}
        taken = 0
        for run in self.runs:
            for step in run.steps:
                if step.state != "running" or step.worker not in silent:
                    continue
                taken += 1
                if step.takeovers + 1 >= MAX_TAKEOVERS:
                    step.state = "failed"
                else:
                    step.state, step.worker = "ready", ""
                    step.tries, step.takeovers = step.tries + 1, step.takeovers + 1
            run.settle()
        for name in silent:
            del self.heard[name]
        assert self.journal.expire() == taken

    @rule(worker=st.sampled_from(WORKERS))
    def leave(self, worker):
        self.journal.leave(worker)
        self.heard.pop(worker, None)
        for run in self.runs:
            for step in run.steps:
                if step.state == "running" and step.worker == worker:
                    step.state, step.worker = "ready", ""

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data):
        run = data.draw(st.sampled_from(self.runs))
        accepted = self.database.transact(lambda tx: self.journal.cancel(tx, run.ident, "asked"))
        assert accepted == (run.state not in FINAL_RUNS)
        if accepted and not run.cancelled:
            run.cancelled = True
            run.cancel_steps()

    @invariant()
    def the_rows_are_as_the_rules_say(self):
        for run in getattr(self, "runs", ()):
            rows = self.journal.steps(run.ident)
            assert [row.state for row in rows] == [step.state for step in run.steps]
            assert [(row.attempt, row.tries) for row in rows] == [(step.attempt, step.tries) for step in run.steps]
            found = self.journal.run(run.ident)
            assert (found.state, found.cancel_requested) == (run.state, run.cancelled)
            assert found.steps_done == sum(step.state in FINAL_STEPS for step in run.steps)


JournalRules.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
test_the_journal_follows_its_rules = JournalRules.TestCase
