"""What the flow engine moves: runs, steps, claims and the outcomes of steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec

from karbor.domain.operation import Reason

RunState = Literal["ready", "running", "succeeded", "failed", "cancelled"]
StepState = Literal["waiting", "ready", "running", "parked", "done", "failed", "skipped", "cancelled"]
FINAL_STEPS: frozenset[str] = frozenset({"done", "failed", "skipped", "cancelled"})
FINAL_RUNS: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

FLOW_VERSION = 1
"""Raised when the steps of the service's own flows change so that older runs cannot be replayed."""


class NewStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step to be added to a run."""

    action: str
    """What the handler does: `expand`, `protect_main`, `commit`, `finish` …"""
    node: int = -1
    """Position of the resource in the run's graph; -1 for a step of the run itself."""
    resource: str = ""
    """The resource key, for people."""
    plugin: str = ""
    plugin_version: str = ""
    needs: tuple[int, ...] = ()
    """Positions in the same list of the steps that must be done first."""
    always: bool = False
    """Runs when every step it needs is final, however those ended; others are skipped after a failure."""


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be begun. `input` is sealed by the journal before it is written."""

    id: str
    operation: str
    project_id: str
    provider_id: str
    checkpoint_id: str
    object_id: str
    """What the run is about: the restore, verification or checkpoint by which users ask for it."""
    input: bytes
    epoch: int = 0
    """The epoch of its repository when it began: what prune waits for."""
    priority: int = 1
    """Smaller goes first: 0 restore, cancel and undo; 1 protect; 2 verify, delete and prune."""
    steps: tuple[NewStep, ...]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step as it is claimed: everything its handler needs without asking the database again."""

    run_id: str
    seq: int
    action: str
    node: int
    resource: str
    plugin: str
    plugin_version: str
    attempt: int
    """The fencing number: raised by every claim; a write with an older one changes nothing."""
    tries: int
    """How often it failed with a retryable error so far."""
    operation: str
    project_id: str
    provider_id: str
    checkpoint_id: str
    input: bytes
    """The run's input, opened."""
    cancelled: bool
    """The user has cancelled the run: only `always` and undo steps still work."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the journal knows it."""

    id: str
    operation: str
    project_id: str
    provider_id: str
    checkpoint_id: str
    state: str
    cancel_requested: bool
    created_at: datetime
    finished_at: datetime | None
    reason: str
    steps_total: int
    steps_done: int


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one step stands: for progress, diagnosis and the settling of a run."""

    seq: int
    action: str
    node: int
    resource: str
    state: str
    attempt: int
    tries: int
    reason: Reason | None
    result: bytes
    done_bytes: int
    total_bytes: int
    what: str
    started_at: datetime | None
    finished_at: datetime | None


Effects = Callable[[Any], None]
"""Writes that belong in the transaction which ends the step; given the open transaction."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The step succeeded. `add` are new steps, whose `needs` are positions among themselves; steps that were waiting
    for this one wait for every step of `add` as well. `end_run` closes the run, with `reason`."""

    result: bytes = b""
    add: tuple[NewStep, ...] = ()
    effects: Effects | None = None
    end_run: RunState | None = None
    reason: str = ""


class Park(msgspec.Struct, frozen=True, kw_only=True):
    """The step waits: give it back and offer it again after `seconds`."""

    seconds: float


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """The step failed and may succeed later: one more try is counted, and it is offered again after `seconds`."""

    seconds: float
    reason: Reason


class Fail(msgspec.Struct, frozen=True, kw_only=True):
    """The step failed for good; what needs it is skipped. The code `cancelled` makes its state `cancelled`."""

    reason: Reason


Outcome = Done | Park | Retry | Fail
