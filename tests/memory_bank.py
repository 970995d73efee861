"""A bank in memory that can be full and can kill who writes to it, and a clock that only moves when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from karbor.errors import BankFull, Damaged, ObjectExists, ObjectMissing
from karbor.sdk.bank import BankSpace, ObjectStat


class SetClock:
    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return datetime(2026, 11, 22, 12, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


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
