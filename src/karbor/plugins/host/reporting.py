"""What the host's plugins say in common: saved documents, warnings about what was left out, pre-flight items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from karbor.domain.preflight import PreflightItem
from karbor.errors import KarborError
from karbor.plugins.host.inventory import application_resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from karbor.domain.checkpoint import Consistency
    from karbor.domain.preflight import Action
    from karbor.domain.resource import Resource
    from karbor.plugins.host.declaration import Application
    from karbor.sdk.op import Look, Op
    from karbor.sdk.vault import Restored, Written

_LISTED_BYTES = 1 << 19
_NAMED = 5
"""How many skipped things a warning names; the saved document lists more."""


def document(kind: str, written: Written, **more: Any) -> dict[str, Any]:
    """What a checkpoint keeps of one resource."""
    return {
        "kind": kind,
        "logical_bytes": written.logical_bytes,
        "read_bytes": written.read_bytes,
        "added_bytes": written.added_bytes,
        "files": written.files,
        "skipped_count": dict(written.skipped_count),
        "skipped": list(_listed(written)),
        **more,
    }


def _listed(written: Written) -> Iterator[list[str]]:
    """As many of the skipped things as a saved document has room for: paths may be long."""
    size = 0
    for skip in written.skipped:
        row = [skip.path, skip.reason, skip.detail]
        size += len(msgspec.json.encode(row))
        if size > _LISTED_BYTES:
            return
        yield row


SAVED_INFO: dict[str, Any] = {
    "title": "Saved Info",
    "type": "object",
    "properties": {
        "kind": {"type": "string", "title": "Kind", "description": "What was protected."},
        "logical_bytes": {"type": "integer", "title": "Logical bytes", "description": "Its size, holes included."},
        "files": {"type": "integer", "title": "Files", "description": "How many files it had."},
        "skipped_count": {"type": "object", "title": "Skipped", "description": "How much was left out, by reason."},
    },
    "required": ["kind", "logical_bytes"],
}

QUIET = frozenset({"excluded", "cache", "pseudo file system", "other file system", "never"})
"""Reasons that follow from the declaration: they are counted, nobody is warned."""


def warn_of_skipped(op: Op, result: Written | Restored, what: str) -> None:
    """Warn of what was left out for a reason that nobody declared."""
    counts = {reason: count for reason, count in sorted(result.skipped_count.items()) if reason not in QUIET}
    if not counts:
        return
    names = [skip.path for skip in result.skipped if skip.reason in counts][:_NAMED]
    figures = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    op.warn(f"{what}: {figures}: {', '.join(names)}{' …' if sum(counts.values()) > len(names) else ''}")


def consistency(op: Op, application: Application, own: Consistency) -> Consistency:
    """The consistency of a member: `application` where the application above it was quiesced by its own commands.

    A member's data is read only after they succeeded: a failure ends the operation before that.
    """
    above = application_resource(application).key in {parent.key for parent in op.parents}
    return "application" if application.before and above and own != "none" else own


def item(
    resource: Resource,
    action: Action,
    what: str,
    reason: str = "",
    size: int = 0,
) -> PreflightItem:
    """A pre-flight item."""
    return PreflightItem(resource=resource.key, action=action, what=what, reason=reason, estimated_bytes=size)


def refusal(look: Look, error: Exception) -> PreflightItem:
    """A pre-flight item that says why the operation may not begin."""
    if isinstance(error, KarborError):
        reason = f"{error.message} ({error.hint})" if error.hint else error.message
    else:
        reason = getattr(error, "strerror", None) or str(error)
    return item(look.resource, "refuse", look.resource.name or look.resource.id, reason)


def room(look: Look, path: str, size: int, free: int) -> Iterable[PreflightItem]:
    """A refusal where the file system has less room than what will be written."""
    if size > free:
        yield item(look.resource, "refuse", path, f"needs {size} bytes, {free} are free")
