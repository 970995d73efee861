"""The border to openstacksdk: whatever it raises becomes a `KarborError` that names service, status and request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from karbor.errors import (
    Conflict,
    Forbidden,
    KarborError,
    NotFound,
    OverLimit,
    ResourceFailed,
    Timeout,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_BY_STATUS: dict[int, type[KarborError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: OverLimit,
    408: Timeout,
    429: Unavailable,
}


class Guarded:
    """A connection, or one service of it. `check` runs before every call and may refuse it."""

    def __init__(self, target: Any, service: str, check: Callable[[], None]) -> None:
        self._target, self._service, self._check = target, service, check

    def __getattr__(self, name: str) -> Any:
        from openstack.proxy import Proxy  # noqa: PLC0415 - at first use

        with translated(self._service or name):
            value = getattr(self._target, name)
        if isinstance(value, Proxy):
            return Guarded(value, name, self._check)
        return self._call(value) if callable(value) else value

    def _call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self._check()
            with translated(self._service):
                result = method(*args, **options)
            return self._items(result) if isinstance(result, Iterator) else result

        return call

    def _items(self, pages: Iterator[Any]) -> Iterator[Any]:
        while True:
            self._check()
            with translated(self._service):
                try:
                    item = next(pages)
                except StopIteration:
                    return
            yield item


@contextmanager
def translated(service: str) -> Iterator[None]:
    """Raise what the cloud's libraries raise as a `KarborError`."""
    try:
        yield
    except (KarborError, StopIteration):
        raise
    except Exception as error:  # the border to foreign libraries, whose errors have no common root
        known = _translation(service, error)
        if known is None:
            raise
        raise known from error


def _translation(service: str, error: Exception) -> KarborError | None:
    from keystoneauth1 import exceptions as auth  # noqa: PLC0415 - at first use
    from openstack import exceptions as sdk  # noqa: PLC0415
    from requests import exceptions as http  # noqa: PLC0415

    if isinstance(error, sdk.HttpException | auth.HttpError):
        return _of_status(service, error)
    if isinstance(error, auth.ConnectTimeout | http.Timeout):
        return Timeout(f"{service}: no answer in time")
    if isinstance(error, auth.ConnectionError | http.RequestException):
        return Unavailable(f"{service}: no connection: {_short(error)}")
    if isinstance(error, auth.EndpointNotFound | auth.EmptyCatalog):
        return ResourceFailed(f"the cloud has no service {service} here")
    if isinstance(error, auth.ClientException | sdk.SDKException):
        return ResourceFailed(f"{service}: {_short(error)}")
    return None


def _of_status(service: str, error: Any) -> KarborError:
    status = int(getattr(error, "http_status", None) or getattr(error, "status_code", None) or 0)
    request = getattr(error, "request_id", None)
    detail = _short(_said(error) or getattr(error, "details", None) or error)
    where = f" (request {request})" if request else ""
    message = f"{service}: {status or 'no status'}: {detail}{where}"
    if status in {403, 409, 413} and "quota" in detail.lower():
        return OverLimit(message)
    if status >= 500 or not status:
        return Unavailable(message)
    hint = "the user's right may have been taken back: ask again as the user" if status == 401 else ""
    return _BY_STATUS.get(status, ResourceFailed)(message, hint=hint)


def _said(error: Any) -> str:
    """The service's own words: each has a shape of its own around its ``message``."""
    try:
        body = error.response.json()
    except (AttributeError, ValueError):
        return ""
    parts = list(body.values()) if isinstance(body, dict) else []
    return next((str(part["message"]) for part in parts if isinstance(part, dict) and part.get("message")), "")


def _short(what: object) -> str:
    return " ".join(str(what).split())[:500]
