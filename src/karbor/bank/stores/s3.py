"""A bank in an S3 bucket, or below a folder of one.

What the server can do is found out when the bank is made or its bucket was changed (Ceph forgets conditional puts
where it keeps versions), and recorded in ``~karbor-bank`` beside the objects (no
key of the port has such a name). In a bucket that keeps versions a delete hides an object: its bytes go when the
bucket's lifecycle rule for noncurrent versions, or the end of their lock, lets them.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

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
from karbor.bank.stores.s3probe import keeps_one_of_two
from karbor.errors import BankError, BankForeign, BankFull, Damaged, InvalidInput, ObjectExists, ObjectMissing
from karbor.sdk.bank import (
    FEATURE_IF_ABSENT,
    FEATURE_LIST_LAG,
    FEATURE_OBJECT_LOCK,
    FEATURE_VERSIONING,
    BankSpace,
    ObjectStat,
    check_key,
    check_prefix,
    is_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from karbor.sdk.bank import Buffer

MARKER = "~karbor-bank"
PROBE = "~karbor-probe-"
_MAX_MARKER = 4096
_CONFIGURED = frozenset({FEATURE_VERSIONING, FEATURE_OBJECT_LOCK})
_FULL = {"QuotaExceeded", "EntityTooLarge", "InsufficientStorage", "XMinioStorageFull", "TooManyObjects"}


class _Marker(msgspec.Struct, frozen=True):
    """What is recorded of a bank; `features` without those that every answer tells."""

    karbor_bank: int
    features: list[str]


class S3Bank:
    """`karbor.sdk.bank.Bank` on S3.

    Options: ``endpoint`` (AWS where it is missing), ``bucket`` (``karbor``, made where it is missing), ``prefix`` (a
    folder in it), ``access_key`` and ``secret_key`` (boto's own sources where they are missing), ``region``,
    ``path_style`` (true), ``timeout`` in seconds of silence (60), ``cafile``, ``insecure``. v1's names are understood
    too. Opening makes the bank where it is missing and refuses a place that holds anything else (`BankForeign`).
    """

    kind = "s3"
    sections: ClassVar = ("s3_client", "s3_bank_plugin")

    def __init__(self, options: Mapping[str, str], *, page: int = 1000) -> None:
        """`page` is how many objects one request lists at most."""
        self._bucket = option(options, "bucket", "bank_s3_object_bucket", default="karbor")
        folder = option(options, "prefix").strip("/")
        self._folder = f"{folder}/" if folder else ""
        if not is_key(self._bucket) or not is_key(f"{self._folder}x"):
            raise InvalidInput(f"{self._bucket}/{folder} is not the place of a bank", field="bucket")
        self._region = option(options, "region")
        self._page = page
        self._client = _client(options)
        endpoint = option(options, "endpoint", "s3_endpoint", default="s3.amazonaws.com").rstrip("/")
        self.location = f"s3:{endpoint}/{self._bucket}/{folder}".rstrip("/")
        self._lags = False
        try:
            self.features = self._adopt()
        except BaseException:
            self.close()
            raise

    def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """Store an object whose MD5 the server checks; where it has no safe `if_absent`, it is looked for first."""
        check_key(key)
        if if_absent and FEATURE_IF_ABSENT not in self.features:
            with contextlib.suppress(ObjectMissing):
                self.stat(key)
                raise ObjectExists(key)
        self._put(key, Payload(parts), if_absent=if_absent and FEATURE_IF_ABSENT in self.features)

    def get(self, key: str, *, limit: int) -> bytes:
        """The whole object; see `Bank.get`."""
        check_key(key)
        return self._get(key, limit)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """A part of an object; see `Bank.get_range`."""
        check_key(key)
        if length == 0:
            if (size := self.stat(key).size) < offset:
                raise Damaged(key, f"it has {size} bytes, {offset} at least are expected")
            return b""
        try:
            answer = self._call("get_object", "reading", key, Range=f"bytes={offset}-{offset + length - 1}")
        except _OutOfRange:
            raise Damaged(key, f"it ends before byte {offset}") from None
        with contextlib.closing(answer["Body"]) as body:
            check_range(key, answer.get("ContentRange", ""), offset, length)
            return self._read(body, key, length)

    def stat(self, key: str) -> ObjectStat:
        """Size and time of one object."""
        check_key(key)
        answer = self._call("head_object", "looking at", key)
        return ObjectStat(key=key, size=answer["ContentLength"], modified=answer["LastModified"].timestamp())

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectStat]:
        """Objects in order, page by page."""
        check_prefix(prefix)
        return (found for found in self._list(prefix, after) if is_key(found.key))

    def delete(self, key: str) -> None:
        """Remove one object, or hide it where the bucket keeps versions."""
        check_key(key)
        with contextlib.suppress(ObjectMissing):
            self._call("delete_object", "deleting", key)

    def space(self) -> BankSpace:
        """Nothing: S3 has no question for it."""
        return BankSpace()

    def close(self) -> None:
        """Give back the connections; the bank is unusable afterwards."""
        self._client.close()

    def _put(self, key: str, payload: Payload, *, if_absent: bool = False) -> None:
        new = {"IfNoneMatch": "*"} if if_absent else {}
        digest = base64.b64encode(payload.md5.digest()).decode()
        self._call("put_object", "writing", key, Body=b"".join(payload), ContentMD5=digest, **new)

    def _get(self, key: str, limit: int) -> bytes:
        answer = self._call("get_object", "reading", key)
        with contextlib.closing(answer["Body"]) as body:
            check_limit(key, answer["ContentLength"], limit)
            return self._read(body, key, answer["ContentLength"])

    def _read(self, body: Any, key: str, size: int) -> bytes:
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - at first use

        try:
            return whole(key, body.read(), size)
        except BotoCoreError as error:
            raise BankError(f"reading {key}: {error}") from error

    def _list(self, prefix: str, after: str) -> Iterator[ObjectStat]:
        asked = {"Bucket": self._bucket, "Prefix": self._folder + prefix, "MaxKeys": self._page}
        more = True
        while more:
            # StartAfter instead of a token: a listing that is taken up again needs nothing but the last key.
            start = {"StartAfter": self._folder + after} if after else {}
            page = self._ask("list_objects_v2", "listing", prefix or self.location, asked | start)
            for found in page.get("Contents", ()):
                after = found["Key"].removeprefix(self._folder)
                yield ObjectStat(key=after, size=found["Size"], modified=found["LastModified"].timestamp())
            more = bool(page.get("IsTruncated") and page.get("Contents"))

    def _call(self, method: str, doing: str, key: str, **more: Any) -> dict[str, Any]:
        """One request about one object."""
        return self._ask(method, doing, key, {"Bucket": self._bucket, "Key": self._folder + key} | more)

    def _ask(self, method: str, doing: str, what: str, asked: dict[str, Any]) -> dict[str, Any]:
        """One request; every error of boto becomes one of the port."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - at first use

        try:
            answer: dict[str, Any] = getattr(self._client, method)(**asked)
        except ClientError as error:
            raise _meaning(error.response, doing, what) from error
        except BotoCoreError as error:
            raise BankError(f"{doing} {what}: no answer from the bank: {error}") from error
        # Swift's s3api, which updates listings behind a put, tells that it is Swift.
        self._lags |= "x-trans-id" in answer["ResponseMetadata"]["HTTPHeaders"]
        return answer

    def _adopt(self) -> frozenset[str]:
        """What the bank can do: as was found out when it was made, or now, if it is new or its bucket was changed."""
        recorded = self._marker()
        if recorded is None:
            recorded = self._make()
        configured = self._configured()
        if recorded is None or recorded & _CONFIGURED != configured:
            recorded = configured | ({FEATURE_IF_ABSENT} if self._has_if_absent() else set())
            self._put(MARKER, Payload([msgspec.json.encode(_Marker(1, sorted(recorded)))]))
        return recorded | ({FEATURE_LIST_LAG} if self._lags else set())

    def _make(self) -> frozenset[str] | None:
        """Make sure that there is an empty place; what is recorded where another process was faster."""
        self._ensure_bucket()
        stranger = next((found for found in self._list("", "") if not found.key.startswith((MARKER, PROBE))), None)
        recorded = self._marker() if stranger else None
        if stranger and recorded is None:
            raise BankForeign(
                f"{self.location} is not a Karbor bank and not empty: it holds {stranger.key!r}",
                hint="give the bank a bucket or a `prefix` of its own",
            )
        return recorded

    def _marker(self) -> frozenset[str] | None:
        """What is recorded; None where there is no bank."""
        try:
            marker = msgspec.json.decode(self._get(MARKER, _MAX_MARKER), type=_Marker)
        except ObjectMissing:
            return None
        except (msgspec.MsgspecError, Damaged):
            raise BankForeign(f"{self.location}: {MARKER} is not ours") from None
        if marker.karbor_bank != 1:
            raise BankForeign(f"{self.location} is a bank of a kind that this version does not know")
        return frozenset(marker.features)

    def _ensure_bucket(self) -> None:
        try:
            self._ask("head_bucket", "looking at the bucket", self._bucket, {"Bucket": self._bucket})
        except ObjectMissing:
            where = {"CreateBucketConfiguration": {"LocationConstraint": self._region}} if self._region else {}
            if self._region == "us-east-1":  # the one region that S3 wants unnamed
                where = {}
            with contextlib.suppress(_BucketIsOurs):
                self._ask("create_bucket", "making the bucket", self._bucket, {"Bucket": self._bucket} | where)

    def _has_if_absent(self) -> bool:
        key = f"{PROBE}{secrets.token_hex(8)}"
        try:
            return keeps_one_of_two(self._client, self._bucket, self._folder + key)
        finally:
            with contextlib.suppress(ObjectMissing):
                self._call("delete_object", "deleting", key)

    def _configured(self) -> frozenset[str]:
        """What the bucket's owner has switched on, and may at any time."""
        found = set()
        bucket = {"Bucket": self._bucket}
        # A server that does not know the question, or does not let this user ask it, has nothing to promise.
        with contextlib.suppress(ObjectMissing, BankForeign, _NotOffered):
            if self._ask("get_bucket_versioning", "looking at", self._bucket, bucket).get("Status") == "Enabled":
                found.add(FEATURE_VERSIONING)
        with contextlib.suppress(ObjectMissing, BankForeign, _NotOffered):
            lock = self._ask("get_object_lock_configuration", "looking at", self._bucket, bucket)
            if lock.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled":
                found.add(FEATURE_OBJECT_LOCK)
        return frozenset(found)


class _OutOfRange(BankError):
    """The object ends before the range begins."""


class _BucketIsOurs(BankError):
    """Another process has made the bucket."""


class _NotOffered(BankError):
    """The server does not know the question."""


def _meaning(response: dict[str, Any], doing: str, what: str) -> BankError:
    """What an S3 error means."""
    status = int(response["ResponseMetadata"]["HTTPStatusCode"])
    code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
    reason = f"{doing} {what}: {code}: {message}"
    if code in _FULL:
        return BankFull(reason)
    if code == "NoSuchBucket" and doing == "listing":
        return BankForeign(reason)
    if code == "BucketAlreadyOwnedByYou":
        return _BucketIsOurs(reason)
    if status in (400, 405, 501) and doing == "looking at":
        return _NotOffered(reason)
    if status == 416:
        return _OutOfRange(reason)
    return refusal(status, doing, what, f"{code} {message}".strip())


def _client(options: Mapping[str, str]) -> Any:
    """Boto's client; safe for many threads."""
    import boto3  # noqa: PLC0415 - a third of a second, and only where there is S3
    from botocore.config import Config  # noqa: PLC0415

    path_style = is_true(option(options, "path_style", default="true"))
    session = boto3.session.Session(
        aws_access_key_id=option(options, "access_key", "s3_access_key") or None,
        aws_secret_access_key=option(options, "secret_key", "s3_secret_key") or None,
        region_name=option(options, "region", default="us-east-1"),
    )
    insecure = is_true(option(options, "insecure"))
    return session.client(
        "s3",
        endpoint_url=option(options, "endpoint", "s3_endpoint") or None,
        verify=False if insecure else option(options, "cafile") or None,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=float(option(options, "timeout", default="60")),
            retries={"total_max_attempts": 1},  # `Retrying` does it
            max_pool_connections=32,
            request_checksum_calculation="when_required",  # other servers than AWS do not know the newer ones
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if path_style else "auto"},
        ),
    )
