"""What every protection plugin must prove: the rules of `karbor.sdk.protection` and `karbor.sdk.op`.

Derive a class, give it `open_world`, and let any runner that knows classes with `test_` methods run it, or
``karbor plugin test my.module:TestMyPlugin``::

    class TestMyPlugin(ProtectionContract):
        def open_world(self) -> World:
            return MyWorld(...)

A world is one resource with the plugin that protects it and the outside it lives in. Every test opens several; two
worlds must start equal. Nothing but the standard library and this package is needed.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec

from karbor.domain.operation import HOOKS
from karbor.domain.preflight import PreflightItem
from karbor.errors import KarborError
from karbor.sdk.contract.op import FakeLook, Journal, Stage, perform
from karbor.sdk.protection import hook_of, operations_of, written_hooks
from karbor.sdk.schema import json_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from karbor.domain.operation import Operation
    from karbor.domain.resource import Resource
    from karbor.sdk.protection import Protection

_KNOWN = frozenset({"protect", "restore", "verify", "delete", "copy", "replicate", "failover"})
_MAX_POINTS = 2_000


class World(Protocol):
    """One resource, its plugin, and the outside. Where the plugin uses `op.session`, the world has a `session` too."""

    options: dict[str, dict[str, Any]]
    """Options by operation."""

    @property
    def plugin(self) -> Protection:
        """The plugin under test."""
        ...

    @property
    def resource(self) -> Resource:
        """What it protects."""
        ...

    @property
    def children(self) -> tuple[Resource, ...]:
        """The direct dependents."""
        ...

    @property
    def parents(self) -> tuple[Resource, ...]:
        """What directly depends on the resource."""
        ...

    @property
    def vault(self) -> Any:
        """An empty `Vault`; `karbor.sdk.contract.vault.MemoryVault` will do."""
        ...

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings that must never be shown: passwords, keys."""
        ...

    def observe(self) -> Any:
        """Everything outside that the plugin could change, so that two states can be compared: what exists, how
        often, with which content. Without what differs by chance, as ids and times do."""
        ...

    def comparable(self, document: dict[str, Any]) -> Any:
        """A saved document without what differs by chance."""
        ...

    def lose(self) -> None:
        """What happens between protect and restore: the resource is lost, or changed."""
        ...

    def close(self) -> None:
        """Remove the world."""
        ...


class ProtectionContract:
    """The suite."""

    def open_world(self) -> World:
        """A fresh world."""
        raise NotImplementedError

    def test_declares_what_it_is(self) -> None:
        """Name, version, types, operations and schemas are there and can be shown."""
        with _Play(self) as play:
            plugin = play.world.plugin
            _expect(bool(plugin.name) and bool(plugin.version), "name and version are not empty")
            _expect(play.world.resource.type in plugin.types, "the world's resource is of a type it protects")
            strange = plugin.operations - _KNOWN
            _expect(not strange, f"{sorted(strange)} are no operations")
            for options in (plugin.protect_options, plugin.restore_options, plugin.verify_options):
                json.dumps(json_schema(options, "Options"))
            json.dumps(plugin.saved_info)

    def test_operations_and_hooks_agree(self) -> None:
        """What it declares it has hooks for, and the other way round. Two have nothing to do: verify where nothing
        was stored, delete where all lies in the bank, which the service empties itself."""
        with _Play(self) as play:
            plugin = play.world.plugin
            play.run("protect")
            for operation in ("protect", "restore", "verify", "delete", "copy"):
                written, declared = written_hooks(plugin, operation), operation in plugin.operations
                _expect(declared or not written, f"{operation} has hooks {written} and is not declared")
                idle = {"verify": play.journal.location == "none", "delete": play.journal.location in {"none", "bank"}}
                _expect(not declared or bool(written) or idle.get(operation, False), f"{operation} has no hook")

    def test_preflights_change_nothing(self) -> None:
        """They say at least one thing about the resource, refuse nothing that works, and leave the outside alone."""
        with _Play(self) as play:
            before = play.world.observe()
            self._check_items(play, play.world.plugin.preflight_protect(play.look("protect")))
            _same(play.world.observe(), before, "preflight_protect changed the outside")
            play.run("protect")
            play.world.lose()
            before = play.world.observe()
            self._check_items(play, play.world.plugin.preflight_restore(play.look("restore")))
            _same(play.world.observe(), before, "preflight_restore changed the outside")

    def _check_items(self, play: _Play, items: Iterable[PreflightItem]) -> None:
        found = list(items)
        _expect(bool(found), "a pre-flight says something")
        for item in found:
            _expect(isinstance(item, PreflightItem), f"{item!r} is no PreflightItem")
            _expect(item.resource == play.world.resource.key, f"{item} is about another resource")
            _expect(item.action != "refuse", f"a pre-flight refused what works: {item.what}: {item.reason}")
            _expect(item.estimated_bytes >= 0, "bytes are not negative")
        play.told.append(repr(found))

    def test_verify_changes_nothing(self) -> None:
        """Reading back leaves the outside alone."""
        with _Play(self) as play:
            play.run("protect")
            if "verify" in play.operations:
                before = play.world.observe()
                play.run("verify")
                _same(play.world.observe(), before, "a verify changed the outside")

    def test_protect_bears_a_crash_anywhere(self) -> None:
        """With the worker killed at any place the result is the same, and nothing is made twice."""
        self._crash_everywhere("protect")

    def test_restore_bears_a_crash_anywhere(self) -> None:
        """As for protect."""
        self._crash_everywhere("restore")

    def test_verify_bears_a_crash_anywhere(self) -> None:
        """As for protect."""
        self._crash_everywhere("verify")

    def test_delete_bears_a_crash_anywhere(self) -> None:
        """As for protect."""
        self._crash_everywhere("delete")

    def _crash_everywhere(self, operation: Operation) -> None:
        with _Play(self) as play:
            if operation not in play.operations:
                return
            play.prepare(operation)
            play.run(operation)
            wanted = play.outcome()
        for hook in written_hooks(play.world.plugin, operation):
            for place in range(_MAX_POINTS):
                with _Play(self) as again:
                    again.prepare(operation)
                    crashed = again.run(operation, crash=(hook, place))
                    where = f"a crash at place {place} of {operation}_{hook}"
                    _same(again.outcome(), wanted, f"{where} changed the outcome")
                if not crashed:
                    break

    def test_undo_removes_what_was_made(self) -> None:
        """Where there is an undo hook, the outside is afterwards as it was before the operation."""
        for operation in ("protect", "restore"):
            with _Play(self) as play:
                undo = hook_of(play.world.plugin, operation, "undo")
                if undo is None or operation not in play.operations:
                    continue
                play.prepare(operation)
                before = play.world.observe()
                play.run(operation)
                for crash_at in (0, None):
                    perform(undo, play.stage(operation), play.journal, crash_at=crash_at)
                _same(play.world.observe(), before, f"{operation}_undo left something")

    def test_tells_no_secrets(self) -> None:
        """Neither in what it saves nor in what it says."""
        with _Play(self) as play:
            secrets = play.world.secrets
            play.told.append(repr(list(play.world.plugin.preflight_protect(play.look("protect")))))
            play.run("protect")
            play.told.append(json.dumps(play.journal.saved))
            play.world.lose()
            try:
                play.run("restore")
            except KarborError as error:
                play.told.append(f"{error.message} {error.hint}")
            for secret in secrets:
                _expect(all(secret not in line for line in play.told), "a secret was told")


class _Play:
    """One world in use: its operations one after another, as the engine would run them."""

    def __init__(self, contract: ProtectionContract) -> None:
        self._contract = contract
        self._stack = ExitStack()
        self.told: list[str] = []
        self.journal = Journal()
        self._saved: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.world = self._contract.open_world()
        self._stack.callback(self.world.close)
        self._scratch = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.operations = operations_of(self.world.plugin)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def stage(self, operation: str) -> Stage:
        """What hooks of an operation are given."""
        world = self.world
        return Stage(
            resource=world.resource,
            operation=operation,
            vault=world.vault,
            scratch_root=self._scratch,
            options=world.options.get(operation, {}),
            children=world.children,
            parents=world.parents,
            session=getattr(world, "session", None),
        )

    def look(self, operation: str) -> Any:
        """What a pre-flight is given."""
        return FakeLook(self.stage(operation), self._saved)

    def prepare(self, operation: str) -> None:
        """Bring about what an operation needs."""
        if operation != "protect":
            self.run("protect")
        if operation == "restore":
            self.world.lose()

    def run(self, operation: Operation, crash: tuple[str, int] | None = None) -> bool:
        """Run the hooks of an operation in order; returns whether the crash that was asked for came."""
        self.journal = Journal({} if operation == "protect" else self._saved)
        stage = self.stage(operation)
        crashed = False
        for hook in self._hooks(operation):
            method = hook_of(self.world.plugin, operation, hook)
            assert method is not None
            place = crash[1] if crash is not None and crash[0] == hook else None
            crashed |= perform(method, stage, self.journal, crash_at=place)
        self.told.extend(self.journal.warnings)
        if operation == "protect":
            self._saved = self.journal.saved
        return crashed

    def outcome(self) -> Any:
        """What an operation led to."""
        kept = self.journal
        document = self.world.comparable(dict(kept.saved))
        new = msgspec.to_builtins(kept.registered) if kept.registered else None
        return [self.world.observe(), document, kept.location, kept.consistency, new, sorted(kept.warnings)]

    def _hooks(self, operation: Operation) -> Iterator[str]:
        written = written_hooks(self.world.plugin, operation)
        return (hook for hook in HOOKS if hook in written)


def _expect(condition: bool, rule: str) -> None:
    if not condition:
        raise AssertionError(rule)


def _same(found: Any, wanted: Any, rule: str) -> None:
    if found != wanted:
        raise AssertionError(f"{rule}: {found!r} in place of {wanted!r}")
