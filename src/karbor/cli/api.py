"""The v1 API as the commands use it: envelopes, pages and faults, over any transport."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec

from karbor.cli.faults import error_of
from karbor.errors import KarborError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from karbor.cli.transport import Answer, Transport

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")

PAGE = 500
"""Items asked for at a time. The service caps a page at 1000."""

Item = dict[str, Any]


class Api:
    """Requests to the service; a fault is raised as the error it stands for."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, path: str, envelope: str, query: Mapping[str, Any] | None = None) -> Any:
        """What stands in `envelope` of the answer."""
        return _opened(self.send("GET", path, query=query), envelope)

    def post(self, path: str, body: Item, envelope: str, query: Mapping[str, Any] | None = None) -> Any:
        """Send `body`, give back what stands in `envelope` of the answer."""
        return _opened(self.send("POST", path, body=body, query=query), envelope)

    def put(self, path: str, body: Item, envelope: str) -> Any:
        """Send the changes in `body`, give back what stands in `envelope` of the answer."""
        return _opened(self.send("PUT", path, body=body), envelope)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Item | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One request; raises the error that a fault stands for. Values of the query that are None are left out."""
        answer = self._ask(method, path, body=body, query=query)
        if answer.status >= 300:
            raise error_of(answer)
        return answer

    def block(self, path: str, query: Mapping[str, Any], first: int, length: int) -> tuple[bytes, int]:
        """Up to `length` bytes of a file from `first`, and the size of the whole file."""
        answer = self._ask("GET", path, query=query, headers={"Range": f"bytes={first}-{first + length - 1}"})
        given = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if answer.status == 206 and given and int(given[1] or -1) == first:
            return answer.body, int(given[2])
        if answer.status == 200:  # the whole: the service may leave ranges aside
            return answer.body[first : first + length], len(answer.body)
        if answer.status == 416 and given and int(given[2]) <= first:
            return b"", int(given[2])
        raise error_of(answer)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Item | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        encoded = urlencode(given, quote_via=quote, errors="surrogateescape")  # names of files may be any bytes
        content = None if body is None else msgspec.json.encode(body)
        return self._transport.request(method, f"{path}?{encoded}" if given else path, body=content, headers=headers)

    def listing(
        self, path: str, envelope: str, query: Mapping[str, Any] | None = None, *, limit: int | None = None
    ) -> Iterator[Item]:
        """All items of a collection, page by page, at most `limit` of them."""
        marker = (query or {}).get("marker")
        while limit is None or limit > 0:
            size = PAGE if limit is None else min(PAGE, limit)
            answer = self.send("GET", path, query={**(query or {}), "limit": size, "marker": marker})
            items = _opened(answer, envelope)
            yield from items[:limit]
            if len(items) < size or items[-1]["id"] == marker:
                return
            marker = items[-1]["id"]
            limit = None if limit is None else limit - len(items)


def part(text: str) -> str:
    """A part of a path, quoted."""
    return quote(text, safe="")


def _opened(answer: Answer, envelope: str) -> Any:
    try:
        return msgspec.json.decode(answer.body)[envelope]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise KarborError(
            f"the service's answer has no {envelope!r}", hint="is this the address of a Karbor service?"
        ) from error
