"""From an answer that is a fault to the error it stands for, and its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    KarborError,
    NotAuthenticated,
    NotFound,
    OverLimit,
    Timeout,
    Unavailable,
)
from karbor.wire.faults import read_fault

if TYPE_CHECKING:
    from karbor.cli.transport import Answer

_BY_STATUS: dict[int, type[KarborError]] = {
    400: InvalidInput,
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    405: InvalidInput,
    409: Conflict,
    413: OverLimit,
    415: InvalidInput,
    416: InvalidInput,
    422: InvalidInput,
    424: Conflict,
    429: OverLimit,
    501: InvalidInput,
    502: Unavailable,
    503: Unavailable,
    504: Timeout,
}


def error_of(answer: Answer) -> KarborError:
    """The error that a fault describes: its class by the stable code where the service gave one, by the HTTP status
    otherwise; its message and hint as the service wrote them.
    """
    fault = read_fault(answer.status, answer.body)
    kind = _by_code(fault.error, KarborError) or _BY_STATUS.get(answer.status, KarborError)
    hint = fault.hint
    request = answer.headers.get("x-openstack-request-id", "")
    if not hint and answer.status >= 500 and request:
        hint = f"the service's log knows more under {request}"
    return raised_as(kind, fault.message, hint=hint)


def raised_as(kind: type[KarborError], message: str, *, hint: str = "") -> KarborError:
    """An error of the class `kind` with a message that is complete already."""
    error = kind.__new__(kind)
    KarborError.__init__(error, message, hint=hint)  # some classes make their message from parts that we do not have
    return error


def _by_code(code: str, root: type[KarborError]) -> type[KarborError] | None:
    if code and root.code == code:
        return root
    return next((found for child in root.__subclasses__() if (found := _by_code(code, child))), None)
