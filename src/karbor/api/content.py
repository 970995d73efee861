"""Handlers: what lies in a checkpoint, listed and read without restoring it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from karbor.api.route import Content
from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.protection.service import ProtectionService
    from karbor.sdk.vault import Entry


def list_entries(service: ProtectionService, call: Call) -> list[answers.Entry]:
    """The entries of a directory of a resource; the resource's own where no path is given."""
    provider_id, checkpoint_id, resource, path = _place(call)
    return [_entry(entry) for entry in service.entries(call.caller, provider_id, checkpoint_id, resource, path)]


def read_content(service: ProtectionService, call: Call) -> Content:
    """The bytes of a file, a disk image or a stream, or a range of them."""
    provider_id, checkpoint_id, resource, path = _place(call)
    reader = service.open(call.caller, provider_id, checkpoint_id, resource, path)
    return Content(read=reader.read, size=reader.size)


def _place(call: Call) -> tuple[str, str, str, str]:
    return call.path["provider_id"], call.path["checkpoint_id"], call.query["resource"], call.query.get("path", "")


def _entry(own: Entry) -> answers.Entry:
    raw = own.name.encode("utf-8", "surrogateescape")
    shown = raw.decode("utf-8", "replace")
    return answers.Entry(
        name=shown,
        type=own.type,
        size=own.size,
        mode=own.mode,
        modified=own.modified,
        target=own.target.encode("utf-8", "replace").decode(),
        quoted="" if shown == own.name else quote_from_bytes(raw, safe=""),
    )
