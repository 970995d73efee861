"""Protects declared applications: their commands bring them to rest before their members are read, and back after.

`before` runs in the order web, application, database, `after` in the reverse. `after` runs whatever happened in
between: at the end of a success, in the undo of a failure.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from karbor.domain.resource import HOST_APPLICATION, LAYERS
from karbor.errors import KarborError, ResourceFailed
from karbor.plugins.host import reporting
from karbor.plugins.host.command import Program, run
from karbor.plugins.host.inventory import Inventory
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.domain.preflight import PreflightItem
    from karbor.domain.resource import Resource
    from karbor.plugins.host.declaration import Application, Command
    from karbor.sdk.op import Look, Op


class ApplicationProtection(Protection):
    """Applications hold no data of their own: their members do."""

    name = "karbor-host-application-plugin"
    types = (HOST_APPLICATION,)
    saved_info = reporting.SAVED_INFO

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._inventory = Inventory(options)

    def device_of(self, resource: Resource) -> int | None:  # noqa: ARG002 - of each host plugin the same question
        """None: it holds no data."""
        return None

    def runs_commands(self, resource: Resource) -> bool:
        """Whether its declaration has any; one that is not declared any more runs none."""
        try:
            application = self._inventory.find(resource).application
        except KarborError:
            return False
        return bool(application.before or application.after)

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """The commands that would run."""
        try:
            application = self._inventory.find(op.resource).application
        except KarborError as error:
            return [reporting.refusal(op, error)]
        commands = [*_before(application), *_after(application)]
        what = [(command.command[0], f"command, at most {command.deadline:g} s") for command in commands]
        return [reporting.item(op.resource, "reuse", *said) for said in what or [(application.name, "no commands")]]

    def protect_prepare_begin(self, op: Op) -> None:
        """Bring it to rest; a failure lets it go on at once."""
        application = self._inventory.find(op.resource).application
        op.once("quiesce", lambda _tag: True, lambda _tag: None)
        try:
            for i, command in enumerate(_before(application)):
                op.once(f"before {i}", partial(_run, command, op), lambda _tag: None)
        except ResourceFailed:
            self._thaw(op)
            raise

    def protect_complete(self, op: Op) -> None:
        """Let it go on, and keep whether it was at rest."""
        rested = bool(self._inventory.find(op.resource).application.before)
        self._thaw(op)
        op.save(
            {"kind": "application", "logical_bytes": 0, "quiesced": rested},
            location="none",
            consistency="application" if rested else "crash",
        )

    def protect_undo(self, op: Op) -> None:
        """Let it go on."""
        self._thaw(op)

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """Nothing is made: its members are."""
        try:
            application = self._inventory.find(op.resource).application
        except KarborError as error:
            return [reporting.refusal(op, error)]
        return [reporting.item(op.resource, "reuse", application.name, "its members are restored")]

    def restore_main(self, op: Op) -> None:
        """Its members are restored on their own; it must still be declared."""
        self._inventory.find(op.resource)
        op.register(op.resource)

    def verify_main(self, op: Op) -> None:
        """Its members are verified on their own; it must still be declared."""
        self._inventory.find(op.resource)

    def _thaw(self, op: Op) -> None:
        """Run every `after` command once, also when one of them fails; then raise the first failure."""
        if not op.made("quiesce"):
            return
        failures: list[ResourceFailed] = []
        for i, command in enumerate(_after(self._inventory.find(op.resource).application)):
            try:
                if op.made(f"after {i}") is None:
                    op.once(f"after {i}", partial(_run, command, op), lambda _tag: None)
            except ResourceFailed as error:
                failures.append(error)
        if failures:
            raise failures[0]


_RANK = {layer: rank for rank, layer in enumerate(("", *LAYERS))}


def _before(application: Application) -> list[Command]:
    """Those without a layer, then web, application, database."""
    return sorted(application.before, key=lambda command: _RANK[command.layer])


def _after(application: Application) -> list[Command]:
    """Database, application, web, then those without a layer."""
    return sorted(application.after, key=lambda command: -_RANK[command.layer])


def _run(command: Command, op: Op, tag: str) -> bool:
    environment = {
        "KARBOR_OPERATION": op.operation,
        "KARBOR_APPLICATION": op.resource.name,
        "KARBOR_CHECKPOINT": op.checkpoint_id,
        "KARBOR_TAG": tag,
    }
    run(Program(arguments=command.command, environment=environment), deadline=command.deadline)
    return True
