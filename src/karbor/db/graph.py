"""The graph of a run in rows: inserting steps, releasing what waits, skipping what cannot be any more, ending runs.

Every function works in the caller's transaction. Rows are locked in the order run, then steps by `seq`, so that
transactions on one run rarely deadlock; those that do are repeated.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import bindparam, case, func, insert, select, update

from karbor.db.columns import AnyRow, checked, db_now
from karbor.db.schema import edges, runs, steps
from karbor.domain.operation import Reason
from karbor.flow.model import FINAL_RUNS, NewStep, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection

_CHUNK = 500
"""How many numbers one IN list holds."""

_THIS = (steps.c.run_id == bindparam("run"), steps.c.seq == bindparam("number"))
_THESE = (steps.c.run_id == bindparam("run"), steps.c.seq.in_(bindparam("numbers", expanding=True)))

_LOCK_RUN = select(runs).where(runs.c.id == bindparam("run")).with_for_update()
_LAST = select(func.max(steps.c.seq)).where(steps.c.run_id == bindparam("run"))
_EDGES = select(edges.c.earlier, edges.c.later).where(
    edges.c.run_id == bindparam("run"), edges.c.earlier.in_(bindparam("numbers", expanding=True))
)
# MariaDB assigns from left to right, so the state must be decided before `waits` changes.
_RELEASE = (
    update(steps)
    .where(*_THIS, checked(steps.c.state == "waiting"))
    .ordered_values(
        (steps.c.state, case((steps.c.waits <= bindparam("fewer"), "ready"), else_="waiting")),
        (steps.c.waits, steps.c.waits - bindparam("fewer")),
    )
)
_WAITING = (
    select(steps.c.seq, steps.c.always)
    .where(*_THESE, checked(steps.c.state == "waiting"))
    .order_by(steps.c.seq)
    .with_for_update()
)
_END = update(steps).where(*_THESE).values(state=bindparam("to"), reason=bindparam("why"), finished_at=db_now())
_UNBEGUN = (
    select(steps.c.seq)
    .where(
        steps.c.run_id == bindparam("run"),
        ~steps.c.always,
        checked((steps.c.state == "waiting") | ((steps.c.state == "ready") & (steps.c.attempt == 0))),
    )
    .order_by(steps.c.seq)
    .with_for_update()
)
_WAKE = (
    update(steps)
    .where(steps.c.run_id == bindparam("run"), checked(steps.c.state == "parked"), ~steps.c.always)
    .values(state="ready")
)
_UNFINISHED = (
    select(steps.c.seq)
    .where(
        steps.c.state.in_(("waiting", "ready", "running", "parked")),
        steps.c.priority == bindparam("rank"),
        steps.c.begun_at == bindparam("begun"),
        steps.c.run_id == bindparam("run"),
    )
    .limit(1)
)
_FAILED = select(steps.c.seq).where(steps.c.run_id == bindparam("run"), checked(steps.c.state == "failed")).limit(1)
_END_RUN = (
    update(runs)
    .where(runs.c.id == bindparam("run"), runs.c.state.not_in(FINAL_RUNS))
    .values(
        state=bindparam("to"),
        reason=case((bindparam("why") == "", runs.c.reason), else_=bindparam("why")),
        finished_at=db_now(),
    )
)
_END_REST = (
    update(steps)
    .where(steps.c.run_id == bindparam("run"), checked(steps.c.state.in_(("waiting", "ready", "parked"))))
    .values(state=bindparam("to"), finished_at=db_now())
)


def chunks(numbers: Iterable[int]) -> Iterator[list[int]]:
    """The numbers in lists short enough for one IN."""
    remaining = iter(numbers)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk


def lock_run(tx: Connection, run_id: str) -> AnyRow | None:
    """The row of a run, locked until the transaction ends."""
    return tx.execute(_LOCK_RUN, {"run": run_id}).one_or_none()


def next_seq(tx: Connection, run_id: str) -> int:
    """The first free number of a locked run."""
    last = tx.execute(_LAST, {"run": run_id}).scalar_one()
    return 0 if last is None else last + 1


def insert_steps(tx: Connection, run: Any, new: Sequence[NewStep], first: int) -> None:
    """Insert steps of `run` (a row, or anything with its `id`, `priority` and `created_at`), numbered from `first`."""
    if not new:
        return
    tx.execute(insert(steps), [_step_row(run, first + i, step) for i, step in enumerate(new)])
    insert_edges(tx, run.id, ((first + need, first + i) for i, step in enumerate(new) for need in set(step.needs)))


def insert_edges(tx: Connection, run_id: str, pairs: Iterable[tuple[int, int]]) -> None:
    """Insert (earlier, later) pairs."""
    rows = [{"run_id": run_id, "earlier": earlier, "later": later} for earlier, later in pairs]
    if rows:
        tx.execute(insert(edges), rows)


def _step_row(run: Any, seq: int, step: NewStep) -> dict[str, Any]:
    waits = len(set(step.needs))
    return {
        "run_id": run.id,
        "seq": seq,
        "action": step.action,
        "node": step.node,
        "resource": step.resource,
        "plugin": step.plugin,
        "plugin_version": step.plugin_version,
        "always": step.always,
        "state": "waiting" if waits else "ready",
        "waits": waits,
        "priority": run.priority,
        "begun_at": run.created_at,
        "worker_id": "",
        "attempt": 0,
        "tries": 0,
        "takeovers": 0,
        "reason": b"",
        "result": b"",
        "done_bytes": 0,
        "total_bytes": 0,
        "what": "",
    }


def followers(tx: Connection, run_id: str, ended: Iterable[int]) -> list[tuple[int, int]]:
    """The (earlier, later) pairs of the steps that wait for these."""
    found: list[tuple[int, int]] = []
    for chunk in chunks(ended):
        found += [(earlier, later) for earlier, later in tx.execute(_EDGES, {"run": run_id, "numbers": chunk})]
    return found


def release(tx: Connection, run_id: str, fewer: Counter[int]) -> bool:
    """Let each waiting step wait for so many fewer others; at none left it is ready. False where none was waiting."""
    rows = [{"run": run_id, "number": seq, "fewer": fewer[seq]} for seq in sorted(fewer)]
    return bool(rows) and tx.execute(_RELEASE, rows).rowcount > 0


def skip_after(tx: Connection, run_id: str, ended: Sequence[int]) -> None:
    """These steps have ended without success: skip what needs them, transitively; steps marked `always` wait on for
    the others that they need.
    """
    while ended:
        pairs = followers(tx, run_id, ended)
        needed = Counter(later for _, later in pairs)
        blamed = {later: earlier for earlier, later in pairs}
        always: Counter[int] = Counter()
        skipped: list[int] = []
        for chunk in chunks(sorted(needed)):
            for seq, goes_on in tx.execute(_WAITING, {"run": run_id, "numbers": chunk}):
                if goes_on:
                    always[seq] = needed[seq]
                else:
                    skipped.append(seq)
        release(tx, run_id, always)
        if skipped:
            first = blamed[skipped[0]]
            end_steps(
                tx,
                run_id,
                skipped,
                "skipped",
                Reason(code="skipped", message=f"step {first}, which it needs, did not succeed"),
            )
        ended = skipped


def end_steps(tx: Connection, run_id: str, numbers: Sequence[int], to: str, why: Reason) -> None:
    """Give steps whose rows are locked a final state."""
    reason = msgspec.json.encode(why)
    for chunk in chunks(numbers):
        tx.execute(_END, {"run": run_id, "numbers": chunk, "to": to, "why": reason})


def cancel_steps(tx: Connection, run_id: str, why: str) -> None:
    """Cancel what has never begun; what has begun is offered once more at once, so that its handler can clean up.

    Steps marked `always` go on.
    """
    unbegun = list(tx.execute(_UNBEGUN, {"run": run_id}).scalars())
    end_steps(tx, run_id, unbegun, "cancelled", Reason(code="cancelled", message=why))
    skip_after(tx, run_id, unbegun)
    tx.execute(_WAKE, {"run": run_id})
    close_if_over(tx, run_id)


def end_run(tx: Connection, run_id: str, to: RunState, why: str) -> None:
    """End a run and what has not begun of it. Ends nothing twice."""
    if tx.execute(_END_RUN, {"run": run_id, "to": to, "why": why}).rowcount:
        tx.execute(_END_REST, {"run": run_id, "to": "cancelled" if to == "cancelled" else "skipped"})


def close_if_over(tx: Connection, run_id: str) -> None:
    """End a run whose every step is final although none of them ended it, so that no run stays open for ever."""
    run = lock_run(tx, run_id)
    if run is None or run.state in FINAL_RUNS:
        return
    # The run's place in the order of claims is a prefix of that index.
    if tx.execute(_UNFINISHED, {"run": run_id, "rank": run.priority, "begun": run.created_at}).first():
        return
    failed = tx.execute(_FAILED, {"run": run_id}).first() is not None
    end_run(tx, run_id, "cancelled" if run.cancel_requested else "failed" if failed else "succeeded", "")
