"""Handlers: the service's own programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.api import times
from karbor.wire import administration as wire

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.protection.programs import Program, Programs


def list_services(programs: Programs, call: Call) -> list[wire.Service]:
    """Every program by host."""
    found = programs.all(program=call.query.get("binary", ""), host=call.query.get("host", ""))
    return [_service(each) for each in found]


def update_service(programs: Programs, call: Call) -> wire.Service:
    """Enable or disable a program; any status but ``disabled`` enables, as v1 has it."""
    body: wire.ServiceUpdate = call.body
    enabled = body.status != "disabled"
    reason = body.disabled_reason or ""
    return _service(programs.set_enabled(call.path["service"], enabled=enabled, reason=reason))


def _service(own: Program) -> wire.Service:
    return wire.Service(
        id=own.id,
        binary=own.program,
        host=own.host,
        status="enabled" if own.enabled else "disabled",
        state="up" if own.up else "down",
        updated_at=times.zoneless(own.updated_at),
        disabled_reason=own.disabled_reason or None,
    )
