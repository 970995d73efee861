"""The pre-flight of an operation: shown as a table, and asked about before anything is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from karbor.cli.progress import size
from karbor.cli.verbs import Table
from karbor.errors import Cancelled, Refused
from karbor.wire.answers import Preflight

if TYPE_CHECKING:
    from karbor.cli.api import Item
    from karbor.cli.session import Session
    from karbor.cli.terminal import Terminal

COLUMNS = ("action", "resource", "what", "estimated_bytes", "reason")


def read(session: Session, path: str, body: Item) -> Preflight:
    """What posting `body` to `path` would do; nothing is changed."""
    answer = session.api.post(path, body, "preflight", query={"dry_run": "true"})
    return msgspec.convert(answer, Preflight)


def table(preflight: Preflight) -> Table:
    """What is shown of it; where it refuses, the command ends with that."""
    return Table(COLUMNS, tuple(msgspec.to_builtins(item) for item in preflight.items), refusal(preflight))


def refusal(preflight: Preflight) -> Refused | None:
    """Why the operation could not begin, if it could not."""
    refusals = [f"{item.what or item.resource}: {item.reason}" for item in preflight.items if item.action == "refuse"]
    if preflight.refused or refusals:
        return Refused("; ".join(refusals) or "the pre-flight refuses it")
    return None


def confirm(terminal: Terminal, preflight: Preflight, *, yes: bool) -> None:
    """Go on or raise: `Refused` where the pre-flight refuses or nobody can be asked about what would be overwritten,
    `Cancelled` where the answer was no.
    """
    if not yes and terminal.can_ask:
        for item in preflight.items:
            reason = f" ({item.reason})" if item.reason else ""
            terminal.say(f"{item.action:9} {item.what or item.resource}, {size(item.estimated_bytes)}{reason}")
    refused = refusal(preflight)
    if refused:
        raise refused
    if yes:
        return
    if terminal.can_ask:
        if not terminal.ask(f"Restore {size(preflight.estimated_bytes)}?"):
            raise Cancelled("nothing was restored")
        return
    overwritten = [item.what or item.resource for item in preflight.items if item.action == "overwrite"]
    if overwritten:
        raise Refused(f"this would overwrite {', '.join(overwritten)}", hint="--yes says that this is wanted")
