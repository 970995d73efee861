"""A repository in a scratch folder, a clock that only moves when told, and images in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.repository import Repository
from karbor.errors import BankFull, Damaged, ObjectExists, ObjectMissing
from karbor.sdk.bank import BankSpace, ObjectStat

PREFIX = "provider/project-g1/"


class SetClock:
    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return datetime(2026, 11, 22, 12, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


class MemoryImage:
    """An image source; zeros are holes, to the byte range given."""

    def __init__(self, data, extents=None):
        self.data, self.size, self.reads = bytes(data), len(data), []
        self._extents = extents

    def read_at(self, offset, length):
        assert offset + length <= self.size
        self.reads.append((offset, length))
        return self.data[offset : offset + length]

    def extents(self):
        return iter([(0, self.size)] if self._extents is None else self._extents)


class MemoryTarget:
    def __init__(self, size):
        self.data, self.zeroed = bytearray(b"?" * size), 0

    def write_at(self, offset, data):
        self.data[offset : offset + len(data)] = data

    def zero(self, offset, length):
        self.data[offset : offset + length] = bytes(length)
        self.zeroed += length


class Crash(BaseException):
    """The process dies here."""


class MemoryBank:
    """A bank that keeps its objects in memory, can be full, and kills who writes to it at a chosen moment."""

    kind, location, features = "memory", "memory:", frozenset({"if-absent"})

    def __init__(self):
        self.objects, self.room, self.writes_left = {}, None, None

    def _write(self, size):
        if self.writes_left is not None:
            if self.writes_left == 0:
                raise Crash
            self.writes_left -= 1
        if self.room is not None and sum(map(len, self.objects.values())) + size > self.room:
            raise BankFull("no room")

    def put(self, key, parts, *, if_absent=False):
        data = b"".join(parts)
        if if_absent and key in self.objects:
            raise ObjectExists(key)
        self._write(len(data) - len(self.objects.get(key, b"")))
        self.objects[key] = data

    def delete(self, key):
        self._write(float("-inf"))
        self.objects.pop(key, None)

    def get(self, key, *, limit):
        if key not in self.objects:
            raise ObjectMissing(key)
        if len(self.objects[key]) > limit:
            raise Damaged(key, "too large")
        return self.objects[key]

    def get_range(self, key, offset, length):
        data = self.get(key, limit=1 << 40)[offset : offset + length]
        if len(data) < length:
            raise Damaged(key, "too short")
        return data

    def stat(self, key):
        return ObjectStat(key, len(self.get(key, limit=1 << 40)))

    def list(self, prefix, *, after=""):
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > after and key in self.objects:
                yield ObjectStat(key, len(self.objects[key]))

    def space(self):
        return BankSpace()


@pytest.fixture
def memory_bank():
    return MemoryBank


@pytest.fixture
def crash():
    return Crash


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def bank(tmp_path):
    bank = FilesystemBank(str(tmp_path / "bank"))
    yield bank
    bank.close()


@pytest.fixture
def repository(bank, clock):
    return Repository.create(bank, PREFIX, "a secret", clock=clock)


@pytest.fixture
def reopen(bank, clock):
    return lambda: Repository.open(bank, PREFIX, "a secret", clock=clock)


@pytest.fixture
def memory_image():
    return MemoryImage


@pytest.fixture
def memory_target():
    return MemoryTarget
