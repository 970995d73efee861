"""The protection port: how resources of some types are protected, restored, verified and deleted.

A plugin derives from `Protection` and writes only the hooks that it needs, as methods named
``<operation>_<hook>``: `protect_main`, `restore_complete`, `verify_main`, `delete_main` and so on.
There is no step for a hook that nobody wrote. The order of hooks, for a parent and its dependents:

    parent.prepare_begin → dependent.prepare_begin → dependent.prepare_finish → parent.prepare_finish
    each resource: prepare_begin → prepare_finish → main → complete;   dependent.complete → parent.complete
    no main begins before every prepare_finish of the run has ended: what is to be of one moment, or to be there for
    resources elsewhere in the graph, is made in prepare_finish
    mains of different resources run in parallel

``<operation>_undo`` removes what the operation's hooks made for one resource, after a failure or a cancel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, get_args

from karbor.domain.operation import HOOKS, Operation
from karbor.sdk.schema import NoOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import msgspec

    from karbor.domain.preflight import PreflightItem
    from karbor.domain.resource import Resource
    from karbor.sdk.op import Look, Op


class Protection:
    """Derive from this; see the module's docstring. One instance serves many threads: keep no state of a run in it."""

    name: ClassVar[str]
    """The entry point's name, as `providers.d` uses it."""
    version: ClassVar[str] = "1"
    """Raised when a hook's steps change so that a run begun by the older code cannot be replayed by the newer."""
    types: tuple[str, ...]
    """The resource types it protects; an instance may choose by its options."""
    operations: ClassVar[frozenset[str]] = frozenset({"protect", "restore", "verify", "delete"})
    """Of protect, restore, verify, delete, copy, replicate, failover; what is absent is refused by name."""
    protect_options: ClassVar[type[msgspec.Struct]] = NoOptions
    restore_options: ClassVar[type[msgspec.Struct]] = NoOptions
    verify_options: ClassVar[type[msgspec.Struct]] = NoOptions
    saved_info: ClassVar[dict[str, Any]] = {}
    """JSON schema of the saved document, as v1 shows it."""

    def runs_commands(self, resource: Resource) -> bool:  # noqa: ARG002 - most plugins run none, whatever it is
        """Whether protecting the resource runs commands of the administrator's: that takes a right of its own."""
        return False

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """What protecting the resource would read and make; changes nothing."""
        raise NotImplementedError  # a plugin that protects must say what it would do

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """What restoring it would create, reuse, overwrite, skip or refuse; changes nothing."""
        raise NotImplementedError  # a plugin that restores must say what it would do


def hook_of(plugin: Protection, operation: Operation, hook: str) -> Callable[[Op], None] | None:
    """The plugin's method for a hook of an operation, or None where it wrote none."""
    method = getattr(plugin, f"{operation}_{hook}", None)
    return method if callable(method) else None


def written_hooks(plugin: Protection, operation: Operation) -> tuple[str, ...]:
    """The hooks that the plugin wrote for an operation, in their order."""
    return tuple(hook for hook in HOOKS if hook_of(plugin, operation, hook) is not None)


def operations_of(plugin: Protection) -> tuple[Operation, ...]:
    """The operations that the engine can run which the plugin declares."""
    return tuple(operation for operation in get_args(Operation) if operation in plugin.operations)
