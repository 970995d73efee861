"""The contract suite must find what is wrong with a plugin: here are plugins with one fault each."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import VOLUME, Resource
from karbor.sdk.contract.protection import ProtectionContract
from karbor.sdk.contract.vault import MemoryVault
from karbor.sdk.protection import Protection


class Good(Protection):
    """Keeps backups in a cloud: a dictionary of names by tag."""

    name = "good"
    types = (VOLUME,)

    def __init__(self, cloud: dict[str, str]) -> None:
        self.cloud = cloud

    def make(self, tag: str) -> str:
        self.cloud[tag] = f"backup {len(self.cloud)}"
        return tag

    def find(self, tag: str) -> str | None:
        return tag if tag in self.cloud else None

    def item(self, op, action) -> list[PreflightItem]:
        return [PreflightItem(resource=op.resource.key, action=action, what="disk")]

    def preflight_protect(self, op):
        return self.item(op, "read")

    def preflight_restore(self, op):
        return self.item(op, "create")

    def protect_main(self, op) -> None:
        backup = op.once("backup", self.make, self.find)
        op.poll(lambda: True if op.clock.monotonic() > 5 else None, every=10, deadline=60)
        op.save({"backup": backup}, location="cloud backup", consistency="crash")

    def protect_undo(self, op) -> None:
        self.cloud.pop(op.made("backup"), None)

    def restore_main(self, op) -> None:
        op.once("volume", self.make, self.find)

    def restore_undo(self, op) -> None:
        self.cloud.pop(op.made("volume"), None)

    def verify_main(self, op) -> None:
        assert op.saved["backup"] in self.cloud

    def delete_main(self, op) -> None:
        self.cloud.pop(op.saved["backup"], None)


class World:
    children = parents = ()
    secrets = ("hunter2",)

    def __init__(self, plugin: type[Good]) -> None:
        self.cloud: dict[str, str] = {}
        self.plugin = plugin(self.cloud)
        self.resource = Resource(type=VOLUME, id="6e1d4a0c-6c3f-4f57-8f63-3d1f2b8a9f10", name="disk")
        self.vault = MemoryVault()
        self.options: dict[str, dict[str, Any]] = {}

    def observe(self) -> Any:
        return dict(self.cloud)

    def comparable(self, document: dict[str, Any]) -> Any:
        return document

    def lose(self) -> None:
        pass

    def close(self) -> None:
        pass


class NoFind(Good):
    def find(self, tag: str) -> str | None:
        return None

    def make(self, tag: str) -> str:
        self.cloud[f"{tag} {len(self.cloud)}"] = "made"
        return tag


class WithoutOnce(Good):
    def protect_main(self, op) -> None:
        self.cloud[f"x{len(self.cloud)}"] = "made"
        op.save({}, location="cloud backup")


class BusyPreflight(Good):
    def preflight_protect(self, op):
        self.make("looked")
        return self.item(op, "read")


class SilentPreflight(Good):
    def preflight_restore(self, op):
        return []


class RefusingPreflight(Good):
    def preflight_restore(self, op):
        return self.item(op, "refuse")


class Undeclared(Good):
    operations = frozenset({"protect", "restore", "verify"})


class Hookless(Good):
    operations = frozenset({"protect", "restore", "verify", "delete", "copy"})


class Unknown(Good):
    operations = frozenset({"protect", "restore", "verify", "delete", "teleport"})


class LeavesOnUndo(Good):
    def restore_undo(self, op) -> None:
        pass


class ChangingVerify(Good):
    def verify_main(self, op) -> None:
        self.make("verified")


class Talkative(Good):
    def protect_main(self, op) -> None:
        super().protect_main(op)
        op.warn("the password is hunter2")


class Indiscreet(Good):
    def protect_main(self, op) -> None:
        super().protect_main(op)
        op.save({**op.saved, "password": "hunter2"})


class NotJson(Good):
    def protect_main(self, op) -> None:
        op.save({"when": msgspec.UNSET}, location="cloud backup")


class ChanceBranch(Good):
    """Decides by what it sees at each replay instead of by what it recorded."""

    def restore_main(self, op) -> None:
        if len(self.cloud) % 2:
            op.once("odd", self.make, self.find)
        else:
            op.once("even", self.make, self.find)


def failures(plugin: type[Good]) -> set[str]:
    class Suite(ProtectionContract):
        def open_world(self) -> World:
            return World(plugin)

    found = set()
    for name in dir(Suite):
        if name.startswith("test_"):
            try:
                getattr(Suite(), name)()
            except Exception:
                found.add(name.removeprefix("test_"))
    return found


def test_a_good_plugin_passes() -> None:
    assert failures(Good) == set()


@pytest.mark.parametrize(
    ("plugin", "found_by"),
    [
        (NoFind, "protect_bears_a_crash_anywhere"),
        (WithoutOnce, "protect_bears_a_crash_anywhere"),
        (ChanceBranch, "restore_bears_a_crash_anywhere"),
        (BusyPreflight, "preflights_change_nothing"),
        (SilentPreflight, "preflights_change_nothing"),
        (RefusingPreflight, "preflights_change_nothing"),
        (Undeclared, "operations_and_hooks_agree"),
        (Hookless, "operations_and_hooks_agree"),
        (Unknown, "declares_what_it_is"),
        (LeavesOnUndo, "undo_removes_what_was_made"),
        (ChangingVerify, "verify_changes_nothing"),
        (Talkative, "tells_no_secrets"),
        (Indiscreet, "tells_no_secrets"),
        (NotJson, "protect_bears_a_crash_anywhere"),
    ],
)
def test_a_fault_is_found(plugin, found_by) -> None:
    assert found_by in failures(plugin)
