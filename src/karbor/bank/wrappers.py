"""What can be put around any bank: retries, a limit on bytes per second, no writing, a prefix."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar, cast

from karbor.errors import BankError, Damaged, InvalidInput, ObjectExists, ObjectMissing, UnsupportedOperation
from karbor.sdk.bank import FEATURE_IF_ABSENT, BankSpace, ObjectStat, check_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from karbor.sdk.bank import Bank, Buffer, SharedBank

T = TypeVar("T")


def size_of(parts: Sequence[Buffer]) -> int:
    """Bytes of an object in the making."""
    return sum(memoryview(part).nbytes for part in parts)


class Retrying:
    """A bank that tries again after an error that may pass, each time after a longer wait.

    An answer that was lost is not an error for the caller: a put that must be new succeeds where the bank already
    holds exactly these bytes from an earlier try. A listing goes on after the last object that it gave.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        attempts: int = 5,
        first_wait: float = 0.5,
        longest_wait: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Waits are in seconds, and drawn by `jitter` (0 to 1) from the upper half of what doubling gives."""
        self.kind, self.location, self.features = bank.kind, bank.location, bank.features
        self._bank = bank
        self._sleep = sleep
        self._jitter = jitter
        self._waits = [min(longest_wait, first_wait * 2**number) for number in range(attempts - 1)]

    def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """See `Bank.put`."""
        tries = 0

        def put() -> None:
            nonlocal tries
            tries += 1
            try:
                self._bank.put(key, parts, if_absent=if_absent)
            except ObjectExists:
                if tries == 1 or not self._holds(key, parts):
                    raise

        self._again(put)

    def get(self, key: str, *, limit: int) -> bytes:
        """See `Bank.get`."""
        return self._again(lambda: self._bank.get(key, limit=limit))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See `Bank.get_range`."""
        return self._again(lambda: self._bank.get_range(key, offset, length))

    def stat(self, key: str) -> ObjectStat:
        """See `Bank.stat`."""
        return self._again(lambda: self._bank.stat(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectStat]:
        """See `Bank.list`."""
        check_prefix(prefix)
        return self._list(prefix, after)

    def delete(self, key: str) -> None:
        """See `Bank.delete`."""
        self._again(lambda: self._bank.delete(key))

    def space(self) -> BankSpace:
        """See `Bank.space`."""
        return self._again(self._bank.space)

    def set_readers(self, prefix: str, project_ids: Sequence[str]) -> None:
        """See `SharedBank.set_readers`; only where the bank names the feature."""
        shared = cast("SharedBank", self._bank)
        self._again(lambda: shared.set_readers(prefix, project_ids))

    def repository_location(self, prefix: str) -> str:
        """See `SharedBank.repository_location`; only where the bank names the feature."""
        return cast("SharedBank", self._bank).repository_location(prefix)

    def _again(self, act: Callable[[], T]) -> T:
        for wait in self._waits:
            try:
                return act()
            except BankError as error:
                self._pause(error, wait)
        return act()

    def _list(self, prefix: str, after: str) -> Iterator[ObjectStat]:
        waits = iter(self._waits)
        while True:
            try:
                for found in self._bank.list(prefix, after=after):
                    yield found
                    after = found.key
                    waits = iter(self._waits)
            except BankError as error:
                wait = next(waits, None)
                if wait is None:
                    raise
                self._pause(error, wait)
            else:
                return

    def _pause(self, error: BankError, wait: float) -> None:
        if not error.retryable:
            raise error
        self._sleep(wait * (1 + self._jitter()) / 2)

    def _holds(self, key: str, parts: Sequence[Buffer]) -> bool:
        try:
            return self._bank.get(key, limit=size_of(parts)) == b"".join(parts)
        except (Damaged, ObjectMissing):
            return False


class ByteRate:
    """A limit of bytes per second that any number of threads and banks may share.

    Whoever takes bytes waits until those taken before are paid for, so that an idle hour saves nothing up.
    """

    def __init__(
        self,
        bytes_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`clock` counts seconds and never goes back."""
        if bytes_per_second <= 0:
            raise InvalidInput("a rate must be above 0 bytes per second", field="bytes_per_second")
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_at = clock()

    def take(self, count: int) -> None:
        """Return when `count` bytes may be moved."""
        with self._lock:
            now = self._clock()
            begin = max(now, self._paid_at)
            self._paid_at = begin + count / self._rate
        if begin > now:
            self._sleep(begin - now)


class Throttled:
    """A bank that moves no more bytes per second than `reading` and `writing` allow; None is no limit."""

    def __init__(self, bank: Bank, *, reading: ByteRate | None = None, writing: ByteRate | None = None) -> None:
        self.kind, self.location, self.features = bank.kind, bank.location, bank.features
        self._bank = bank
        self._reading = reading
        self._writing = writing
        self.stat = bank.stat
        self.list = bank.list
        self.delete = bank.delete
        self.space = bank.space

    def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """See `Bank.put`."""
        if self._writing:
            self._writing.take(size_of(parts))
        self._bank.put(key, parts, if_absent=if_absent)

    def get(self, key: str, *, limit: int) -> bytes:
        """See `Bank.get`; paid for afterwards, when the size is known."""
        content = self._bank.get(key, limit=limit)
        if self._reading:
            self._reading.take(len(content))
        return content

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See `Bank.get_range`."""
        if self._reading:
            self._reading.take(length)
        return self._bank.get_range(key, offset, length)


class ReadOnly:
    """A bank that refuses to be changed (`UnsupportedOperation`)."""

    def __init__(self, bank: Bank) -> None:
        self.kind, self.location = bank.kind, bank.location
        self.features = bank.features - {FEATURE_IF_ABSENT}
        self.get = bank.get
        self.get_range = bank.get_range
        self.stat = bank.stat
        self.list = bank.list
        self.space = bank.space

    def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = False) -> None:  # noqa: ARG002
        """Refused."""
        raise UnsupportedOperation(f"the bank {self.location} is open for reading only: {key} is not written")

    def delete(self, key: str) -> None:
        """Refused."""
        raise UnsupportedOperation(f"the bank {self.location} is open for reading only: {key} is not deleted")


class Prefixed:
    """The part of a bank below `prefix`: keys are without it here, and in full in errors."""

    def __init__(self, bank: Bank, prefix: str) -> None:
        """`prefix` ends with a slash."""
        if not prefix.endswith("/"):
            raise InvalidInput(f"the prefix {prefix} does not end with a slash", field="prefix")
        check_prefix(prefix)
        self.kind, self.features = bank.kind, bank.features
        self.location = f"{bank.location.rstrip('/')}/{prefix[:-1]}"
        self._bank = bank
        self._prefix = prefix
        self.space = bank.space

    def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """See `Bank.put`."""
        self._bank.put(self._prefix + key, parts, if_absent=if_absent)

    def get(self, key: str, *, limit: int) -> bytes:
        """See `Bank.get`."""
        return self._bank.get(self._prefix + key, limit=limit)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See `Bank.get_range`."""
        return self._bank.get_range(self._prefix + key, offset, length)

    def stat(self, key: str) -> ObjectStat:
        """See `Bank.stat`."""
        return self._shortened(self._bank.stat(self._prefix + key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectStat]:
        """See `Bank.list`."""
        return map(self._shortened, self._bank.list(self._prefix + prefix, after=self._prefix + after))

    def delete(self, key: str) -> None:
        """See `Bank.delete`."""
        self._bank.delete(self._prefix + key)

    def _shortened(self, found: ObjectStat) -> ObjectStat:
        return ObjectStat(key=found.key.removeprefix(self._prefix), size=found.size, modified=found.modified)
