"""A bank that misbehaves on purpose: by script, or at random from a seed.

It stands in front of a real bank and does to its calls what networks, disks and busy services do. Tests of everything
that writes to a bank run over it; vendors use it to prove that their own retries work.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from functools import partial
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from karbor.errors import BankError, BankFull, KarborError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from karbor.sdk.bank import Bank, BankSpace, Buffer, ObjectStat

T = TypeVar("T")
Call = Literal["put", "get", "get_range", "stat", "list", "delete", "space", "any"]
Kind = Literal["fail", "lost answer", "delay", "cut", "twice", "late repeat", "throttle", "full"]
"""What can go wrong with one call:

`fail` nothing happens, an error is raised · `lost answer` it happens, an error is raised all the same ·
`delay` it happens after `seconds` · `cut` a put stores only its first half and raises, a listing breaks off in the
middle, another call fails · `twice` a put or delete is carried out twice at once · `late repeat` a put or delete is
carried out again after the next `turns` calls: the network delivers requests out of order ·
`throttle` as `fail`, after `seconds` · `full` there is no room for a put.
"""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that goes wrong with the next `times` calls that match."""

    kind: Kind
    call: Call = "any"
    key: str = ""
    """What the key or prefix of the call begins with."""
    after: int = 0
    """How many calls that match go well before."""
    times: int = 1
    seconds: float = 0.0
    turns: int = 1


class Chances(msgspec.Struct, frozen=True, kw_only=True):
    """How often a call meets each kind of fault, from 0 to 1, where nothing is scripted."""

    of: dict[Kind, float]
    seconds: float = 0.001
    turns: int = 2


class _Rule:
    """A scripted fault and how often it may still happen."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.wait = fault.after
        self.left = fault.times

    def hits(self, call: Call, key: str) -> bool:
        """Count a call; whether the fault happens to it."""
        if not self.left or self.fault.call not in (call, "any") or not key.startswith(self.fault.key):
            return False
        self.wait -= 1
        if self.wait >= 0:
            return False
        self.left -= 1
        return True


class FaultyBank:
    """A bank in front of `bank` with faults; what it did stands in `happened`.

    `capacity` in bytes makes puts fail as full when what was put and not deleted through this client exceeds it.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        script: Iterable[Fault] = (),
        chances: Chances | None = None,
        seed: int = 0,
        capacity: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.kind, self.location, self.features = bank.kind, bank.location, bank.features
        self.happened: list[tuple[Kind, Call, str]] = []
        self._bank = bank
        self._rules = [_Rule(fault) for fault in script]
        self._chances = chances
        self._random = Random(seed)  # noqa: S311 - a test wants the same faults again
        self._capacity = capacity
        self._sleep = sleep
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._late: deque[tuple[int, Callable[[], None]]] = deque()
        self._calls = 0

    def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """See `Bank.put`."""
        content = b"".join(parts)
        self._take_room(key, len(content))
        self._changing(
            "put",
            key,
            lambda: self._bank.put(key, [content], if_absent=if_absent),
            cut=lambda: self._bank.put(key, [content[: len(content) // 2]], if_absent=if_absent),
        )

    def get(self, key: str, *, limit: int) -> bytes:
        """See `Bank.get`."""
        return self._call(self._next("get", key), "get", key, lambda: self._bank.get(key, limit=limit))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See `Bank.get_range`."""
        return self._call(
            self._next("get_range", key), "get_range", key, lambda: self._bank.get_range(key, offset, length)
        )

    def stat(self, key: str) -> ObjectStat:
        """See `Bank.stat`."""
        return self._call(self._next("stat", key), "stat", key, lambda: self._bank.stat(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectStat]:
        """See `Bank.list`; a cut listing breaks off after half of at most 1,000 objects."""
        return self._list(prefix, self._bank.list(prefix, after=after))

    def delete(self, key: str) -> None:
        """See `Bank.delete`."""
        self._changing("delete", key, lambda: self._bank.delete(key))
        with self._lock:
            self._sizes.pop(key, None)

    def space(self) -> BankSpace:
        """See `Bank.space`."""
        return self._call(self._next("space", ""), "space", "", self._bank.space)

    def settle(self) -> None:
        """Carry out the repeats that are still on their way."""
        with self._lock:
            late, self._late = self._late, deque()
        for _, again in late:
            again()

    def _list(self, prefix: str, listed: Iterator[ObjectStat]) -> Iterator[ObjectStat]:
        fault = self._next("list", prefix)
        if fault is None or fault.kind != "cut":
            self._call(fault, "list", prefix, lambda: None)
            yield from listed
            return
        some = tuple(islice(listed, 1000))
        yield from some[: len(some) // 2]
        raise BankError(f"list {prefix}: injected: cut")

    def _changing(self, call: Call, key: str, act: Callable[[], None], cut: Callable[[], None] | None = None) -> None:
        """A put or delete, which may be cut, repeated and delivered late."""
        fault = self._next(call, key)
        if fault and fault.kind == "full" and call == "put":
            raise BankFull(f"no room for {key}: injected")
        if fault and fault.kind == "cut" and cut:
            cut()
        self._call(fault, call, key, act)
        if fault and fault.kind == "twice":
            _unheard(act)
        if fault and fault.kind == "late repeat":
            with self._lock:
                self._late.append((self._calls + fault.turns, partial(_unheard, act)))

    def _call(self, fault: Fault | None, call: Call, key: str, act: Callable[[], T]) -> T:
        if fault and fault.kind in ("delay", "throttle"):
            self._sleep(fault.seconds)
        if fault and fault.kind in ("fail", "cut", "throttle"):
            raise BankError(f"{call} {key}: injected: {fault.kind}")
        answer = act()
        if fault and fault.kind == "lost answer":
            raise BankError(f"{call} {key}: injected: the answer was lost")
        return answer

    def _next(self, call: Call, key: str) -> Fault | None:
        """What goes wrong with this call: the first fault of the script that hits, else one by chance."""
        with self._lock:
            self._calls += 1
            due = [again for when, again in self._late if when <= self._calls]
            self._late = deque(entry for entry in self._late if entry[0] > self._calls)
            hits = [rule.fault for rule in self._rules if rule.hits(call, key)]
            fault = hits[0] if hits else self._drawn()
            if fault:
                self.happened.append((fault.kind, call, key))
        for again in due:
            again()
        return fault

    def _drawn(self) -> Fault | None:
        if self._chances is None:
            return None
        drawn = self._random.random()
        for kind, chance in self._chances.of.items():
            drawn -= chance
            if drawn < 0:
                return Fault(
                    kind=kind, seconds=self._chances.seconds * self._random.random(), turns=self._chances.turns
                )
        return None

    def _take_room(self, key: str, size: int) -> None:
        with self._lock:
            used = sum(self._sizes.values()) - self._sizes.get(key, 0)
            if self._capacity is not None and used + size > self._capacity:
                self.happened.append(("full", "put", key))
                raise BankFull(f"no room for {key}: {used} of {self._capacity} bytes are used")
            self._sizes[key] = size


def _unheard(act: Callable[[], object]) -> None:
    """A repeated request, whose answer nobody reads."""
    with contextlib.suppress(KarborError):
        act()
