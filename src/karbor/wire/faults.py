"""The shape of errors: ``{fault: {"code": 400, "message": …}}``.

`error`, `field` and `hint` are additions to v1: the stable code of `karbor.errors`, the field of the request, and what
the reader can do about it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

FAULT_NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    501: "notImplemented",
    503: "serviceUnavailable",
}
OTHER_FAULT = "computeFault"


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong. `retryAfter` stands in faults of 413 only."""

    code: int
    message: str
    error: Annotated[str, Meta(description="Stable code; compare this, not the message.")] = ""
    field: str = ""
    hint: str = ""
    retry_after: str = msgspec.field(name="retryAfter", default="")


def fault_body(fault: Fault) -> dict[str, Any]:
    """The fault in its envelope."""
    return {FAULT_NAMES.get(fault.code, OTHER_FAULT): fault}


def read_fault(status: int, body: bytes) -> Fault:
    """The fault in an answer with an error status; a body of another shape gives a fault without a code."""
    try:
        (fault,) = msgspec.json.decode(body, type=dict[str, Fault]).values()
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Fault(code=status, message=f"HTTP {status}")
    return fault
