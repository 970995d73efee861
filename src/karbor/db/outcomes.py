"""How steps end: their outcome, what it releases, adds or skips, and its effects, in one transaction.

Rows are locked and looked at before anything is written: an outcome counts only while its step is running under the
worker and the attempt that it was claimed with.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import BigInteger, bindparam, select, update

from karbor.db.columns import AnyRow, db_now
from karbor.db.graph import (
    cancel_steps,
    close_if_over,
    end_run,
    followers,
    insert_edges,
    insert_steps,
    lock_run,
    next_seq,
    release,
    skip_after,
)
from karbor.db.schema import steps
from karbor.flow.model import FINAL_RUNS, Done, Fail, Outcome, Park, Retry, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection

    from karbor.flow.sealing import Sealer

Ended = tuple[Step, Outcome]

_CURRENT = (
    steps.c.run_id == bindparam("run"),
    steps.c.seq == bindparam("number"),
    steps.c.attempt == bindparam("by_attempt"),
)
_LOOK = (
    select(steps.c.seq, steps.c.state, steps.c.worker_id, steps.c.attempt)
    .where(steps.c.run_id == bindparam("run"), steps.c.seq.in_(bindparam("numbers", expanding=True)))
    .order_by(steps.c.seq)
    .with_for_update()
)
_END = (
    update(steps)
    .where(*_CURRENT)
    .values(state=bindparam("to"), result=bindparam("sealed"), reason=bindparam("why"), finished_at=db_now())
)
_PARK = (
    update(steps)
    .where(*_CURRENT)
    .values(
        state="parked",
        due_at=db_now() + bindparam("delay", type_=BigInteger),
        tries=steps.c.tries + bindparam("failed"),
        reason=bindparam("why"),
    )
)


def settle(tx: Connection, sealer: Sealer, worker_id: str, ended: Iterable[Ended]) -> list[Step]:
    """Write how steps ended; returns those that are no longer this worker's, for which nothing was written.

    An outcome that is already written, because a commit was repeated, is passed over.
    """
    by_run: dict[str, list[Ended]] = defaultdict(list)
    for step, outcome in ended:
        by_run[step.run_id].append((step, outcome))
    fenced: list[Step] = []
    for run_id in sorted(by_run):
        fenced += _settle_run(tx, sealer, worker_id, run_id, by_run[run_id])
    return fenced


def _settle_run(tx: Connection, sealer: Sealer, worker_id: str, run_id: str, ended: list[Ended]) -> list[Step]:
    run = lock_run(tx, run_id) if any(_touches_run(outcome) for _, outcome in ended) else None
    found = {row.seq: row for row in tx.execute(_LOOK, {"run": run_id, "numbers": [step.seq for step, _ in ended]})}
    held: list[Ended] = []
    fenced: list[Step] = []
    for step, outcome in ended:
        row = found.get(step.seq)
        if row is None or (row.worker_id, row.attempt) != (worker_id, step.attempt):
            fenced.append(step)
        elif row.state == "running":
            held.append((step, outcome))
        elif row.state != _state(outcome):
            fenced.append(step)
    _write(tx, sealer, held, cancelled=run is not None and run.cancel_requested)
    for _, outcome in held:
        if isinstance(outcome, Done) and outcome.effects:
            outcome.effects(tx)
    _follow(tx, run, run_id, held)
    return fenced


def _write(tx: Connection, sealer: Sealer, held: list[Ended], *, cancelled: bool) -> None:
    ends: list[dict[str, Any]] = []
    parks: list[dict[str, Any]] = []
    for step, outcome in held:
        row = {"run": step.run_id, "number": step.seq, "by_attempt": step.attempt, "why": _why(outcome)}
        if isinstance(outcome, Park | Retry):
            # A step that does not know yet that its run is cancelled is offered once more at once.
            seconds = 0.0 if cancelled and not step.cancelled else outcome.seconds
            parks.append(row | {"delay": round(seconds * 1_000_000), "failed": int(isinstance(outcome, Retry))})
        else:
            result = outcome.result if isinstance(outcome, Done) else b""
            ends.append(
                row | {"to": _state(outcome), "sealed": sealer.seal(result, result_context(step.run_id, step.seq))}
            )
    if ends:
        tx.execute(_END, ends)
    if parks:
        tx.execute(_PARK, parks)


def _follow(tx: Connection, run: AnyRow | None, run_id: str, held: list[Ended]) -> None:
    """Release, add and skip what follows, and end the run where an outcome says so or nothing is left."""
    done = {step.seq: outcome for step, outcome in held if isinstance(outcome, Done)}
    failed = [step.seq for step, outcome in held if isinstance(outcome, Fail)]
    pairs = followers(tx, run_id, done)
    fewer = Counter(later for _, later in pairs)
    for seq, outcome in done.items():
        if outcome.add and run is not None and run.state not in FINAL_RUNS:
            _add(tx, run, outcome, [later for earlier, later in pairs if earlier == seq], fewer)
    goes_on = release(tx, run_id, fewer)
    skip_after(tx, run_id, failed)
    if run is not None and run.cancel_requested and any(outcome.add for outcome in done.values()):
        cancel_steps(tx, run_id, run.reason)
    for outcome in done.values():
        if outcome.end_run:
            end_run(tx, run_id, outcome.end_run, outcome.reason)
    if failed or (done and not goes_on):
        close_if_over(tx, run_id)


def _add(tx: Connection, run: AnyRow, outcome: Done, waiting: Sequence[int], fewer: Counter[int]) -> None:
    """Insert the steps that an outcome adds; whatever waited for its step waits for each of them as well."""
    first = next_seq(tx, run.id)
    insert_steps(tx, run, outcome.add, first)
    insert_edges(tx, run.id, ((first + i, later) for later in waiting for i in range(len(outcome.add))))
    for later in waiting:
        fewer[later] -= len(outcome.add)


def result_context(run_id: str, seq: int) -> str:
    """What the sealed result of a step is bound to."""
    return f"result/{run_id}/{seq}"


def _touches_run(outcome: Outcome) -> bool:
    return not isinstance(outcome, Done) or bool(outcome.add) or outcome.end_run is not None


def _state(outcome: Outcome) -> str:
    if isinstance(outcome, Done):
        return "done"
    if isinstance(outcome, Fail):
        return "cancelled" if outcome.reason.code == "cancelled" else "failed"
    return "parked"


def _why(outcome: Outcome) -> bytes:
    return msgspec.json.encode(outcome.reason) if isinstance(outcome, Retry | Fail) else b""
