"""`op`: what a hook is given. Everything that it does outside is recorded here, so that a replay does it once."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from karbor.domain.checkpoint import Consistency, DataLocation
from karbor.domain.plan import parameters_for
from karbor.domain.resource import Resource
from karbor.errors import Cancelled, PluginError, ResourceFailed
from karbor.protection.vault import RecordingVault
from karbor.sdk.op import Parked
from karbor.sdk.schema import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from karbor.domain.clock import Clock
    from karbor.flow.journal import Journal
    from karbor.flow.worker import Claim
    from karbor.protection.run import RunContext
    from karbor.sdk.protectable import Session
    from karbor.sdk.protection import Protection

T = TypeVar("T")

SAVED = "saved"
REGISTERED = "registered"
WARNINGS = "warnings"
WRITTEN = "written"
_TAGS = uuid.UUID("6f0a1c0e-6d1c-4e0a-9f5a-2f9f5d9f1b11")
_MAX_DOCUMENT = 1 << 20


class SavedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What `op.save` recorded."""

    document: dict[str, Any]
    location: DataLocation = "none"
    consistency: Consistency = "none"


class _Once(msgspec.Struct, frozen=True, kw_only=True):
    """An intent, and later its result. `at` is when it was first meant, in Unix seconds."""

    at: float
    done: bool = False
    value: Any = None


class WorkingOp:
    """Implements `karbor.sdk.op.Op` over the journal; one per execution of a hook."""

    def __init__(
        self,
        context: RunContext,
        claim: Claim,
        journal: Journal,
        plugin: Protection,
        *,
        session: Session,
        clock: Clock,
        scratch: Callable[[], Path],
    ) -> None:
        step = claim.step
        self.resource: Resource = context.graph.resources[step.node]
        self.children = tuple(context.graph.resources[i] for i in context.graph.children[step.node])
        self.parents = tuple(context.graph.resources[i] for i in context.parents[step.node])
        self.project_id = context.project_id
        self.checkpoint_id = context.checkpoint_id
        self.operation = context.operation
        self.session = session
        self.clock = clock
        self._context, self._claim, self._journal, self._plugin = context, claim, journal, plugin
        self._scratch = scratch
        self._records: dict[str, bytes] | None = None
        self._names: set[str] = set()
        self._deferred: list[tuple[str, Callable[[], None]]] = []
        self._vault: RecordingVault | None = None
        self._options: dict[str, Any] | None = None

    # --- what the hook may look at

    @property
    def options(self) -> Mapping[str, Any]:
        """The caller's parameters for this resource, parsed."""
        if self._options is None:
            given = parameters_for(self._context.input.parameters, self.resource)
            self._options = parsed_options(self._plugin, self.operation, given)
        return self._options

    @property
    def saved(self) -> Mapping[str, Any]:
        """The resource's document."""
        record = self._recorded(SAVED, SavedRecord)
        if record is not None:
            return record.document
        return {} if self.operation == "protect" else self._context_meta()

    @property
    def scratch(self) -> Path:
        """A directory for this execution of the hook."""
        return self._scratch()

    @property
    def vault(self) -> RecordingVault:
        """The bytes of this resource."""
        if self._vault is None:
            self._vault = RecordingVault(self._context, self.resource.key, self)
        return self._vault

    # --- acting

    def once(self, name: str, make: Callable[[str], T], find: Callable[[str], T | None]) -> T:
        """Make something exactly once; see the port."""
        self._unique(f"once:{name}")
        key = f"once:{name}"
        tag = f"karbor-{uuid.uuid5(_TAGS, f'{self._context.run_id}/{self.resource.key}/{name}')}"
        known = self._recorded(key, _Once)
        if known is not None and known.done:
            value: T = known.value
            return value
        now = self.clock.now().timestamp()
        found: T | None = None
        if known is None:
            self._stop_here()
            known = _Once(at=now)
            self._record(key, known)
        else:
            found = find(tag)
            settled = known.at + getattr(self._plugin, "settle_seconds", 0.0)
            if found is None and now < settled:
                raise Parked(settled - now)
        if found is None:
            self._stop_here()
            self._claim.lease.check()
            found = make(tag)
        self._record(key, _Once(at=known.at, done=True, value=found))
        return found

    def made(self, name: str) -> Any:
        """What `once` recorded under a name in any hook of this resource, or None."""
        known = self._recorded(f"once:{name}", _Once)
        return known.value if known is not None and known.done else None

    def read(self, name: str, observe: Callable[[], T]) -> T:
        """Record an observation."""
        self._unique(f"read:{name}")
        known = self._recorded(f"read:{name}", _Once)
        if known is None:
            self._stop_here()
            known = _Once(at=self.clock.now().timestamp(), done=True, value=observe())
            self._record(f"read:{name}", known)
        value: T = known.value
        return value

    def ensure(self, check: Callable[[], bool], make: Callable[[], None]) -> None:
        """Bring about a state."""
        if check():
            return
        self._stop_here()
        self._claim.lease.check()
        make()
        if not check():
            raise ResourceFailed(f"{self.resource.key}: the state that was asked for has not come about")

    def poll(self, check: Callable[[], T | None], *, every: float, deadline: float, name: str = "poll") -> T:
        """Wait without holding a thread."""
        self._unique(f"poll:{name}")
        key = f"poll:{name}"
        known = self._recorded(key, _Once)
        if known is not None and known.done:
            value: T = known.value
            return value
        now = self.clock.now().timestamp()
        self._stop_here()
        if known is None:
            known = _Once(at=now)
            self._record(key, known)
        found = check()
        if found is not None:
            self._record(key, _Once(at=known.at, done=True, value=found))
            return found
        if now - known.at >= deadline:
            raise ResourceFailed(f"{self.resource.key}: {name} was not over after {deadline:.0f} seconds")
        raise Parked(every)

    def defer(self, name: str, undo: Callable[[], None]) -> None:
        """Run `undo` once when the hook has ended."""
        self._unique(f"defer:{name}")
        self._deferred.append((name, undo))

    def clean_up(self) -> None:
        """Run what was deferred, latest first; what was already undone is passed over."""
        for name, undo in reversed(self._deferred):
            if f"defer:{name}" not in self._loaded():
                undo()
                self._journal.record(self._claim.worker_id, self._claim.step, f"defer:{name}", b"{}")
                self._loaded()[f"defer:{name}"] = b"{}"

    # --- telling

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Say how far this resource is."""
        self._claim.report(done, total, what)
        self._stop_here()
        self._claim.lease.check()

    def save(
        self,
        document: Mapping[str, Any],
        *,
        location: DataLocation | None = None,
        consistency: Consistency | None = None,
    ) -> None:
        """Replace the resource's saved document."""
        before = self._recorded(SAVED, SavedRecord) or SavedRecord(document={})
        record = SavedRecord(
            document=dict(document),
            location=location or before.location,
            consistency=consistency or before.consistency,
        )
        try:
            raw = msgspec.json.encode(record)
        except (TypeError, ValueError) as error:
            raise PluginError(f"{self._plugin.name} saved what is not JSON: {error}") from error
        if len(raw) > _MAX_DOCUMENT:
            raise PluginError(f"{self._plugin.name} saved {len(raw)} bytes; at most {_MAX_DOCUMENT} are allowed")
        if self._loaded().get(SAVED) != raw:
            self._record(SAVED, record)

    def register(self, new: Resource) -> None:
        """Say which resource stands in place of this one."""
        if self._loaded().get(REGISTERED) != msgspec.json.encode(new):
            self._record(REGISTERED, new)

    def restored(self, original_key: str) -> Resource | None:
        """What another resource of this restore became."""
        node = self._context.position.get(original_key)
        if node is None:
            return None
        raw = self._journal.records(self._context.run_id, node).get(REGISTERED)
        return msgspec.json.decode(raw, type=Resource) if raw else None

    def warn(self, message: str) -> None:
        """Tell the user something."""
        known: list[str] = msgspec.json.decode(self._loaded().get(WARNINGS, b"[]"))
        if message not in known:
            self._record(WARNINGS, [*known, message])

    # --- the journal, for `RecordingVault` too

    def recall(self, name: str) -> bytes | None:
        """The raw record of a name."""
        return self._loaded().get(name)

    def keep(self, name: str, value: Any) -> None:
        """Record a value under a name of the service's own."""
        self._record(name, value)

    def _loaded(self) -> dict[str, bytes]:
        if self._records is None:
            self._records = self._journal.records(self._context.run_id, self._claim.step.node)
        return self._records

    def _recorded(self, name: str, kind: type[T]) -> T | None:
        raw = self._loaded().get(name)
        return msgspec.json.decode(raw, type=kind) if raw is not None else None

    def _record(self, name: str, value: Any) -> None:
        try:
            raw = msgspec.json.encode(value)
        except (TypeError, ValueError) as error:
            raise PluginError(f"{self._plugin.name}: {name} is not JSON: {error}") from error
        self._journal.record(self._claim.worker_id, self._claim.step, name, raw)
        self._loaded()[name] = raw

    def _unique(self, name: str) -> None:
        if name in self._names:
            raise PluginError(f"{self._plugin.name} used the name {name} twice in one hook")
        self._names.add(name)

    def _stop_here(self) -> None:
        """Leave before anything new is begun: the user has cancelled, or the worker is stopping."""
        if self._claim.cancelled.is_set() and not self._claim.step.action.endswith("_undo"):
            raise Cancelled("the user has cancelled the operation")
        if self._claim.draining:
            raise Parked(0)

    def _context_meta(self) -> dict[str, Any]:
        return self._context.meta(self.resource.key).saved


def parsed_options(plugin: Protection, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an operation as its plugin declares them; raises `InvalidInput` naming the wrong one."""
    kind = {"restore": plugin.restore_options, "verify": plugin.verify_options}.get(operation, plugin.protect_options)
    if getattr(plugin, "schemaless", False):
        return dict(given)
    return msgspec.structs.asdict(parse(kind, given, field="parameters"))
