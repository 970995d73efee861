"""The journal port: where runs, steps and what hooks recorded are kept. Implemented by `karbor.db.journal`.

Obligations: a claim is a compare-and-set on the attempt number; a step's outcome, the release of its successors
and the outcome's `effects` are one transaction; every write carries the attempt and raises `LeaseLost` where it is
no longer the current one; time is the database server's; inputs, results and records are sealed before they are
written; deadlocks and serialization failures are retried inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from karbor.domain.operation import Progress
    from karbor.flow.model import NewRun, Outcome, Run, Step, StepRow


class Journal(Protocol):
    """Runs and steps as rows; the module's docstring lists the obligations."""

    def begin_run(self, tx: Any, run: NewRun) -> None:
        """Insert a run and its first steps in the caller's open transaction."""
        ...

    def claim(self, worker_id: str, limit: int) -> list[Step]:
        """Take up to `limit` ready or due steps for a live worker, by priority and then by age."""
        ...

    def finish(self, worker_id: str, step: Step, outcome: Outcome) -> None:
        """Write how a step ended and release, skip or add what follows; raises `LeaseLost` when fenced."""
        ...

    def finish_many(self, worker_id: str, ended: Sequence[tuple[Step, Outcome]]) -> None:
        """`finish` for several steps in one transaction (group commit). Fenced ones are passed over in silence:
        somebody else goes on with them. Where an outcome's `effects` raise, nothing is written and it raises."""
        ...

    def give_back(self, worker_id: str, step: Step) -> None:
        """Make a claimed step ready again at once: a draining worker."""
        ...

    def record(self, worker_id: str, step: Step, name: str, value: bytes) -> None:
        """Remember `value` under (run, node, name), replacing an earlier value; raises `LeaseLost` when fenced."""
        ...

    def records(self, run_id: str, node: int) -> dict[str, bytes]:
        """What the hooks of one resource recorded in a run, opened."""
        ...

    def all_records(self, run_id: str, name: str) -> Iterator[tuple[int, bytes]]:
        """(node, value) of every record of this name in a run."""
        ...

    def steps(self, run_id: str) -> list[StepRow]:
        """Every step of a run."""
        ...

    def run(self, run_id: str) -> Run | None:
        """One run, or None."""
        ...

    def progress(self, run_id: str) -> Progress:
        """How far a run is."""
        ...

    def report(self, worker_id: str, figures: Mapping[tuple[str, int], tuple[int, int, str]]) -> set[str]:
        """Store progress by (run id, seq): bytes done, bytes in all, what is being done. Returns the ids of those
        runs among them that the user has cancelled."""
        ...

    def cancel(self, tx: Any, run_id: str, reason: str) -> bool:
        """Ask a run to end, in the caller's transaction; False where it is already final."""
        ...

    def enlist(self, worker_id: str, host: str, pid: int) -> None:
        """Enter a worker incarnation."""
        ...

    def heartbeat(self, worker_id: str) -> bool:
        """Say that the worker lives; False where its lease has already been given up."""
        ...

    def expire(self, *, alone: bool = False) -> int:
        """End the leases of workers that have not been heard of and make their steps ready, one more try counted;
        a step that has brought down its worker too often fails. A caller that knows itself to be `alone`, and has
        not enlisted yet, need not wait for leases. Returns how many steps were taken over."""
        ...

    def living(self) -> set[str]:
        """The ids of the worker incarnations whose leases have not been ended."""
        ...

    def leave(self, worker_id: str) -> None:
        """Remove a worker incarnation and give back whatever it still holds."""
        ...
