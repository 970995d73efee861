"""What dry runs and progress look like on the wire, for every operation alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.domain.operation import Progress
    from karbor.domain.preflight import Preflight


def preflight_answer(preflight: Preflight) -> answers.Preflight:
    """The whole answer of a dry run."""
    items = [
        answers.PreflightItem(
            resource=item.resource,
            action=item.action,
            what=item.what,
            reason=item.reason,
            estimated_bytes=item.estimated_bytes,
        )
        for item in preflight.items
    ]
    return answers.Preflight(items=items, estimated_bytes=preflight.estimated_bytes, refused=bool(preflight.refusals))


def progress_answer(progress: Progress) -> answers.Progress:
    """How far a run is."""
    return answers.Progress(
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
        done_steps=progress.done_steps,
        total_steps=progress.total_steps,
        current=progress.current,
    )
