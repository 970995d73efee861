"""The journal's contract, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.databases import let_pass, on_servers

from karbor.db.journal import SqlJournal
from karbor.domain.operation import Reason
from karbor.errors import Damaged, InvalidInput, LeaseLost
from karbor.flow.model import Done, Fail, NewRun, NewStep, Park, Retry
from karbor.flow.sealing import Sealer

SECRET = b"a plaintext that must never be found"
WHY = Reason(code="unavailable", message="the cloud does not answer", retryable=True)


class Bench:
    """A journal with two workers, and short words for what the tests do."""

    def __init__(self, database, root_key=b"k" * 32):
        self.database = database
        self.journal = SqlJournal(database, Sealer(root_key), max_takeovers=3)

    def begin(self, *steps, priority=1, data=b"input"):
        run_id = str(uuid.uuid4())
        run = NewRun(
            id=run_id,
            operation="protect",
            project_id="project",
            provider_id="provider",
            checkpoint_id="checkpoint",
            object_id="checkpoint",
            input=data,
            priority=priority,
            steps=steps,
        )
        self.database.transact(lambda tx: self.journal.begin_run(tx, run))
        return run_id

    def enlist(self, *names):
        for name in names:
            self.journal.enlist(name, "host", 1)

    def take(self, worker="w1", limit=16):
        return self.journal.claim(worker, limit)

    def one(self, worker="w1"):
        (step,) = self.take(worker)
        return step

    def cancel(self, run_id, reason="the user asked"):
        return self.database.transact(lambda tx: self.journal.cancel(tx, run_id, reason))

    def states(self, run_id):
        return [step.state for step in self.journal.steps(run_id)]

    def state(self, run_id):
        return self.journal.run(run_id).state

    def silence(self, worker="w1"):
        """Time passes, and of all workers only this one is not heard of; then it is given up."""
        let_pass(self.database, 60)
        with_voice = [name for name in ("w1", "w2", "w3") if name != worker]
        for name in with_voice:
            self.journal.heartbeat(name)
        return self.journal.expire()


@pytest.fixture
def bench(database):
    bench = Bench(database)
    bench.enlist("w1", "w2")
    return bench


def step(action="main", *needs, **more):
    return NewStep(action=action, needs=needs, **more)


# Claims


def test_a_claimed_step_says_all_its_handler_needs(bench):
    run_id = bench.begin(step("expand", node=3, resource="T#1", plugin="noop", plugin_version="2"), data=SECRET)
    claimed = bench.one()
    assert (claimed.run_id, claimed.seq, claimed.action, claimed.node) == (run_id, 0, "expand", 3)
    assert (claimed.resource, claimed.plugin, claimed.plugin_version) == ("T#1", "noop", "2")
    assert (claimed.attempt, claimed.tries, claimed.cancelled) == (1, 0, False)
    assert (claimed.operation, claimed.project_id) == ("protect", "project")
    assert (claimed.provider_id, claimed.checkpoint_id, claimed.input) == ("provider", "checkpoint", SECRET)
    run = bench.journal.run(run_id)
    assert (run.state, run.steps_total, run.steps_done, run.finished_at) == ("running", 1, 0, None)
    assert bench.journal.steps(run_id)[0].started_at >= run.created_at


def test_a_step_is_claimed_once(bench):
    bench.begin(step(), step())
    first = bench.take("w1", 1)
    second = bench.take("w2", 16)
    assert [s.seq for s in first + second] == [0, 1]
    assert bench.take("w1") == bench.take("w2") == []


def test_order_is_priority_then_age_then_number(bench):
    old = bench.begin(step(), step())
    new = bench.begin(step())
    urgent = bench.begin(step(), priority=0)
    assert [(s.run_id, s.seq) for s in bench.take()] == [(urgent, 0), (old, 0), (old, 1), (new, 0)]


def test_a_parked_step_that_is_due_keeps_its_place(bench):
    old = bench.begin(step())
    bench.journal.finish("w1", bench.one(), Park(seconds=30))
    new = bench.begin(step())
    let_pass(bench.database, 31)
    assert [s.run_id for s in bench.take(limit=1)] == [old]
    assert [s.run_id for s in bench.take(limit=1)] == [new]


def test_only_an_enlisted_worker_may_claim(bench):
    bench.begin(step())
    with pytest.raises(LeaseLost, match="stranger"):
        bench.journal.claim("stranger", 1)


def test_an_input_sealed_with_another_key_is_damaged(bench):
    bench.begin(step())
    stranger = Bench(bench.database, root_key=b"x" * 32)
    with pytest.raises(Damaged):
        stranger.take()
    assert len(bench.take()) == 1


def test_workers_side_by_side_never_share_a_step(bench, open_database):
    runs = [bench.begin(*(step() for _ in range(60))) for _ in range(3)]
    claimed, failures = Counter(), []

    def work(name):
        try:
            mine = Bench(open_database())
            mine.enlist(name)
            while taken := mine.take(name, 7):
                claimed.update((s.run_id, s.seq) for s in taken)
                mine.journal.finish_many(name, [(s, Done()) for s in taken])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while rest := bench.take():  # a worker stops at an empty claim, which locked rows may cause
        claimed.update((s.run_id, s.seq) for s in rest)
        bench.journal.finish_many("w1", [(s, Done()) for s in rest])
    assert not failures
    assert claimed == Counter((run_id, seq) for run_id in runs for seq in range(60))
    assert {bench.state(run_id) for run_id in runs} == {"succeeded"}


# Ends


def test_done_releases_what_waited_for_it(bench):
    run_id = bench.begin(step("a"), step("b"), step("c", 0, 1))
    a, b = bench.take()
    bench.journal.finish("w1", a, Done(result=b"of a"))
    assert bench.states(run_id) == ["done", "running", "waiting"]
    bench.journal.finish("w1", b, Done())
    assert bench.states(run_id) == ["done", "done", "ready"]
    row = bench.journal.steps(run_id)[0]
    assert (row.result, row.reason) == (b"of a", None)
    assert row.finished_at >= row.started_at
    assert bench.one().action == "c"


def test_a_group_of_ends_counts_each(bench):
    run_id = bench.begin(*(step() for _ in range(5)), step("join", *range(5)))
    taken = bench.take()
    bench.journal.finish_many("w1", [(s, Done()) for s in taken[:4]])
    assert bench.states(run_id)[-1] == "waiting"
    bench.journal.finish_many("w1", [(taken[4], Done())])
    assert bench.states(run_id)[-1] == "ready"


def test_a_repeated_end_is_written_once(bench):
    run_id = bench.begin(step("a"), step("b"), step("c", 0, 1))
    a, _ = bench.take()
    bench.journal.finish("w1", a, Done())
    bench.journal.finish("w1", a, Done())
    assert bench.states(run_id) == ["done", "running", "waiting"]
    with pytest.raises(LeaseLost):
        bench.journal.finish("w1", a, Fail(reason=WHY))


def test_a_failure_skips_all_that_needs_it_and_spares_always(bench):
    run_id = bench.begin(
        step("a"),
        step("b"),
        step("needs a", 0),
        step("needs both", 1, 2),
        step("beside", 1),
        step("end", 2, 3, 4, always=True),
    )
    a, b = bench.take()
    bench.journal.finish("w1", a, Fail(reason=WHY))
    assert bench.states(run_id) == ["failed", "running", "skipped", "skipped", "waiting", "waiting"]
    bench.journal.finish("w1", b, Done())
    bench.journal.finish("w1", bench.one(), Done())
    end = bench.one()
    assert end.action == "end"
    bench.journal.finish("w1", end, Done(end_run="failed", reason="a failed"))
    rows = bench.journal.steps(run_id)
    assert rows[0].reason == WHY
    assert (rows[2].reason.code, rows[2].reason.message) == ("skipped", "step 0, which it needs, did not succeed")
    run = bench.journal.run(run_id)
    assert (run.state, run.reason, run.steps_done) == ("failed", "a failed", 6)
    assert run.finished_at is not None


def test_two_failures_skip_once(bench):
    run_id = bench.begin(step(), step(), step("x", 0, 1), step("end", 2, always=True))
    taken = bench.take()
    bench.journal.finish_many("w1", [(s, Fail(reason=WHY)) for s in taken])
    assert bench.states(run_id) == ["failed", "failed", "skipped", "ready"]


def test_a_failure_in_a_group_does_not_hold_back_the_rest(bench):
    run_id = bench.begin(step(), step(), step("x", 0), step("y", 1), step("z", 0, 1))
    a, b = bench.take()
    bench.journal.finish_many("w1", [(a, Done()), (b, Fail(reason=WHY))])
    assert bench.states(run_id) == ["done", "failed", "ready", "skipped", "skipped"]


@pytest.mark.parametrize(
    ("outcomes", "ends"),
    [
        ((Done(), Done()), "succeeded"),
        ((Done(), Fail(reason=WHY)), "failed"),
        ((Fail(reason=WHY), Done()), "failed"),
    ],
)
def test_a_run_that_nobody_ends_ends_with_its_last_step(bench, outcomes, ends):
    run_id = bench.begin(step(), step())
    for claimed, outcome in zip(bench.take(), outcomes, strict=True):
        assert bench.state(run_id) == "running"
        bench.journal.finish("w1", claimed, outcome)
    assert bench.state(run_id) == ends


def test_the_end_of_a_run_ends_what_has_not_begun(bench):
    run_id = bench.begin(step("a"), step("b"), step("c", 1))
    a, b = bench.take()
    bench.journal.finish("w1", a, Done(end_run="failed", reason="enough"))
    assert bench.states(run_id) == ["done", "running", "skipped"]
    bench.journal.finish("w1", b, Park(seconds=0))
    assert bench.take() == []
    assert bench.states(run_id) == ["done", "cancelled", "skipped"]
    assert bench.state(run_id) == "failed"


def test_effects_are_in_the_same_transaction(bench):
    run_id = bench.begin(step(), step())
    a, b = bench.take()
    seen = []

    def note(tx):
        seen.append(
            tx.execute(text("SELECT state FROM steps WHERE run_id = :run AND seq = 0"), {"run": run_id}).scalar_one()
        )

    bench.journal.finish("w1", a, Done(effects=note))
    assert seen == ["done"]

    def fail(tx):
        note(tx)
        raise InvalidInput("effects that fail")

    with pytest.raises(InvalidInput):
        bench.journal.finish_many("w1", [(b, Done(effects=fail))])
    assert bench.states(run_id) == ["done", "running"]


def test_what_is_added_stands_before_what_waited(bench):
    run_id = bench.begin(step("expand"), step("commit", 0), step("finish", 0, 1, always=True))
    expand = bench.one()
    bench.journal.finish("w1", expand, Done(add=(step("x", node=0), step("y", 0, node=1), step("z", 0, 0, node=2))))
    rows = bench.journal.steps(run_id)
    assert [(r.seq, r.action, r.state) for r in rows[3:]] == [
        (3, "x", "ready"),
        (4, "y", "waiting"),
        (5, "z", "waiting"),
    ]
    assert bench.states(run_id)[1:3] == ["waiting", "waiting"]
    assert bench.journal.run(run_id).steps_total == 6
    bench.journal.finish("w1", bench.one(), Done())
    y, z = bench.take()
    bench.journal.finish("w1", y, Fail(reason=WHY))
    assert bench.states(run_id) == ["done", "skipped", "waiting", "done", "failed", "running"]
    bench.journal.finish("w1", z, Done())
    assert bench.one().action == "finish"


def test_a_big_graph_is_added_at_once(bench):
    run_id = bench.begin(step("expand"), step("commit", 0))
    many = tuple(step("main", *range(max(0, i - 4), i) if i % 5 else ()) for i in range(2000))
    bench.journal.finish("w1", bench.one(), Done(add=many))
    assert Counter(bench.states(run_id)) == {"ready": 400, "waiting": 1601, "done": 1}
    assert bench.journal.progress(run_id).total_steps == 2002


def test_parking_and_trying_again(bench):
    run_id = bench.begin(step())
    bench.journal.finish("w1", bench.one(), Park(seconds=20))
    assert (bench.states(run_id), bench.take()) == (["parked"], [])
    let_pass(bench.database, 21)
    again = bench.one("w2")
    assert (again.attempt, again.tries) == (2, 0)
    bench.journal.finish("w2", again, Retry(seconds=20, reason=WHY))
    row = bench.journal.steps(run_id)[0]
    assert (row.state, row.tries, row.reason) == ("parked", 1, WHY)
    let_pass(bench.database, 19)
    assert bench.take() == []
    let_pass(bench.database, 2)
    assert bench.one().tries == 1


# Leases and fencing


def test_whoever_was_given_up_can_never_write_again(bench):
    run_id = bench.begin(step(), step("next", 0))
    stopped = bench.one("w1")
    assert bench.silence("w1") == 1
    assert not bench.journal.heartbeat("w1")
    assert bench.states(run_id) == ["ready", "waiting"]
    taken = bench.one("w2")
    assert (taken.attempt, taken.tries) == (stopped.attempt + 1, 1)
    late = [
        lambda: bench.journal.finish(
            "w1", stopped, Done(result=b"late", effects=lambda tx: pytest.fail("late effects"))
        ),
        lambda: bench.journal.finish("w1", stopped, Fail(reason=WHY)),
        lambda: bench.journal.finish("w1", stopped, Park(seconds=0)),
        lambda: bench.journal.record("w1", stopped, "name", b"late"),
        lambda: bench.journal.give_back("w1", stopped),
        lambda: bench.journal.claim("w1", 1),
    ]
    for write in late:
        with pytest.raises(LeaseLost):
            write()
    bench.journal.finish_many("w1", [(stopped, Done(result=b"late"))])
    bench.journal.report("w1", {(run_id, 0): (1, 2, "late")})
    assert bench.states(run_id) == ["running", "waiting"]
    assert bench.journal.progress(run_id).current == ""
    bench.journal.finish("w2", taken, Done(result=b"in time"))
    for write in late:
        with pytest.raises(LeaseLost):
            write()
    assert bench.journal.steps(run_id)[0].result == b"in time"
    assert bench.journal.records(run_id, -1) == {}


def test_the_same_worker_cannot_write_under_an_older_attempt(bench):
    run_id = bench.begin(step())
    old = bench.one()
    bench.journal.finish("w1", old, Park(seconds=0))
    new = bench.one()
    with pytest.raises(LeaseLost):
        bench.journal.finish("w1", old, Done())
    with pytest.raises(LeaseLost):
        bench.journal.record("w1", old, "name", b"")
    assert bench.states(run_id) == ["running"]
    bench.journal.finish("w1", new, Done())


def test_whoever_is_heard_of_keeps_its_steps(bench):
    run_id = bench.begin(step())
    bench.one("w1")
    let_pass(bench.database, 29)
    assert bench.journal.expire() == 0
    assert bench.journal.heartbeat("w1")
    let_pass(bench.database, 29)
    assert bench.journal.expire() == 0
    assert bench.states(run_id) == ["running"]


def test_whoever_is_alone_waits_for_no_lease(bench, open_database):
    run_id = bench.begin(step())
    bench.one("w1")
    earlier = Bench(open_database(skew=timedelta(days=-1)))  # on SQLite, a clock that was set back
    assert earlier.journal.expire() == 0
    assert earlier.journal.expire(alone=True) == 1
    assert bench.states(run_id) == ["ready"]
    assert not bench.journal.heartbeat("w1")


def test_a_step_that_brings_down_its_workers_fails(bench):
    run_id = bench.begin(step("poison"), step("after", 0), step("end", 1, always=True))
    for tries in range(3):
        bench.enlist("w1")
        assert bench.one("w1").tries == tries
        assert bench.silence("w1") == 1
    rows = bench.journal.steps(run_id)
    assert [row.state for row in rows] == ["failed", "skipped", "ready"]
    assert (rows[0].reason.code, rows[0].attempt) == ("worker_lost", 3)
    assert bench.state(run_id) == "running"


def test_a_step_that_kills_its_worker_fails_alone(bench):
    run_id = bench.begin(*(step("poison" if i == 3 else "innocent") for i in range(8)))
    for _ in range(12):
        bench.enlist("w1")
        held = bench.take("w1")
        if "poison" in {each.action for each in held}:
            bench.silence("w1")
        else:
            bench.journal.finish_many("w1", [(each, Done()) for each in held])
    assert Counter(bench.states(run_id)) == {"done": 7, "failed": 1}
    assert bench.states(run_id)[3] == "failed"


def test_suspects_do_not_hold_up_others(bench):
    suspects = bench.begin(*(step() for _ in range(4)))
    bench.take("w1")
    bench.silence("w1")
    others = bench.begin(*(step() for _ in range(4)))
    taken = bench.take("w2", 4)
    assert Counter(each.run_id for each in taken) == {suspects: 2, others: 2}
    assert Counter(each.run_id for each in bench.take("w2", 4)) == {others: 2}
    bench.enlist("w1")
    assert Counter(each.run_id for each in bench.take("w1", 4)) == {suspects: 2}


def test_a_run_whose_last_step_brings_down_its_workers_ends(bench):
    run_id = bench.begin(step("poison", always=True))
    for _ in range(3):
        bench.enlist("w1")
        bench.one("w1")
        bench.silence("w1")
    assert bench.state(run_id) == "failed"


def test_giving_back_counts_no_try(bench):
    bench.begin(step())
    held = bench.one()
    bench.journal.give_back("w1", held)
    again = bench.one("w2")
    assert (again.attempt, again.tries) == (2, 0)
    with pytest.raises(LeaseLost):
        bench.journal.give_back("w1", held)


def test_leaving_gives_everything_back(bench):
    run_id = bench.begin(step(), step())
    held = bench.take("w1")
    bench.journal.leave("w1")
    assert bench.states(run_id) == ["ready", "ready"]
    assert [s.tries for s in bench.take("w2")] == [0, 0]
    assert not bench.journal.heartbeat("w1")
    with pytest.raises(LeaseLost):
        bench.journal.finish("w1", held[0], Done())


@on_servers
@pytest.mark.parametrize("minutes", [-5, 5])
def test_the_clocks_of_hosts_do_not_matter(bench, open_database, minutes):
    skewed = Bench(open_database(skew=timedelta(minutes=minutes)))
    run_id = bench.begin(step(), step())
    mine = bench.take("w1", 1)
    assert skewed.journal.expire() == 0
    skewed.enlist("w3")
    theirs = skewed.take("w3", 1)
    assert bench.journal.expire() == 0
    skewed.journal.finish("w3", theirs[0], Park(seconds=60))
    bench.journal.finish("w1", mine[0], Park(seconds=60))
    assert bench.take("w1") == skewed.take("w3") == []
    let_pass(bench.database, 30)
    assert bench.take("w1") == skewed.take("w3") == []
    let_pass(bench.database, 31)
    assert len(skewed.take("w3")) == 2
    row = bench.journal.steps(run_id)[0]
    assert abs(row.started_at - bench.journal.run(run_id).created_at) < timedelta(minutes=1)


# Cancelling


def test_cancelling_ends_what_never_began_and_wakes_the_rest(bench):
    run_id = bench.begin(
        step("running"), step("parked"), step("ready"), step("waiting", 2), step("end", 0, 1, 2, 3, always=True)
    )
    running, parked = bench.take(limit=2)
    bench.journal.finish("w1", parked, Park(seconds=600))
    assert bench.cancel(run_id)
    assert bench.states(run_id) == ["running", "ready", "cancelled", "cancelled", "waiting"]
    assert bench.journal.steps(run_id)[3].reason.message == "the user asked"
    assert bench.journal.report("w1", {(run_id, 0): (0, 0, "")}) == {run_id}
    woken = bench.one()
    assert (woken.action, woken.cancelled) == ("parked", True)
    bench.journal.finish("w1", woken, Fail(reason=Reason(code="cancelled", message="tidied up")))
    bench.journal.finish("w1", running, Done())
    end = bench.one()
    assert (end.action, end.cancelled) == ("end", True)
    bench.journal.finish("w1", end, Done(end_run="cancelled"))
    assert bench.states(run_id) == ["done", "cancelled", "cancelled", "cancelled", "done"]
    run = bench.journal.run(run_id)
    assert (run.state, run.reason, run.cancel_requested) == ("cancelled", "the user asked", True)


def test_cancelling_twice_is_cancelling_once(bench):
    run_id = bench.begin(step())
    bench.one()
    assert bench.cancel(run_id)
    assert bench.cancel(run_id, "again")
    assert bench.journal.run(run_id).reason == "the user asked"


def test_a_run_that_never_began_is_cancelled_at_once(bench):
    run_id = bench.begin(step(), step("next", 0))
    assert bench.cancel(run_id)
    assert (bench.state(run_id), bench.states(run_id)) == ("cancelled", ["cancelled", "cancelled"])
    assert not bench.cancel(run_id)
    assert not bench.cancel("unknown")
    assert bench.take() == []


def test_a_step_that_parks_unaware_of_the_cancel_comes_back_at_once(bench):
    run_id = bench.begin(step())
    unaware = bench.one()
    bench.cancel(run_id)
    bench.journal.finish("w1", unaware, Park(seconds=600))
    aware = bench.one()
    assert aware.cancelled
    bench.journal.finish("w1", aware, Park(seconds=600))
    assert bench.take() == []


def test_what_a_cancelled_run_adds_is_cancelled(bench):
    run_id = bench.begin(step("expand"), step("end", 0, always=True))
    expand = bench.one()
    bench.cancel(run_id)
    bench.journal.finish("w1", expand, Done(add=(step("x"), step("y", 0), step("undo", 1, always=True))))
    assert bench.states(run_id) == ["done", "waiting", "cancelled", "cancelled", "ready"]


def test_a_cancelled_run_survives_its_worker(bench):
    run_id = bench.begin(step())
    bench.one("w1")
    bench.cancel(run_id)
    bench.silence("w1")
    assert bench.one("w2").cancelled


# Records, progress


def test_records_are_kept_and_replaced(bench):
    run_id = bench.begin(step(node=7), step(node=8))
    a, b = bench.take()
    bench.journal.record("w1", a, "volume", b"1")
    bench.journal.record("w1", a, "volume", b"2")
    bench.journal.record("w1", a, "Volume", b"")
    bench.journal.record("w1", b, "volume", b"3")
    assert bench.journal.records(run_id, 7) == {"volume": b"2", "Volume": b""}
    assert list(bench.journal.all_records(run_id, "volume")) == [(7, b"2"), (8, b"3")]
    assert bench.journal.records(run_id, -1) == {}
    with pytest.raises(InvalidInput):
        bench.journal.record("w1", a, "n" * 401, b"")


def test_all_records_are_read_page_by_page(bench):
    run_id = bench.begin(*(step(node=i) for i in range(-1, 511)))
    for held in bench.take(limit=600):
        bench.journal.record("w1", held, "saved", str(held.node).encode())
    assert list(bench.journal.all_records(run_id, "saved")) == [(i, str(i).encode()) for i in range(-1, 511)]


def test_inputs_results_and_records_are_sealed_on_the_disk(bench, request, database_url, tmp_path):
    run_id = bench.begin(step(resource="visible-resource"), data=b"input " + SECRET)
    held = bench.one()
    bench.journal.record("w1", held, "document", b"record " + SECRET)
    bench.journal.finish("w1", held, Done(result=b"result " + SECRET))
    assert bench.journal.steps(run_id)[0].result == b"result " + SECRET
    folder = tmp_path
    if not bench.database.embedded:
        folder = request.getfixturevalue(f"{bench.database.url.get_backend_name()}_server").folder
    if bench.database.url.get_backend_name() == "mariadb":  # which writes its tables when it likes
        bench.database.transact(lambda tx: tx.execute(text("FLUSH TABLES runs, steps, records FOR EXPORT")))
    bench.database.close()
    raw = [path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(b"visible-resource" in data for data in raw)
    assert not any(SECRET in data for data in raw)


def test_progress_adds_up(bench):
    run_id = bench.begin(step(), step(), step("end", 0, 1))
    a, _ = bench.take()
    report = {(run_id, 0): (10, 2**40, "volume a"), (run_id, 1): (5, 50, "")}
    assert bench.journal.report("w1", report) == set()
    progress = bench.journal.progress(run_id)
    assert (progress.done_bytes, progress.total_bytes) == (15, 2**40 + 50)
    assert (progress.done_steps, progress.total_steps, progress.current) == (0, 3, "volume a")
    bench.journal.finish("w1", a, Done())
    progress = bench.journal.progress(run_id)
    assert (progress.done_bytes, progress.done_steps, progress.current) == (15, 1, "")
    assert bench.journal.report("w1", {}) == set()
    row = bench.journal.steps(run_id)[0]
    assert (row.done_bytes, row.total_bytes, row.what) == (10, 2**40, "volume a")


def test_what_is_not_there(bench):
    assert bench.journal.run("none") is None
    assert bench.journal.steps("none") == []
    assert bench.journal.progress("none").total_steps == 0
    assert list(bench.journal.all_records("none", "x")) == []
