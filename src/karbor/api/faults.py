"""Every way a request can fail, in v1's shape; never a traceback, never a 500 for what the caller did wrong."""

from __future__ import annotations

import logging
from typing import Any

import falcon
import msgspec

from karbor.errors import KarborError, NotAuthenticated
from karbor.wire.faults import Fault, fault_body

_LOG = logging.getLogger(__name__)


def install(app: falcon.App[falcon.Request, falcon.Response], challenge: str) -> None:
    """Let the application answer errors with faults. `challenge` is the `WWW-Authenticate` of a 401."""

    def explained(_req: Any, resp: falcon.Response, error: KarborError, _params: Any) -> None:
        if error.status >= 500:
            _LOG.error("%s: %s", error.code, error.message)
        if isinstance(error, NotAuthenticated):
            resp.set_header("WWW-Authenticate", challenge)
        message, field, hint = (_printable(text) for text in (error.message, error.field, error.hint))
        answer(resp, Fault(code=error.status, message=message, error=error.code, field=field, hint=hint))

    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _http)
    app.add_error_handler(KarborError, explained)


def answer(resp: falcon.Response, fault: Fault) -> None:
    """Make the fault the whole answer."""
    if fault.code == 413:
        fault = msgspec.structs.replace(fault, retry_after="0")
        resp.set_header("Retry-After", "0")
    resp.status = fault.code
    resp.stream = None
    resp.content_type = falcon.MEDIA_JSON
    resp.data = msgspec.json.encode(fault_body(fault))


def _printable(text: str) -> str:
    """Bytes that are not UTF-8 come as surrogates, which JSON cannot carry."""
    return text.encode("utf-8", "replace").decode()


def _unexpected(req: falcon.Request, resp: falcon.Response, error: Exception, _params: Any) -> None:
    _LOG.error("unexpected error in %s %s", req.method, req.path, exc_info=error)
    message = "The server has either erred or is incapable of performing the requested operation."
    answer(resp, Fault(code=500, message=message, error="error"))


def _http(_req: Any, resp: falcon.Response, error: falcon.HTTPError, _params: Any) -> None:
    resp.set_headers(error.headers or {})
    status = falcon.http_status_to_code(error.status)
    message = error.description or _SENTENCES.get(status) or error.title or ""
    answer(resp, Fault(code=status, message=message, error=_CODES.get(status, "invalid_input")))


_SENTENCES = {
    404: "The resource could not be found.",
    405: "The method is not allowed for this resource.",
}
_CODES = {404: "not_found", 405: "method_not_allowed", 416: "range_not_satisfiable"}
