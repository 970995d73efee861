"""What a run is about: its input, its graph, its provider; kept by each worker for the runs it works on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import msgspec

from karbor.bank.checkpoints import Prepared, load_manifest, load_meta
from karbor.domain.context import Caller
from karbor.domain.graph import ResourceGraph
from karbor.domain.plan import Parameters
from karbor.domain.resource import Resource
from karbor.errors import Damaged, ObjectMissing, PluginError

if TYPE_CHECKING:
    from karbor.bank.manifest import Manifest, Meta
    from karbor.bank.vault.repository import Repository
    from karbor.domain.checkpoint import Checkpoint
    from karbor.domain.operation import Operation
    from karbor.flow.journal import Journal
    from karbor.flow.model import Step
    from karbor.protection.vaults import Vaults
    from karbor.providers import Provider, Providers

GRAPH = "graph"
PREVIOUS = "previous"
BURIED = "buried"
RUN_NODE = -1
_KEPT = 16


class RunInput(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is given when it is begun; sealed in the journal."""

    caller: Caller
    """On whose behalf it works. No token or password is in it."""
    log_id: str
    delegation_id: str = ""
    """The right by which it acts for the caller in a cloud; empty where there is none."""
    object_id: str = ""
    """Of the restore or verification, where the run is about one."""
    parameters: Parameters = msgspec.field(default_factory=dict)
    resources: tuple[Resource, ...] = ()
    """The plan's, for a protect."""
    follows: bool = False
    """Whether the bank holds checkpoints of the project already: a protect then finds their repository or fails."""
    selected: tuple[str, ...] = ()
    """Keys of the part of the checkpoint to restore; empty for all of it."""
    snapshot_id: str = ""
    undo: bool = False
    """Remove what a failed restore made."""
    purge: bool = False
    """The grace of a deleted checkpoint is over: delete for good what its tombstone has kept."""


class RunContext:
    """One run as its steps see it. Everything in it is the same at every replay."""

    def __init__(self, step: Step, providers: Providers, vaults: Vaults, journal: Journal) -> None:
        self.run_id = step.run_id
        self.operation = cast("Operation", step.operation)
        self.checkpoint_id = step.checkpoint_id
        self.project_id = step.project_id
        self.input = msgspec.json.decode(step.input, type=RunInput)
        self._provider_id, self._providers = step.provider_id, providers
        self._vaults, self._journal = vaults, journal

    @cached_property
    def provider(self) -> Provider:
        """The provider; `NotFound` where the administrator has removed it meanwhile."""
        return self._providers.get(self._provider_id)

    @cached_property
    def records(self) -> dict[str, bytes]:
        """What the run's own first step recorded."""
        return self._journal.records(self.run_id, RUN_NODE)

    @cached_property
    def graph(self) -> ResourceGraph:
        """The resources that the run works on: as listed, or those of the manifest."""
        if self.operation == "protect":
            if GRAPH not in self.records:
                raise PluginError(f"run {self.run_id} has no graph yet")
            return msgspec.json.decode(self.records[GRAPH], type=ResourceGraph)
        graph = self.manifest.graph
        return graph.closure(self.input.selected) if self.input.selected else graph

    @cached_property
    def parents(self) -> list[list[int]]:
        """For each resource the positions of its parents."""
        return self.graph.parents()

    @cached_property
    def position(self) -> dict[str, int]:
        """Resource key → position in the graph."""
        return {resource.key: i for i, resource in enumerate(self.graph.resources)}

    @cached_property
    def previous(self) -> dict[str, str]:
        """Hex ids of the resources' directories in the plan's checkpoint before this one."""
        found: dict[str, str] = msgspec.json.decode(self.records.get(PREVIOUS, b"{}"))
        return found

    @cached_property
    def repository(self) -> Repository:
        """The project's repository; made by the first protect, and by no other: where it is missing then, the bank is
        not the one that it was, as where its disk is not mounted."""
        if self.operation == "protect" and not self.input.follows:
            return self._vaults.ensure(self.provider, self.project_id)
        return self._vaults.open(self.provider, self.project_id)

    @cached_property
    def manifest(self) -> Manifest:
        """The checkpoint's manifest, read from the bank: of one that is being deleted from its tombstone."""
        buried = self.records.get(BURIED)
        snapshot_id = msgspec.json.decode(buried, type=Prepared).snapshot_id if buried else self.input.snapshot_id
        return load_manifest(self.repository, snapshot_id)

    def meta(self, key: str) -> Meta:
        """The document of one resource, read from the bank."""
        return load_meta(self.repository, self.manifest, key)


class Runs:
    """The contexts of the runs that this process worked on last."""

    def __init__(self, providers: Providers, vaults: Vaults, journal: Journal) -> None:
        self._providers, self._vaults, self._journal = providers, vaults, journal
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, RunContext] = OrderedDict()

    def context(self, step: Step) -> RunContext:
        """The context of the step's run. Not kept before the graph is recorded."""
        with self._lock:
            known = self._kept.get(step.run_id)
            if known is not None:
                self._kept.move_to_end(step.run_id)
                return known
        context = RunContext(step, self._providers, self._vaults, self._journal)
        if step.node >= 0:
            with self._lock:
                self._kept[step.run_id] = context
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return context


def previous_trees(repository: Repository, checkpoint: Checkpoint | None) -> dict[str, str]:
    """The directories of an earlier checkpoint by resource key; none where it cannot be read: then all is read anew."""
    if checkpoint is None or not checkpoint.snapshot_id:
        return {}
    try:
        return dict(load_manifest(repository, checkpoint.snapshot_id).trees)
    except (Damaged, ObjectMissing):
        return {}


def encode(value: Any) -> bytes:
    """JSON for the journal."""
    return msgspec.json.encode(value)
