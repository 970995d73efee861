"""`FakeOp`: the engine's `op` in memory, for tests of plugins. It holds plugins to the rules of `karbor.sdk.op`.

`perform` runs a hook as the engine does: again from its first line after each poll and after each crash. A crash can
be asked for at any point between two effects, so that a test can try them all::

    stage = Stage(resource=volume, operation="protect", vault=MemoryVault(), scratch_root=tmp_path)
    journal = Journal()
    perform(plugin.protect_main, stage, journal)
    assert journal.saved["backup_id"]
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import msgspec

from karbor.domain.checkpoint import Consistency, DataLocation
from karbor.domain.resource import Resource
from karbor.errors import Cancelled, KarborError, PluginError, ResourceFailed
from karbor.sdk.op import Parked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from karbor.sdk.vault import Vault

T = TypeVar("T")

MAX_DOCUMENT = 1 << 20
_MAX_ROUNDS = 10_000
_TAGS = uuid.UUID("0b6e1d5e-5a53-4a55-9f0c-6b8f1c2f7a31")


class Crash(BaseException):
    """The worker dies here. A `BaseException`, as no plugin can catch a power failure."""


class ManualClock:
    """A clock that moves only when told."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now, self._passed = start, 0.0

    def now(self) -> datetime:
        """The time of day."""
        return self._now

    def monotonic(self) -> float:
        """Seconds passed."""
        return self._passed

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += seconds
        self._now += timedelta(seconds=seconds)


class Journal:
    """What one resource's hooks recorded in one run; survives crashes."""

    def __init__(self, saved: Mapping[str, Any] | None = None) -> None:
        self.records: dict[str, Any] = {}
        self.saved: dict[str, Any] = dict(saved or {})
        self.location: DataLocation = "none"
        self.consistency: Consistency = "none"
        self.registered: Resource | None = None
        self.warnings: list[str] = []
        self.progress: list[tuple[int, int, str]] = []
        self.cancelled = False


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What one resource's hooks are given in one run."""

    resource: Resource
    operation: str
    vault: Any
    """The resource's `Vault`."""
    scratch_root: Path
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    children: tuple[Resource, ...] = ()
    parents: tuple[Resource, ...] = ()
    restored: dict[str, Resource] = msgspec.field(default_factory=dict)
    """What other resources of the restore became, by original key."""
    project_id: str = "0f3f3f0e8d0c4a4e9f0f3f3f0e8d0c4a"
    session: Any = None
    """The connection to the cloud that the plugin protects; None for what needs none."""
    checkpoint_id: str = "5f0c2ad1-6a5e-4c59-8d0c-1b7f6f1f9a10"
    clock: ManualClock = msgspec.field(default_factory=ManualClock)


class FakeLook:
    """What a pre-flight is given."""

    def __init__(self, stage: Stage, saved: Mapping[str, Any] | None = None) -> None:
        self.resource, self.options, self.children = stage.resource, stage.options, stage.children
        self.saved: Mapping[str, Any] = dict(saved or {})
        self.project_id, self.session, self.clock = stage.project_id, stage.session, stage.clock


class FakeOp:
    """One execution of a hook. Raises `PluginError` where the hook breaks a rule."""

    def __init__(self, stage: Stage, journal: Journal, *, crash_at: int | None = None) -> None:
        self.resource, self.options = stage.resource, stage.options
        self.children, self.parents = stage.children, stage.parents
        self.project_id, self.session, self.checkpoint_id = stage.project_id, stage.session, stage.checkpoint_id
        self.operation, self.clock = stage.operation, stage.clock
        self.points = 0
        """How many places for a crash were passed."""
        self._stage, self._journal, self._crash_at = stage, journal, crash_at
        self._names: set[str] = set()
        self._deferred: list[tuple[str, Callable[[], None]]] = []
        self._scratch: Path | None = None

    @property
    def saved(self) -> Mapping[str, Any]:
        """The resource's document."""
        return dict(self._journal.saved)

    @property
    def vault(self) -> Vault:
        """The resource's vault; each whole transfer is followed by a place for a crash."""
        return cast("Vault", _PointedVault(self._stage.vault, self._point))

    @property
    def scratch(self) -> Path:
        """A directory for this execution only."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(dir=self._stage.scratch_root))
        return self._scratch

    def once(self, name: str, make: Callable[[str], T], find: Callable[[str], T | None]) -> T:
        """Make something exactly once."""
        key = self._unique("once", name)
        known = self._journal.records.get(key)
        if known is not None and known["done"]:
            return cast("T", known["value"])
        self._stop_where_cancelled()
        tag = f"karbor-{uuid.uuid5(_TAGS, f'{self.checkpoint_id}/{self.operation}/{self.resource.key}/{name}')}"
        found = find(tag) if known is not None else None
        self._journal.records[key] = {"done": False}
        self._point()
        if found is None:
            found = make(tag)
            self._point()
        return self._recorded(key, found)

    def made(self, name: str) -> Any:
        """What `once` recorded under a name."""
        known = self._journal.records.get(f"once:{name}")
        return known["value"] if known is not None and known["done"] else None

    def read(self, name: str, observe: Callable[[], T]) -> T:
        """Record an observation."""
        key = self._unique("read", name)
        known = self._journal.records.get(key)
        if known is not None:
            return cast("T", known["value"])
        self._stop_where_cancelled()
        value = observe()
        self._point()
        return self._recorded(key, value)

    def ensure(self, check: Callable[[], bool], make: Callable[[], None]) -> None:
        """Bring about a state."""
        if check():
            return
        self._stop_where_cancelled()
        make()
        self._point()
        if not check():
            raise ResourceFailed(f"{self.resource.key}: the state that was asked for has not come about")

    def poll(self, check: Callable[[], T | None], *, every: float, deadline: float, name: str = "poll") -> T:
        """Wait: leaves the hook by `Parked` until the check gives something."""
        key = self._unique("poll", name)
        if every <= 0 or deadline <= 0:
            raise PluginError(f"poll {name}: every and deadline are positive numbers of seconds")
        known = self._journal.records.setdefault(key, {"done": False, "at": self.clock.monotonic()})
        if known["done"]:
            return cast("T", known["value"])
        self._stop_where_cancelled()
        found = check()
        if found is not None:
            return self._recorded(key, found)
        if self.clock.monotonic() - known["at"] >= deadline:
            raise ResourceFailed(f"{self.resource.key}: {name} was not over after {deadline:.0f} seconds")
        raise Parked(every)

    def defer(self, name: str, undo: Callable[[], None]) -> None:
        """Run `undo` once when the hook has ended."""
        self._unique("defer", name)
        self._deferred.append((name, undo))

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Say how far this resource is."""
        if done < 0 or total < 0 or (total and done > total):
            raise PluginError(f"progress {done} of {total} is no progress")
        self._journal.progress.append((done, total, what))
        self._stop_where_cancelled()

    def save(
        self,
        document: Mapping[str, Any],
        *,
        location: DataLocation | None = None,
        consistency: Consistency | None = None,
    ) -> None:
        """Replace the resource's saved document."""
        for value, kind in ((location, DataLocation), (consistency, Consistency)):
            if value is not None and value not in get_args(kind):
                raise PluginError(f"{value!r} is none of {', '.join(get_args(kind))}")
        kept = _as_json("saved document", dict(document))
        size = len(msgspec.json.encode(kept))
        if size > MAX_DOCUMENT:
            raise PluginError(f"the saved document has {size} bytes; at most {MAX_DOCUMENT} are allowed")
        self._point()
        self._journal.saved = kept
        self._journal.location = location or self._journal.location
        self._journal.consistency = consistency or self._journal.consistency
        self._point()

    def register(self, new: Resource) -> None:
        """Say what stands in place of this resource."""
        if not isinstance(new, Resource):
            raise PluginError("what is registered is a Resource")
        self._journal.registered = new
        self._point()

    def restored(self, original_key: str) -> Resource | None:
        """What another resource became."""
        return self._stage.restored.get(original_key)

    def warn(self, message: str) -> None:
        """Tell the user something, once."""
        if message not in self._journal.warnings:
            self._journal.warnings.append(message)
        self._point()

    def clean_up(self) -> None:
        """What the engine does when a hook has ended: the deferred, latest first, each once."""
        for name, undo in reversed(self._deferred):
            if self._journal.records.setdefault(f"defer:{name}", {"done": False})["done"]:
                continue
            undo()
            self._point()
            self._journal.records[f"defer:{name}"] = {"done": True}

    def close(self) -> None:
        """Remove the scratch directory."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch)

    def _recorded(self, key: str, value: T) -> T:
        kept = cast("T", _as_json(key, value))
        self._journal.records[key] = {"done": True, "value": kept}
        self._point()
        return kept

    def _unique(self, kind: str, name: str) -> str:
        key = f"{kind}:{name}"
        if not name or key in self._names:
            raise PluginError(f"the name {name!r} was used twice in one hook" if name else f"{kind} needs a name")
        self._names.add(key)
        return key

    def _point(self) -> None:
        self.points += 1
        if self._crash_at is not None and self.points > self._crash_at:
            raise Crash

    def _stop_where_cancelled(self) -> None:
        if self._journal.cancelled:
            raise Cancelled("the user has cancelled the operation")


class _PointedVault:
    """A vault with a place for a crash after each transfer."""

    def __init__(self, vault: Vault, point: Callable[[], None]) -> None:
        self._vault, self._point = vault, point

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._vault, name)

        def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            self._point()
            return result

        return call


def perform(hook: Callable[[Any], None], stage: Stage, journal: Journal, *, crash_at: int | None = None) -> bool:
    """Run a hook to its end, through polls and one crash at the place `crash_at`, counted from 0.

    Returns whether that crash came; a hook with fewer places ends without one. Raises what the hook raises.
    """
    crashed = False
    for _ in range(_MAX_ROUNDS):
        op = FakeOp(stage, journal, crash_at=None if crashed else crash_at)
        try:
            _run_once(hook, op)
        except Parked as parked:
            stage.clock.sleep(parked.seconds)
        except Crash:
            crashed = True
        else:
            return crashed
        finally:
            op.close()
    raise PluginError(f"the hook was not over after {_MAX_ROUNDS} rounds")


def _run_once(hook: Callable[[Any], None], op: FakeOp) -> None:
    try:
        hook(op)
    except KarborError:
        op.clean_up()
        raise
    op.clean_up()


def _as_json(what: str, value: Any) -> Any:
    """The value as it comes back from the journal."""
    try:
        kept = json.loads(msgspec.json.encode(value))
    except (TypeError, ValueError) as error:
        raise PluginError(f"{what} is not JSON: {error}") from error
    if kept != value and not isinstance(value, tuple):
        raise PluginError(f"{what} does not survive JSON: {value!r} comes back as {kept!r}")
    return kept
