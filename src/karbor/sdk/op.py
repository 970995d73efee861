"""What a hook is given: the only way to the outside world.

**Replay.** A hook is run again from its first line after a crash *and after each poll*. Between calls of `op` it
must therefore be deterministic, and everything that touches the outside goes through `op`:

* `once` for making objects: its result is recorded, so it happens once;
* `ensure` for states (attached, connected), which are looked at again instead of recorded;
* `read` for an observation that decides a branch: recorded, so that a replay takes the same branch;
* `poll` for waiting: it may leave the hook by raising `Parked`, which a hook never catches;
* `defer` for cleaning up: never `finally`, because a parked hook would run it early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from karbor.domain.resource import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from karbor.domain.checkpoint import Consistency, DataLocation
    from karbor.domain.clock import Clock
    from karbor.domain.operation import Operation
    from karbor.sdk.vault import Vault

T = TypeVar("T")


class Parked(BaseException):
    """Leaves a hook until its poll is due again. A `BaseException`, so that no plugin swallows it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Look(Protocol):
    """What a pre-flight is given: eyes without hands."""

    resource: Resource
    children: tuple[Resource, ...]
    """The direct dependents in the graph."""
    project_id: str
    session: Any
    """A `karbor.sdk.protectable.Session` in the caller's name: in an OpenStack cloud a `karbor.sdk.cloud.CloudSession`."""
    clock: Clock

    @property
    def options(self) -> Mapping[str, Any]:
        """The caller's parameters for this resource, parsed by the plugin's own schema."""
        ...

    @property
    def saved(self) -> Mapping[str, Any]:
        """What the resource's protect saved; empty before."""
        ...


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore registered: the resource made, and by which hook's plugin."""

    original: Resource
    new: Resource


class Op(Protocol):
    """One hook of one resource at work."""

    resource: Resource
    children: tuple[Resource, ...]
    parents: tuple[Resource, ...]
    project_id: str
    checkpoint_id: str
    operation: Operation
    session: Any
    """As in `Look`."""
    clock: Clock

    @property
    def options(self) -> Mapping[str, Any]:
        """The caller's parameters for this resource, parsed by the plugin's own schema."""
        ...

    @property
    def saved(self) -> Mapping[str, Any]:
        """The resource's document: what was saved so far (protect) or with the checkpoint (restore, verify, delete)."""
        ...

    @property
    def vault(self) -> Vault:
        """The bytes of this resource."""
        ...

    @property
    def scratch(self) -> Path:
        """An empty directory (0700) on the worker, removed after the hook; nothing in it survives a replay."""
        ...

    def once(self, name: str, make: Callable[[str], T], find: Callable[[str], T | None]) -> T:
        """Make something exactly once. `make(tag)` creates it with `tag` in the create call itself; `find(tag)` looks
        for what an earlier attempt made. The result must survive JSON. `name` is a literal or carries a resource
        key; using it twice in one hook is a `PluginError`."""
        ...

    def made(self, name: str) -> Any:
        """What `once` recorded under `name` in any hook of this resource and run, or None."""
        ...

    def read(self, name: str, observe: Callable[[], T]) -> T:
        """Record an observation; a replay gets the same answer. The result must survive JSON."""
        ...

    def ensure(self, check: Callable[[], bool], make: Callable[[], None]) -> None:
        """Bring about a state: `make` runs where `check` is false, and `check` must be true afterwards."""
        ...

    def poll(self, check: Callable[[], T | None], *, every: float, deadline: float, name: str = "poll") -> T:
        """Wait until `check` returns something other than None; look every `every` seconds, at most `deadline`
        seconds in all, then raise `Timeout`. Waiting holds no thread."""
        ...

    def defer(self, name: str, undo: Callable[[], None]) -> None:
        """Run `undo` once when the hook has ended, well or badly: for temporaries."""
        ...

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Say how far this resource is, in bytes. Raises `Cancelled` where the user has cancelled."""
        ...

    def save(
        self,
        document: Mapping[str, Any],
        *,
        location: DataLocation | None = None,
        consistency: Consistency | None = None,
    ) -> None:
        """Replace the resource's saved document (JSON, at most 1 MiB) and state where its data lies."""
        ...

    def register(self, new: Resource) -> None:
        """Say which resource a restore made, or chose, in place of this one."""
        ...

    def restored(self, original_key: str) -> Resource | None:
        """What another resource of this restore became; None where it is not part of it."""
        ...

    def warn(self, message: str) -> None:
        """Tell the user something that did not keep the operation from succeeding."""
        ...
