"""A bank in Swift, through Keystone: plain objects only, one container for each repository (see `containers`).

Swift answers a put when most of its copies are made, and updates listings behind it: the bank names `list-lag`. It
looks for an existing object when a conditional put begins, not when it ends, so that of two that overlap both come
through: `if_absent` is asked of it all the same, and the feature `if-absent` is not named.
"""

from __future__ import annotations

import heapq
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from karbor.bank.stores.containers import Containers, Place, readers
from karbor.bank.stores.payload import (
    CONNECT_SECONDS,
    Payload,
    check_limit,
    check_range,
    is_true,
    option,
    refusal,
    whole,
)
from karbor.errors import BankError, BankForeign, Damaged, InvalidInput
from karbor.sdk.bank import (
    FEATURE_LIST_LAG,
    FEATURE_READERS,
    BankSpace,
    ObjectStat,
    check_key,
    check_prefix,
    is_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from keystoneauth1.adapter import Adapter
    from requests import Response

    from karbor.sdk.bank import Buffer

_BLOCK = 1 << 20
_V1_LOGIN = {
    "swift_auth_url": "auth_url",
    "swift_user": "username",
    "swift_key": "password",
    "swift_tenant_name": "project_name",
    "swift_user_domain_name": "user_domain_name",
    "swift_project_domain_name": "project_domain_name",
}


class SwiftBank:
    """`karbor.sdk.bank.SharedBank` on Swift.

    Options: ``container`` (``karbor``), ``region``, ``interface`` (``public``), ``timeout`` in seconds of silence
    (60), ``cafile``, ``insecure``, ``tenant_read`` (true), and the login as Keystone's plugin ``auth_type``
    (``password``) names its own: ``auth_url``, ``username``, ``password``, ``project_name``, ``user_domain_name``,
    ``project_domain_name``, … . v1's names are understood too. Nothing is contacted before the first call.
    """

    kind = "swift"
    features = frozenset({FEATURE_LIST_LAG, FEATURE_READERS})
    sections: ClassVar = ("swift_client", "swift_bank_plugin")

    def __init__(self, options: Mapping[str, str], *, page: int = 10_000) -> None:
        """`page` is how many objects one request lists at most."""
        self._containers = Containers(option(options, "container", "bank_swift_object_container", default="karbor"))
        self._tenant_read = is_true(option(options, "tenant_read", default="true"))
        self._timeout = (CONNECT_SECONDS, float(option(options, "timeout", default="60")))
        self._page = page
        self._http = _adapter(options)
        self.location = f"swift:{self._containers.bank}:/"

    def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """Store an object whose MD5 Swift checks before it names it; its container is made when it is missing."""
        check_key(key)
        payload, place = Payload(parts), self._containers.of_key(key)
        headers = {"ETag": payload.md5.hexdigest(), "Content-Type": "application/octet-stream"}
        if if_absent:
            headers["If-None-Match"] = "*"
        answer = self._send("PUT", place, key, headers=headers, data=payload if len(payload) else b"")
        if answer.status_code == 404:
            self._make(place)
            answer = self._send("PUT", place, key, headers=headers, data=payload if len(payload) else b"")
            if answer.status_code == 404:
                raise BankError(f"writing {key}: the container {place.container} is not there yet")
        _accept(answer, "writing", key)
        if answer.headers.get("ETag", "").strip('"') != headers["ETag"]:
            raise BankError(f"writing {key}: the bank has received other bytes")

    def get(self, key: str, *, limit: int) -> bytes:
        """The newest copy of an object: what `config` or a lock holds now, also while a server that missed it is back."""
        check_key(key)
        with self._send("GET", self._containers.of_key(key), key, headers={"X-Newest": "true"}, stream=True) as answer:
            _accept(answer, "reading", key)
            size = _length(answer, key)
            check_limit(key, size, limit)
            return whole(key, self._body(answer, key), size)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """A part of an object, of any copy: what is read in ranges never changes."""
        check_key(key)
        if length == 0:
            if (size := self.stat(key).size) < offset:
                raise Damaged(key, f"it has {size} bytes, {offset} at least are expected")
            return b""
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        with self._send("GET", self._containers.of_key(key), key, headers=headers, stream=True) as answer:
            if answer.status_code == 416:
                raise Damaged(key, f"it ends before byte {offset}")
            _accept(answer, "reading", key)
            check_range(key, answer.headers.get("Content-Range", ""), offset, length)
            return whole(key, self._body(answer, key), length)

    def stat(self, key: str) -> ObjectStat:
        """Size and time of the newest copy of an object."""
        check_key(key)
        answer = self._send("HEAD", self._containers.of_key(key), key, headers={"X-Newest": "true"})
        _accept(answer, "looking at", key)
        modified = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
        return ObjectStat(key=key, size=_length(answer, key), modified=modified)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectStat]:
        """Objects in order; a prefix that ends before a repository's does joins the listings of all below it."""
        check_prefix(prefix)
        return self._list(prefix, after)

    def delete(self, key: str) -> None:
        """Remove one object."""
        check_key(key)
        answer = self._send("DELETE", self._containers.of_key(key), key)
        if answer.status_code != 404:
            _accept(answer, "deleting", key)

    def space(self) -> BankSpace:
        """The account's quota, where an operator has set one."""
        answer = self._send("HEAD", None, "")
        _accept(answer, "looking at", self.location)
        quota = answer.headers.get("X-Account-Meta-Quota-Bytes", "")
        if not quota.isdigit():
            return BankSpace()
        used = int(answer.headers.get("X-Account-Bytes-Used", "0"))
        return BankSpace(total=int(quota), free=max(0, int(quota) - used))

    def set_readers(self, prefix: str, project_ids: Sequence[str]) -> None:
        """Let the users of these projects, and of no other, read the repository; see `SharedBank.set_readers`."""
        place = self._containers.of_repository(prefix)
        allowed = {"X-Container-Read": readers(project_ids)}
        answer = self._send("POST", place, "", headers=allowed)
        if answer.status_code == 404:
            answer = self._send("PUT", place, "", headers=allowed)
        _accept(answer, "sharing", place.container)

    def repository_location(self, prefix: str) -> str:
        """What plain restic calls the repository."""
        return f"swift:{self._containers.of_repository(prefix).container}:/"

    def close(self) -> None:
        """End idle connections; the next call opens new ones."""
        self._http.session.session.close()

    def _list(self, prefix: str, after: str) -> Iterator[ObjectStat]:
        within = self._containers.of_key(prefix)
        if within.start:
            yield from self._objects(within, prefix, after)
            return
        places = self._containers.below(prefix, self._names(None, self._containers.first, ""))
        repositories = (found for place in places for found in self._objects(place, prefix, after))
        yield from heapq.merge(self._objects(within, prefix, after), repositories, key=lambda found: found.key)

    def _objects(self, place: Place, prefix: str, after: str) -> Iterator[ObjectStat]:
        """The objects of one container whose keys begin with `prefix` and come after `after`."""
        if after.startswith(place.start):
            marker = after[len(place.start) :]
        elif after > place.start:
            return
        else:
            marker = ""
        for found in self._entries(place, prefix[len(place.start) :], marker):
            key = place.start + found.name
            if is_key(key):
                yield ObjectStat(key=key, size=found.bytes, modified=_seconds(found.last_modified))

    def _names(self, place: Place | None, prefix: str, marker: str) -> Iterator[str]:
        return (found.name for found in self._entries(place, prefix, marker))

    def _entries(self, place: Place | None, prefix: str, marker: str) -> Iterator[_Entry]:
        """What a container, or without one the account, lists; a page may be short, only an empty one is the last."""
        where = place.container if place else "containers"
        while True:
            asked = {"format": "json", "prefix": prefix, "marker": marker, "limit": str(self._page)}
            answer = self._send("GET", place, "", params=asked)
            if answer.status_code in (204, 404):
                return
            _accept(answer, "listing", where)
            try:
                page = msgspec.json.decode(answer.content, type=list[_Entry])
            except msgspec.MsgspecError as error:
                raise BankError(f"listing {where}: the answer is no listing") from error
            yield from page
            if not page:
                return
            marker = page[-1].name

    def _make(self, place: Place) -> None:
        shared = place.project_id and self._tenant_read
        headers = {"X-Container-Read": readers([place.project_id])} if shared else {}
        _accept(self._send("PUT", place, "", headers=headers), "making the container", place.container)

    def _send(self, method: str, place: Place | None, key: str, **options: Any) -> Response:
        """One request about the account, a container or an object; keystoneauth renews a token that is refused, once."""
        from keystoneauth1.exceptions import ClientException  # noqa: PLC0415 - at first use
        from requests import RequestException  # noqa: PLC0415

        path = "/".join(["", place.container, key[len(place.start) :]] if place else []).rstrip("/")
        options["headers"] = {"Accept-Encoding": "identity", **options.get("headers", {})}
        try:
            answer: Response = self._http.request(
                path, method, timeout=self._timeout, raise_exc=False, redirect=False, log=False, **options
            )
        except (ClientException, RequestException) as error:
            raise self._failure(error, method, key or path) from error
        return answer

    def _body(self, answer: Response, key: str) -> bytes:
        from requests import RequestException  # noqa: PLC0415 - at first use

        try:
            return b"".join(answer.iter_content(_BLOCK))
        except RequestException as error:
            raise self._failure(error, "GET", key) from error

    def _failure(self, error: Exception, method: str, key: str) -> BankError:
        """A request that got no answer, or none from Keystone."""
        from keystoneauth1.exceptions import CatalogException, HttpError  # noqa: PLC0415 - at first use

        reason = " ".join(str(error).split())[:300]
        if isinstance(error, HttpError) and 400 <= error.http_status < 500:
            return BankForeign(f"{method} {key}: Keystone refuses the bank's user: {reason}")
        if isinstance(error, CatalogException):
            return BankForeign(f"{method} {key}: the catalogue names no Swift for the bank's user: {reason}")
        # A large body that is refused at its headers shows as a connection that was cut: the token may be why.
        self._http.session.invalidate()
        return BankError(f"{method} {key}: no answer from the bank: {reason}")


class _Entry(msgspec.Struct):
    """A line of a listing: an object or a container."""

    name: str
    bytes: int = 0
    last_modified: str = ""


def _adapter(options: Mapping[str, str]) -> Adapter:
    """Swift as the catalogue of the bank's user names it."""
    from keystoneauth1 import exceptions, loading  # noqa: PLC0415 - at first use
    from keystoneauth1.adapter import Adapter  # noqa: PLC0415
    from keystoneauth1.session import Session  # noqa: PLC0415

    given = {"user_domain_name": "Default", "project_domain_name": "Default"}
    given |= {ours: options[v1] for v1, ours in _V1_LOGIN.items() if options.get(v1)} | dict(options)
    try:
        loader: Any = loading.get_plugin_loader(option(options, "auth_type", default="password"))
        known = {one.dest: given[one.dest] for one in loader.get_options() if one.dest in given}
        auth = loader.load_from_options(**known)
    except exceptions.ClientException as error:
        raise InvalidInput(f"the login of a Swift bank: {error}", field="auth_type") from error
    insecure = is_true(option(options, "insecure", "swift_auth_insecure"))
    verify = option(options, "cafile", "swift_ca_cert_file") or True
    return Adapter(
        Session(auth, verify=False if insecure else verify, timeout=CONNECT_SECONDS),
        service_type="object-store",
        interface=option(options, "interface", default="public"),
        region_name=option(options, "region") or None,
    )


def _accept(answer: Response, doing: str, key: str) -> None:
    if not 200 <= answer.status_code < 300:
        raise refusal(answer.status_code, doing, key, answer.headers.get("X-Trans-Id", "") or answer.reason)


def _length(answer: Response, key: str) -> int:
    size = answer.headers.get("Content-Length", "")
    if not size.isdigit():
        raise BankError(f"reading {key}: the bank does not say how long it is")
    return int(size)


def _seconds(text: str) -> float:
    """Swift's time, which is UTC and does not say so."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() if text else 0.0
