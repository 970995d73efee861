"""Upkeep: the service's own work on every repository, on by default, once a day as a run of its own.

``purge`` ends the grace of deleted checkpoints, ``sweep`` deletes what an earlier mark listed, ``mark`` lists what
nothing needs any more, ``check`` reads a thirtieth of the data back, so that a month reads everything.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from karbor.bank.vault.check import Rotation, check
from karbor.bank.vault.prune import Pruner
from karbor.domain import checkpoint as states
from karbor.domain.checkpoint import Checkpoint
from karbor.domain.context import Caller
from karbor.errors import Refused
from karbor.flow.model import Done, NewRun, NewStep, Outcome
from karbor.protection.catalogue import MAX_LIMIT, Query
from karbor.protection.handler import new_run
from karbor.protection.logs import new_log
from karbor.protection.run import RunInput, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from karbor.bank.vault.check import CheckReport
    from karbor.domain.clock import Clock, Randomness
    from karbor.flow.journal import Journal
    from karbor.flow.worker import Claim
    from karbor.protection.catalogue import Catalogue
    from karbor.protection.run import RunContext
    from karbor.providers import Providers

OPERATION = "upkeep"
PURGE, SWEEP, MARK, CHECK = "upkeep_purge", "upkeep_sweep", "upkeep_mark", "upkeep_check"
ROTATION = 30
EVERY = timedelta(days=1)
_TURNS = 16
_IDS = uuid.UUID("0d2f8c1c-5f1b-4a37-9d6e-6b1f4d1a7f10")


class Repositories(Protocol):
    """Epochs and turns by provider and project; `karbor.db.repositories` says what each promises."""

    def join(self, tx: Any, provider_id: str, project_id: str) -> int: ...  # noqa: D102
    def epoch(self, provider_id: str, project_id: str) -> int: ...  # noqa: D102
    def raise_to(self, provider_id: str, project_id: str, epoch: int) -> None: ...  # noqa: D102
    def older_runs_ended(self, provider_id: str, project_id: str, epoch: int) -> bool: ...  # noqa: D102
    def take_due(self, tx: Any, every: timedelta, limit: int) -> Sequence[tuple[str, str]]: ...  # noqa: D102
    def report(self, tx: Any, provider_id: str, project_id: str, found: bytes) -> None: ...  # noqa: D102
    def reported(self, provider_id: str, project_id: str) -> bytes: ...  # noqa: D102


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the last upkeep of a repository found and did."""

    at: datetime | None = None
    deleted_packs: int = 0
    freed_bytes: int = 0
    reclaimable_bytes: int = 0
    postponed: str = ""
    part: int = 0
    checked_packs: int = 0
    checked_bytes: int = 0
    findings: tuple[str, ...] = ()


class _Epochs:
    """`karbor.bank.vault.prune.Epochs` for one repository."""

    def __init__(self, repositories: Repositories, provider_id: str, project_id: str) -> None:
        self._repositories, self._here = repositories, (provider_id, project_id)

    def current(self) -> int:
        return self._repositories.epoch(*self._here)

    def raise_to(self, epoch: int) -> None:
        self._repositories.raise_to(*self._here, epoch)

    def older_runs_ended(self, epoch: int) -> bool:
        return self._repositories.older_runs_ended(*self._here, epoch)


class Upkeep:
    """Begins runs of upkeep when they are due, and does their steps."""

    def __init__(
        self,
        repositories: Repositories,
        journal: Journal,
        catalogue: Catalogue,
        providers: Providers,
        *,
        clock: Clock,
        random: Randomness,
        every: timedelta = EVERY,
    ) -> None:
        self._repositories, self._journal, self._catalogue = repositories, journal, catalogue
        self._providers, self._clock, self._random, self._every = providers, clock, random, every
        self.actions = {PURGE: self._purge, SWEEP: self._sweep, MARK: self._mark, CHECK: self._check}

    # --- turns

    def tick(self) -> int:
        """Begin the runs whose turn it is; how many. Any worker may call it at any time."""
        return self._catalogue.transact(self._begin_due)

    def _begin_due(self, tx: Any) -> int:
        known = {provider.id for provider in self._providers.all()}
        due = [each for each in self._repositories.take_due(tx, self._every, _TURNS) if each[0] in known]
        for provider_id, project_id in due:
            self._begin(tx, provider_id, project_id)
        return len(due)

    def _begin(self, tx: Any, provider_id: str, project_id: str) -> None:
        caller = Caller(user_id="karbor", project_id=project_id)
        actions = (PURGE, SWEEP, MARK, CHECK)
        steps = tuple(
            NewStep(action=action, needs=(i - 1,) if i else (), always=True) for i, action in enumerate(actions)
        )
        run = NewRun(
            id=self._random.uuid(),
            operation=OPERATION,
            project_id=project_id,
            provider_id=provider_id,
            checkpoint_id="",
            object_id=str(uuid.uuid5(_IDS, f"{provider_id}/{project_id}")),
            input=encode(RunInput(caller=caller, log_id="")),
            epoch=self._repositories.join(tx, provider_id, project_id),
            priority=2,
            steps=steps,
        )
        self._journal.begin_run(tx, run)

    # --- steps

    def _purge(self, _claim: Claim, context: RunContext) -> Outcome:
        """Begin the final deletion of every checkpoint whose grace is over."""
        ends = self._clock.now() - timedelta(seconds=context.provider.grace_seconds)
        due = [each for each in self._deleted(context) if each.finished_at is not None and each.finished_at <= ends]

        def effects(tx: Any) -> None:
            for checkpoint in due:
                self._begin_purge(tx, checkpoint)

        return Done(effects=effects)

    def _deleted(self, context: RunContext) -> Iterator[Checkpoint]:
        filters = {"status": states.DELETED, "provider_id": context.provider.id}
        for checkpoint in self._pages(context.project_id, filters):
            if not checkpoint.snapshot_id:  # most: nothing of them is left
                continue
            run = self._journal.run(self._catalogue.run_of(Checkpoint, checkpoint.id))
            if run is None or run.finished_at is not None:
                yield checkpoint

    def _pages(self, project_id: str, filters: dict[str, Any]) -> Iterator[Checkpoint]:
        marker = ""
        while True:
            page = self._catalogue.list(Checkpoint, Query(scope=project_id, filters=filters, marker=marker))
            yield from page
            if len(page) < MAX_LIMIT:
                return
            marker = page[-1].id

    def _begin_purge(self, tx: Any, checkpoint: Checkpoint) -> None:
        caller = Caller(user_id="karbor", project_id=checkpoint.project_id)
        why = "the grace period of the deleted checkpoint is over"
        ident, now = self._random.uuid(), self._clock.now()
        log = new_log(ident, now, caller, "delete", states.DELETING, checkpoint, reason=why)
        self._catalogue.insert(tx, log)
        begun = RunInput(caller=caller, log_id=log.id, snapshot_id=checkpoint.snapshot_id, purge=True)
        epoch = self._repositories.join(tx, checkpoint.provider_id, checkpoint.project_id)
        run = new_run(self._random.uuid(), "delete", checkpoint, begun, epoch)
        self._journal.begin_run(tx, run)

    def _pruner(self, claim: Claim, context: RunContext) -> Pruner:
        held = [each.snapshot_id for each in self._pages(context.project_id, {"provider_id": context.provider.id})]
        return Pruner(
            context.repository,
            _Epochs(self._repositories, context.provider.id, context.project_id),
            incarnation=claim.worker_id,
            grace=timedelta(seconds=min(context.provider.grace_seconds, EVERY.total_seconds())),
            roots=[snapshot_id for snapshot_id in held if snapshot_id],
        )

    def _sweep(self, claim: Claim, context: RunContext) -> Outcome:
        swept = self._pruner(claim, context).sweep()
        report = Report(
            at=self._clock.now(),
            deleted_packs=swept.deleted_packs,
            freed_bytes=swept.freed_bytes,
            postponed=swept.postponed,
        )
        return Done(effects=partial(self._keep, context, report))

    def _mark(self, claim: Claim, context: RunContext) -> Outcome:
        last = self._last(context)
        try:
            found = self._pruner(claim, context).mark()
            report = msgspec.structs.replace(last, reclaimable_bytes=found.reclaimable)
        except Refused as error:
            report = msgspec.structs.replace(last, postponed=error.message)
        return Done(effects=partial(self._keep, context, report))

    def _check(self, claim: Claim, context: RunContext) -> Outcome:
        part = self._clock.now().toordinal() % ROTATION + 1
        found = check(
            context.repository,
            rotation=Rotation(part, ROTATION),
            progress=lambda done, _total: claim.report(done, 0, f"reading part {part} of {ROTATION} back"),
        )
        lines = tuple(f"{finding.key}: {finding.problem}" for finding in found.findings)
        report = msgspec.structs.replace(
            self._last(context),
            part=part,
            checked_packs=found.read_packs,
            checked_bytes=found.read_bytes,
            findings=lines[:MAX_LIMIT],
        )

        def effects(tx: Any) -> None:
            self._keep(context, report, tx)
            self._warn(tx, context, found)

        return Done(effects=effects, end_run="failed" if lines else "succeeded", reason=lines[0] if lines else "")

    def _warn(self, tx: Any, context: RunContext, found: CheckReport) -> None:
        """Every checkpoint that a damaged object affects says so."""
        damage: dict[str, list[str]] = {}
        for finding in found.findings:
            for affected in finding.affected:
                damage.setdefault(affected.snapshot, []).append(f"damaged: {finding.key}: {finding.problem}")
        for checkpoint in self._pages(context.project_id, {"provider_id": context.provider.id}) if damage else ():
            if checkpoint.snapshot_id in damage:
                # Locked and read again: what was listed may have been deleted or verified meanwhile.
                record = self._catalogue.get(Checkpoint, context.project_id, checkpoint.id, tx=tx)
                lines = dict.fromkeys((*record.warnings, *damage[checkpoint.snapshot_id]))
                new = msgspec.structs.replace(record, warnings=tuple(lines), verify_level="")
                self._catalogue.replace(tx, new)

    def _last(self, context: RunContext) -> Report:
        raw = self._repositories.reported(context.provider.id, context.project_id)
        return msgspec.json.decode(raw, type=Report)

    def _keep(self, context: RunContext, report: Report, tx: Any) -> None:
        self._repositories.report(tx, context.provider.id, context.project_id, encode(report))
