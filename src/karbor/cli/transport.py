"""How requests reach the service: one small port, and its plain form over HTTP with a token.

Keystone's form is `karbor.cli.keystone`, imported only when it is used: it costs more than everything else here.
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import msgspec

from karbor.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

_REPEATABLE = ("GET", "HEAD")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the service answered, whatever the status. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Transport(Protocol):
    """Requests to one project of one service."""

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and read its whole answer. `path` begins with a slash and stands below the project's
        address; it is quoted already and may carry a query. Raises `Unavailable` where no answer came,
        `NotAuthenticated` where no token could be got.
        """
        ...


class Address(msgspec.Struct, frozen=True):
    """Where the project's API is, version and project included, and the token to show there."""

    endpoint: str
    token: str = ""

    def __repr__(self) -> str:
        """Without the token: this ends in messages."""
        return f"Address({self.endpoint!r})"


class TokenTransport:
    """HTTP with a fixed token.

    `locate` is asked again for every new connection, so that a service that was started anew at another port
    is found. Reading is repeated once on a new connection; what may change something is sent once, on a new one:
    after a cut nobody could tell whether it was done.
    """

    def __init__(self, locate: Callable[[], Address], *, timeout: float, tls: Callable[[], ssl.SSLContext]) -> None:
        self._locate = locate
        self._timeout = timeout
        self._tls = tls
        self._connection: http.client.HTTPConnection | None = None
        self._prefix = ""
        self._address = Address("")

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """See `Transport`."""
        if method not in _REPEATABLE:
            self.close()
        reused = self._connection is not None
        try:
            return self._exchange(method, path, body, headers or {})
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if reused and not isinstance(error, TimeoutError):
                return self.request(method, path, body=body, headers=headers)
            raise Unavailable(
                f"no answer from {self._address.endpoint}: {_cause(error)}", hint="is the service running there?"
            ) from error

    def close(self) -> None:
        """Give up the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        connection = self._connection or self._connect()
        sent = {"X-Auth-Token": self._address.token, "Accept": "application/json", **headers}
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection.request(method, self._prefix + path, body=body, headers=sent)
        answer = connection.getresponse()
        received = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(status=answer.status, headers=received, body=answer.read())

    def _connect(self) -> http.client.HTTPConnection:
        self._address = self._locate()
        parts = urlsplit(self._address.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(
                f"{self._address.endpoint!r} is not the address of a service",
                hint="it looks like http://127.0.0.1:8799/v1/PROJECT",
            )
        self._prefix = parts.path.rstrip("/")
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self._timeout, context=self._tls()
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._timeout)
        return self._connection


def _cause(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
