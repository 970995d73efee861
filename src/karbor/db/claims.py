"""Claims and leases: who holds which step, and what becomes of the steps of a worker that is gone.

A worker's lease is its row in `workers`. `expire` deletes the row and takes the steps in one transaction, and a claim
locks the row first, so no step can be claimed for a worker that has just been given up. Time is the database's.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, delete, func, insert, select, update

from karbor.db.columns import AnyRow, checked, db_now
from karbor.db.faults import Repeat
from karbor.db.graph import close_if_over, end_steps, skip_after
from karbor.db.schema import runs, steps, workers
from karbor.domain.operation import Reason
from karbor.errors import LeaseLost
from karbor.flow.model import FINAL_RUNS, Step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from karbor.flow.sealing import Sealer

_ALIVE = select(workers.c.id).where(workers.c.id == bindparam("worker")).with_for_update(read=True)
_OFFERED = (
    select(
        steps.c.priority,
        steps.c.begun_at,
        steps.c.run_id,
        steps.c.seq,
        steps.c.action,
        steps.c.node,
        steps.c.resource,
        steps.c.plugin,
        steps.c.plugin_version,
        steps.c.state,
        steps.c.attempt,
        steps.c.tries,
        steps.c.takeovers,
    )
    .order_by(steps.c.priority, steps.c.begun_at, steps.c.run_id, steps.c.seq)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_READY = _OFFERED.where(steps.c.state == "ready")
_DUE = _OFFERED.where(steps.c.state == "parked", steps.c.due_at <= db_now())
_UNSUSPECTED = checked(steps.c.takeovers == 0)
_SUSPECTS_HELD = select(func.count()).where(
    steps.c.state == "running", steps.c.worker_id == bindparam("worker"), steps.c.takeovers > 0
)
_RUNS = select(runs).where(runs.c.id.in_(bindparam("ids", expanding=True)))
_BEGIN = update(runs).where(runs.c.id == bindparam("run"), runs.c.state == "ready").values(state="running")
_CURRENT = (
    steps.c.run_id == bindparam("run"),
    steps.c.seq == bindparam("number"),
    steps.c.attempt == bindparam("by_attempt"),
)
_CLAIM = (
    update(steps)
    .where(*_CURRENT, checked(steps.c.state == bindparam("was")))
    .values(
        state="running",
        worker_id=bindparam("worker"),
        attempt=steps.c.attempt + 1,
        started_at=func.coalesce(steps.c.started_at, db_now()),
    )
)
_HELD = (*_CURRENT, checked(steps.c.state == "running"), steps.c.worker_id == bindparam("worker"))
_LOCK_HELD = select(steps.c.seq).where(*_HELD).with_for_update()
_GIVE_BACK = update(steps).where(*_HELD).values(state="ready")
_ENLIST = insert(workers).values(started_at=db_now(), heartbeat_at=db_now())
_BEAT = update(workers).where(workers.c.id == bindparam("worker")).values(heartbeat_at=db_now())
_SILENT = (
    select(workers.c.id)
    .where(workers.c.heartbeat_at < db_now() - bindparam("lease", type_=BigInteger))
    .order_by(workers.c.id)
    .with_for_update(skip_locked=True)
)
_LEAVE = delete(workers).where(workers.c.id == bindparam("worker"))
_ORPHANED = (
    select(steps.c.run_id, steps.c.seq, steps.c.takeovers)
    .where(steps.c.state == "running", steps.c.worker_id == bindparam("worker"))
    .order_by(steps.c.run_id, steps.c.seq)
    .with_for_update()
)
_TAKE_OVER = (
    update(steps)
    .where(steps.c.run_id == bindparam("run"), steps.c.seq == bindparam("number"))
    .values(
        state="ready",
        worker_id="",
        tries=steps.c.tries + bindparam("more"),
        takeovers=steps.c.takeovers + bindparam("more"),
    )
)


def take(tx: Connection, sealer: Sealer, worker_id: str, limit: int, max_takeovers: int) -> list[Step]:
    """Claim up to `limit` steps for a worker, by priority, age of the run and number; `LeaseLost` where it is gone."""
    if tx.execute(_ALIVE, {"worker": worker_id}).first() is None:
        raise LeaseLost(f"worker {worker_id} has been given up")
    offered = _offered(tx, limit, _READY, _DUE)
    if any(row.takeovers for row in offered):
        offered = _with_few_suspects(tx, worker_id, offered, limit, max_takeovers)
    if not offered:
        return []
    ids = {row.run_id for row in offered}
    of = {run.id: run for run in tx.execute(_RUNS, {"ids": sorted(ids)})}
    live = [row for row in offered if of[row.run_id].state not in FINAL_RUNS]
    for row in offered:
        if of[row.run_id].state in FINAL_RUNS:
            end_steps(tx, row.run_id, [row.seq], "cancelled", Reason(code="cancelled", message="its run has ended"))
    if live:
        rows = [
            {"run": row.run_id, "number": row.seq, "by_attempt": row.attempt, "was": row.state, "worker": worker_id}
            for row in live
        ]
        if tx.execute(_CLAIM, rows).rowcount != len(rows):
            raise Repeat
    if new := [{"run": run.id} for run in of.values() if run.state == "ready"]:
        tx.execute(_BEGIN, new)
    inputs = {run.id: sealer.open(run.input, input_context(run.id)) for run in of.values()}
    return [_step(row, of[row.run_id], inputs[row.run_id]) for row in live]


def _offered(tx: Connection, limit: int, *statements: Select[Any]) -> list[AnyRow]:
    rows = [row for statement in statements for row in tx.execute(statement, {"most": limit})]
    return sorted(rows, key=_rank)[:limit]


def _rank(row: AnyRow) -> tuple[int, datetime, str, int]:
    return row.priority, row.begun_at, row.run_id, row.seq


def _with_few_suspects(
    tx: Connection, worker_id: str, offered: list[AnyRow], limit: int, max_takeovers: int
) -> list[AnyRow]:
    """Of the steps that have outlived workers, let one worker hold the fewer the more often they did: half as many
    each time, and one alone on its last chance. So a step that kills its worker is found without failing those that
    were held beside it. Others take their place.
    """
    held = tx.execute(_SUSPECTS_HELD, {"worker": worker_id}).scalar_one()
    chosen: list[AnyRow] = []
    for row in offered:
        if row.takeovers and held >= 2 ** max(0, max_takeovers - 1 - row.takeovers):
            continue
        held += bool(row.takeovers)
        chosen.append(row)
    if len(chosen) == len(offered):
        return chosen
    others = _offered(tx, limit, _READY.where(_UNSUSPECTED), _DUE.where(_UNSUSPECTED))
    by_rank = {_rank(row): row for row in (*chosen, *others)}
    return [by_rank[rank] for rank in sorted(by_rank)][:limit]


def _step(row: AnyRow, run: AnyRow, opened: bytes) -> Step:
    return Step(
        run_id=row.run_id,
        seq=row.seq,
        action=row.action,
        node=row.node,
        resource=row.resource,
        plugin=row.plugin,
        plugin_version=row.plugin_version,
        attempt=row.attempt + 1,
        tries=row.tries,
        operation=run.operation,
        project_id=run.project_id,
        provider_id=run.provider_id,
        checkpoint_id=run.checkpoint_id,
        input=opened,
        cancelled=run.cancel_requested,
    )


def input_context(run_id: str) -> str:
    """What the sealed input of a run is bound to."""
    return f"input/{run_id}"


def fence(tx: Connection, worker_id: str, step: Step) -> None:
    """Hold the row of a step that this worker is running; `LeaseLost` where it is not."""
    if tx.execute(_LOCK_HELD, _held(worker_id, step)).first() is None:
        raise lost(step)


def give_back(tx: Connection, worker_id: str, step: Step) -> bool:
    """Make a step ready again; False where it is no longer this worker's."""
    return bool(tx.execute(_GIVE_BACK, _held(worker_id, step)).rowcount)


def lost(step: Step) -> LeaseLost:
    """The error of a write by somebody who no longer holds the step."""
    return LeaseLost(f"step {step.seq} of run {step.run_id} is no longer held under attempt {step.attempt}")


def _held(worker_id: str, step: Step) -> dict[str, Any]:
    return {"run": step.run_id, "number": step.seq, "by_attempt": step.attempt, "worker": worker_id}


def enlist(tx: Connection, worker_id: str, host: str, pid: int) -> None:
    """Enter a worker incarnation; its lease begins."""
    tx.execute(_LEAVE, {"worker": worker_id})
    tx.execute(_ENLIST, {"id": worker_id, "host": host, "pid": pid})


def beat(tx: Connection, worker_id: str) -> bool:
    """Renew a lease; False where it has been given up."""
    return bool(tx.execute(_BEAT, {"worker": worker_id}).rowcount)


def leave(tx: Connection, worker_id: str) -> None:
    """End a lease and give back what is held under it."""
    tx.execute(_LEAVE, {"worker": worker_id})
    _take_over(tx, _orphaned(tx, [worker_id]), more=0)


def expire(tx: Connection, lease: float, max_takeovers: int) -> int:
    """End the leases of workers silent for `lease` seconds; returns how many steps were taken from them."""
    silent = list(tx.execute(_SILENT, {"lease": round(lease * 1_000_000)}).scalars())
    for worker_id in silent:
        tx.execute(_LEAVE, {"worker": worker_id})
    orphaned = _orphaned(tx, silent)
    _take_over(tx, [row for row in orphaned if row.takeovers + 1 < max_takeovers], more=1)
    for run_id, group in groupby(
        (row for row in orphaned if row.takeovers + 1 >= max_takeovers), key=lambda row: row.run_id
    ):
        numbers = [row.seq for row in group]
        why = Reason(
            code="worker_lost",
            message=f"the worker died {max_takeovers} times while it ran this step",
            hint="look for the end of the worker process in its log and the kernel's: out of memory, a crash of a library",
        )
        end_steps(tx, run_id, numbers, "failed", why)
        skip_after(tx, run_id, numbers)
        close_if_over(tx, run_id)
    return len(orphaned)


def _orphaned(tx: Connection, worker_ids: Iterable[str]) -> list[AnyRow]:
    rows = [row for worker_id in worker_ids for row in tx.execute(_ORPHANED, {"worker": worker_id})]
    return sorted(rows, key=lambda row: (row.run_id, row.seq))


def _take_over(tx: Connection, rows: Iterable[AnyRow], *, more: int) -> None:
    if updates := [{"run": row.run_id, "number": row.seq, "more": more} for row in rows]:
        tx.execute(_TAKE_OVER, updates)
