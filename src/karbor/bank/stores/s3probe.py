"""Finds out whether an S3 server keeps only one of two conditional puts that overlap."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_HALF = 64 << 10


def keeps_one_of_two(client: Any, bucket: str, key: str) -> bool:
    """Whether, of two puts of `key` with ``If-None-Match: *`` one of which begins and ends while the other is under
    way, exactly one succeeds. A server that ignores the condition, refuses it, or looks only when a put begins, does not.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415 - at first use

    def put(body: Any) -> bool:
        try:
            client.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412, 501):
                return False
            raise
        return True

    quick: list[bool] = []

    def hold(request: Any, **_: Any) -> None:
        """Exchange the body after it was signed: what is signed is read to its end before anything is sent."""
        if not quick:
            client.meta.events.unregister("before-send.s3.PutObject", hold)
            request.body = _Held(request.body, lambda: quick.append(put(b"quick")))

    client.meta.events.register("before-send.s3.PutObject", hold)
    try:
        # A body that can be read makes the client wait for the server's word before it sends it.
        slow = put(io.BytesIO(bytes(2 * _HALF)))
    finally:
        client.meta.events.unregister("before-send.s3.PutObject", hold)
    return [slow, *quick].count(True) == 1 and bool(quick)


class _Held:
    """A body between whose halves something else happens."""

    def __init__(self, body: Any, meanwhile: Callable[[], None]) -> None:
        self._body, self._meanwhile = body, meanwhile
        self._reads = 0

    def read(self, _size: int = -1) -> bytes:
        """Half of the body, however much is asked for."""
        self._reads += 1
        if self._reads == 2:
            self._meanwhile()
        content: bytes = self._body.read(_HALF)
        return content
