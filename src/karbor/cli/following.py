"""Waiting for an operation with `--wait`: its progress is shown until it ends, whatever happens to the service
meanwhile; its end decides the exit code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from karbor.cli.display import display
from karbor.cli.progress import Rate
from karbor.errors import Cancelled, KarborError, NotFound, ResourceFailed, Unavailable
from karbor.wire.answers import Progress

if TYPE_CHECKING:
    from karbor.cli.api import Item
    from karbor.cli.session import Session

UNFINISHED = frozenset({"protecting", "wait_copying", "copying", "deleting", "in_progress"})
GOOD = frozenset({"available", "success", "deleted"})

EVERY = 0.5
"""Seconds between two looks."""
PATIENCE = 300.0
"""Seconds for which a service that does not answer is waited for: its work goes on when it is started again."""


def follow(session: Session, path: str, envelope: str, title: str) -> Item:
    """Wait until what lies at `path` is finished, showing its progress; gives back its last state.

    Raises `Unavailable` where the service was silent for longer than `PATIENCE`; the operation itself goes on.
    """
    show = display(session.terminal, title)
    rate = Rate()
    heard = session.monotonic()
    try:
        while True:
            now = session.monotonic()
            try:
                record: Item = session.api.get(path, envelope)
                if record["status"] not in UNFINISHED:
                    return record
                progress = _progress(session, path)
                heard = now
            except Unavailable as error:
                if now - heard > PATIENCE:
                    raise Unavailable(
                        f"{error.message} (for {PATIENCE:.0f} s)", hint="the operation goes on when the service does"
                    ) from error
            else:
                rate.add(now, progress.done_bytes)
                show.update(now, progress, rate.per_second)
            session.sleep(EVERY)
    except KeyboardInterrupt:
        show.close()
        session.terminal.say(f"{title}: nobody waits any longer, the operation goes on")
        raise
    finally:
        show.close()


def _progress(session: Session, path: str) -> Progress:
    try:
        return msgspec.convert(session.api.get(f"{path}/progress", "progress"), Progress)
    except NotFound:  # it ended between the two looks
        return Progress()


def failure(record: Item, noun: str) -> KarborError | None:
    """The error that the end of an operation stands for; None where it ended well or has not ended."""
    status = record["status"]
    if status in GOOD or status in UNFINISHED:
        return None
    message = f"{noun} {record['id']} is {status}"
    if record.get("reason"):
        message += f": {record['reason']}"
    if status == "cancelled":
        return Cancelled(message)
    return ResourceFailed(message, hint="the reasons by resource stand above" if reasons(record) else "")


def reasons(record: Item) -> dict[str, str]:
    """Why, by the key of the resource; those that have something to say."""
    given: dict[str, Any] = record.get("resources_reason") or {}
    return {key: reason for key, reason in given.items() if reason}


def report(session: Session, record: Item, noun: str) -> KarborError | None:
    """Say to people what they should know of the end: warnings, reasons by resource. Gives back the `failure`."""
    for warning in record.get("warnings") or ():
        session.terminal.say(f"warning: {warning}")
    for key, reason in reasons(record).items():
        session.terminal.say(f"{key}: {reason}")
    return failure(record, noun)
