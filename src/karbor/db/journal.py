"""The journal on a database: `karbor.flow.journal.Journal`, whose obligations it keeps.

Claims and leases are in `claims`, the ends of steps in `outcomes`, the graph in `graph`; here are their transactions,
what hooks record, and what is asked about runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import bindparam, case, func, insert, select, update

from karbor.db import claims, graph, recorded
from karbor.db.columns import checked
from karbor.db.faults import CommitUnknown
from karbor.db.outcomes import result_context, settle
from karbor.db.schema import runs, steps, workers
from karbor.domain.operation import Progress, Reason
from karbor.flow.model import FINAL_RUNS, FINAL_STEPS, Run, StepRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from karbor.db.columns import AnyRow
    from karbor.db.engine import Database
    from karbor.flow.model import NewRun, Outcome, Step
    from karbor.flow.sealing import Sealer

_WHENEVER = -1e9
"""A lease that has ended even if the clock was set back by decades since the last heartbeat."""

_RUN = select(runs).where(runs.c.id == bindparam("run"))
_CANCEL_REQUESTED = select(runs.c.id).where(runs.c.id.in_(bindparam("ids", expanding=True)), runs.c.cancel_requested)
_REQUEST_CANCEL = (
    update(runs).where(runs.c.id == bindparam("run")).values(cancel_requested=True, reason=bindparam("why"))
)
_STEPS = select(steps).where(steps.c.run_id == bindparam("run")).order_by(steps.c.seq)
_FIGURES = select(
    func.count(),
    func.coalesce(func.sum(case((steps.c.state.in_(FINAL_STEPS), 1), else_=0)), 0),
    func.coalesce(func.sum(steps.c.done_bytes), 0),
    func.coalesce(func.sum(steps.c.total_bytes), 0),
).where(steps.c.run_id == bindparam("run"))
_CURRENT = (
    select(steps.c.what)
    .where(steps.c.run_id == bindparam("run"), checked(steps.c.state == "running"), steps.c.what != "")
    .order_by(steps.c.started_at.desc())
    .limit(1)
)
_REPORT = (
    update(steps)
    .where(
        steps.c.run_id == bindparam("run"),
        steps.c.seq == bindparam("number"),
        steps.c.worker_id == bindparam("worker"),
        checked(steps.c.state == "running"),
    )
    .values(done_bytes=bindparam("done"), total_bytes=bindparam("total"), what=bindparam("now_doing"))
)


class SqlJournal:
    """Runs and steps as rows. `lease` is how long a silent worker keeps its steps, in seconds; a step that has
    outlived `max_takeovers` workers fails.
    """

    def __init__(self, database: Database, sealer: Sealer, *, lease: float = 30.0, max_takeovers: int = 5) -> None:
        self._database = database
        self._sealer = sealer
        self._lease = lease
        self._max_takeovers = max_takeovers
        self._doubtful: list[tuple[str, Step]] = []

    def begin_run(self, tx: Connection, run: NewRun) -> None:
        """Insert a run and its first steps in the caller's open transaction."""
        row = {
            "id": run.id,
            "operation": run.operation,
            "project_id": run.project_id,
            "provider_id": run.provider_id,
            "checkpoint_id": run.checkpoint_id,
            "object_id": run.object_id,
            "state": "ready",
            "priority": run.priority,
            "cancel_requested": False,
            "created_at": self._database.db_now(tx),
            "reason": "",
            "input": self._sealer.seal(run.input, claims.input_context(run.id)),
            "epoch": run.epoch,
        }
        tx.execute(insert(runs), row)
        graph.insert_steps(tx, _Begun(id=run.id, priority=run.priority, created_at=row["created_at"]), run.steps, 0)

    def claim(self, worker_id: str, limit: int) -> list[Step]:
        """Take up to `limit` ready or due steps; `LeaseLost` where the worker has been given up."""
        taken: list[Step] = []

        def work(tx: Connection) -> list[Step]:
            for owner, step in self._doubtful:
                claims.give_back(tx, owner, step)
            taken[:] = claims.take(tx, self._sealer, worker_id, limit, self._max_takeovers)
            return list(taken)

        doubtful = list(self._doubtful)
        try:
            steps_taken = self._database.transact(work)
        except CommitUnknown:
            # The claim may stand although nobody was told of it: the next claim gives these back.
            self._doubtful += [(worker_id, step) for step in taken]
            raise
        self._doubtful = [entry for entry in self._doubtful if entry not in doubtful]
        return steps_taken

    def finish(self, worker_id: str, step: Step, outcome: Outcome) -> None:
        """Write how a step ended and release, skip or add what follows; raises `LeaseLost` when fenced."""
        if self._database.transact(lambda tx: settle(tx, self._sealer, worker_id, [(step, outcome)]), idempotent=True):
            raise claims.lost(step)

    def finish_many(self, worker_id: str, ended: Sequence[tuple[Step, Outcome]]) -> None:
        """`finish` for several steps in one transaction; fenced ones are passed over."""
        if ended:
            self._database.transact(lambda tx: settle(tx, self._sealer, worker_id, ended), idempotent=True)

    def give_back(self, worker_id: str, step: Step) -> None:
        """Make a claimed step ready again at once; raises `LeaseLost` when fenced."""
        if not self._database.transact(lambda tx: claims.give_back(tx, worker_id, step)):
            raise claims.lost(step)

    def record(self, worker_id: str, step: Step, name: str, value: bytes) -> None:
        """Remember `value` under (run, node, name), replacing an earlier value; raises `LeaseLost` when fenced."""
        recorded.check_name(name)

        def work(tx: Connection) -> None:
            claims.fence(tx, worker_id, step)
            recorded.put(tx, self._sealer, (step.run_id, step.node, name), value)

        self._database.transact(work, idempotent=True)

    def records(self, run_id: str, node: int) -> dict[str, bytes]:
        """What the hooks of one resource recorded in a run, opened."""
        return self._database.read(lambda tx: recorded.of_node(tx, self._sealer, run_id, node))

    def all_records(self, run_id: str, name: str) -> Iterator[tuple[int, bytes]]:
        """(node, value) of every record of this name in a run, by node; read page by page."""
        page = self._page(run_id, name, -2)
        while page:
            yield from page
            page = self._page(run_id, name, page[-1][0])

    def _page(self, run_id: str, name: str, after: int) -> list[tuple[int, bytes]]:
        return self._database.read(lambda tx: recorded.page(tx, self._sealer, run_id, name, after))

    def steps(self, run_id: str) -> list[StepRow]:
        """Every step of a run, by number."""
        return [
            self._step_row(row) for row in self._database.read(lambda tx: tx.execute(_STEPS, {"run": run_id}).all())
        ]

    def _step_row(self, row: AnyRow) -> StepRow:
        return StepRow(
            seq=row.seq,
            action=row.action,
            node=row.node,
            resource=row.resource,
            state=row.state,
            attempt=row.attempt,
            tries=row.tries,
            reason=msgspec.json.decode(row.reason, type=Reason) if row.reason else None,
            result=self._sealer.open(row.result, result_context(row.run_id, row.seq)),
            done_bytes=row.done_bytes,
            total_bytes=row.total_bytes,
            what=row.what,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )

    def run(self, run_id: str) -> Run | None:
        """One run, or None."""

        def work(tx: Connection) -> Run | None:
            row = tx.execute(_RUN, {"run": run_id}).one_or_none()
            if row is None:
                return None
            total, final, *_ = tx.execute(_FIGURES, {"run": run_id}).one()
            return Run(
                id=row.id,
                operation=row.operation,
                project_id=row.project_id,
                provider_id=row.provider_id,
                checkpoint_id=row.checkpoint_id,
                state=row.state,
                cancel_requested=row.cancel_requested,
                created_at=row.created_at,
                finished_at=row.finished_at,
                reason=row.reason,
                steps_total=total,
                steps_done=int(final),
            )

        return self._database.read(work)

    def progress(self, run_id: str) -> Progress:
        """How far a run is; all zero where there is none."""

        def work(tx: Connection) -> Progress:
            total, final, done_bytes, total_bytes = tx.execute(_FIGURES, {"run": run_id}).one()
            current = tx.execute(_CURRENT, {"run": run_id}).scalar_one_or_none()
            return Progress(
                done_bytes=int(done_bytes),
                total_bytes=int(total_bytes),
                done_steps=int(final),
                total_steps=total,
                current=current or "",
            )

        return self._database.read(work)

    def report(self, worker_id: str, figures: Mapping[tuple[str, int], tuple[int, int, str]]) -> set[str]:
        """Store progress by (run id, seq); returns the ids of those runs among them that the user has cancelled."""
        if not figures:
            return set()
        rows = [
            {"run": run_id, "number": seq, "worker": worker_id, "done": done, "total": total, "now_doing": what}
            for (run_id, seq), (done, total, what) in sorted(figures.items())
        ]
        ids = sorted({run_id for run_id, _ in figures})

        def work(tx: Connection) -> set[str]:
            tx.execute(_REPORT, rows)
            return set(tx.execute(_CANCEL_REQUESTED, {"ids": ids}).scalars())

        return self._database.transact(work, idempotent=True)

    def cancel(self, tx: Connection, run_id: str, reason: str) -> bool:
        """Ask a run to end, in the caller's transaction; False where it is already final."""
        run = graph.lock_run(tx, run_id)
        if run is None or run.state in FINAL_RUNS:
            return False
        if not run.cancel_requested:
            tx.execute(_REQUEST_CANCEL, {"run": run_id, "why": reason})
            graph.cancel_steps(tx, run_id, reason)
        return True

    def enlist(self, worker_id: str, host: str, pid: int) -> None:
        """Enter a worker incarnation."""
        self._database.transact(lambda tx: claims.enlist(tx, worker_id, host, pid), idempotent=True)

    def heartbeat(self, worker_id: str) -> bool:
        """Say that the worker lives; False where its lease has already been given up."""
        return self._database.transact(lambda tx: claims.beat(tx, worker_id), idempotent=True)

    def expire(self, *, alone: bool = False) -> int:
        """End the leases of silent workers, or of all where the caller is `alone`, and take over their steps."""
        lease = _WHENEVER if alone else self._lease
        return self._database.transact(lambda tx: claims.expire(tx, lease, self._max_takeovers), idempotent=True)

    def living(self) -> set[str]:
        """The ids of the workers whose leases have not been ended."""
        return self._database.read(lambda tx: set(tx.execute(select(workers.c.id)).scalars()))

    def leave(self, worker_id: str) -> None:
        """Remove a worker incarnation and give back whatever it still holds."""
        self._database.transact(lambda tx: claims.leave(tx, worker_id), idempotent=True)


class _Begun(msgspec.Struct, frozen=True):
    """What the steps of a run copy from it."""

    id: str
    priority: int
    created_at: Any
