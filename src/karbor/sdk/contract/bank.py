"""What every bank must prove: the obligations of `karbor.sdk.bank`, one test for each.

Derive a class, give it `open_bank`, and let any runner that knows classes with `test_` methods run it:

    class TestMyBank(BankContract):
        def open_bank(self) -> Bank:
            return MyBank(...)

`open_bank` is called several times in one test and gives a new client of the same bank each time; the bank is empty
when a test begins. Nothing but the standard library is needed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from karbor.errors import Damaged, InvalidInput, ObjectExists, ObjectMissing
from karbor.sdk.bank import (
    FEATURE_ATOMIC_DELETE,
    FEATURE_IF_ABSENT,
    FEATURE_LIST_LAG,
    FEATURE_OBJECT_LOCK,
    FEATURE_READERS,
    FEATURE_VERSIONING,
    MAX_KEY,
    MAX_KEY_PART,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from karbor.sdk.bank import Bank, Buffer

_MIB = 1 << 20
_FEATURES = {
    FEATURE_IF_ABSENT,
    FEATURE_LIST_LAG,
    FEATURE_VERSIONING,
    FEATURE_OBJECT_LOCK,
    FEATURE_READERS,
    FEATURE_ATOMIC_DELETE,
}
BAD_KEYS = (
    "", ".", "..", "../escape", "a/../../escape", "a/..", "/etc/escape", "a//b", "a/", "a b", "a\\b", "a\0b", "a\nb",
    "ä", "~a", "a/~b", "a%2e", "a:b", "x" * (MAX_KEY_PART + 1), "x/" * (MAX_KEY // 2) + "x",
)  # fmt: skip
"""Keys that every method must refuse."""


class BankContract:
    """The suite. `many` is how many objects the long listing has, `longest_key` how long a key may be here."""

    many = 10_000
    longest_key = MAX_KEY
    settle_seconds = 60.0
    """How long a listing may lag, where the bank names `list-lag`."""

    def open_bank(self) -> Bank:
        """A client of the bank under test."""
        raise NotImplementedError

    def open_reader(self) -> Bank:
        """A client that is only read from; another wrapper or another process may stand here."""
        return self.open_bank()

    def test_says_what_it_is(self) -> None:
        """Kind and location are words for people, features come from the list in the port."""
        bank = self.open_bank()
        _expect(bool(bank.kind) and bool(bank.location), "kind and location are not empty")
        _expect(bank.features <= _FEATURES, f"{set(bank.features - _FEATURES)} are not features of the port")

    def test_gives_back_what_was_put(self) -> None:
        """Every kind of buffer, any number of parts, any size."""
        bank, reader = self.open_bank(), self.open_reader()
        big = bytes(range(256)) * (5 * _MIB // 256)
        contents: dict[str, list[Buffer]] = {
            "none": [], "empty": [b""], "one": [b"x"], "kinds": [b"ab", bytearray(b"cd"), memoryview(b"--ef--")[2:4]],
            "deep/er/and/deeper": [b"below"], "big": [big], "views": [memoryview(big)[:_MIB], memoryview(big)[_MIB:]],
            "many": [bytes([number % 256]) for number in range(5000)],
        }  # fmt: skip
        for key, parts in contents.items():
            bank.put(key, parts)
        for key, parts in contents.items():
            whole = b"".join(parts)
            _expect(reader.get(key, limit=10 * _MIB) == whole, f"get {key}")
            _expect(reader.stat(key).size == len(whole), f"stat {key}")
            _expect(reader.stat(key).key == key, f"stat names {key}")

    def test_put_replaces(self) -> None:
        """The last put counts, also where it is shorter."""
        bank = self.open_bank()
        for content in (b"first and long", b"second", b""):
            bank.put("a/object", [content])
            _expect(self.open_reader().get("a/object", limit=100) == content, f"{content!r} replaces what was there")

    def test_if_absent_changes_nothing_that_exists(self) -> None:
        """An existing object is refused, a new or deleted one is not."""
        bank = self.open_bank()
        if FEATURE_IF_ABSENT not in bank.features:
            return
        bank.put("new", [b"1"], if_absent=True)
        _refuses(ObjectExists, bank.put, "new", [b"2"], if_absent=True)
        _expect(self.open_reader().get("new", limit=9) == b"1", "the object that existed is as it was")
        bank.delete("new")
        bank.put("new", [b"3"], if_absent=True)
        _expect(self.open_reader().get("new", limit=9) == b"3", "a deleted object may be made again")

    def test_if_absent_has_one_winner(self) -> None:
        """Of many racing writers one gets through, and its bytes are what lies there."""
        if FEATURE_IF_ABSENT not in self.open_bank().features:
            return
        clients = [self.open_bank() for _ in range(8)]
        for turn in range(20):
            begin = threading.Barrier(len(clients))

            def race(number: int, turn: int = turn, begin: threading.Barrier = begin) -> bool:
                begin.wait()
                try:
                    clients[number].put(f"race/{turn}", [b"%d" % number], if_absent=True)
                except ObjectExists:
                    return False
                return True

            with ThreadPoolExecutor(len(clients)) as pool:
                won = [number for number, first in enumerate(pool.map(race, range(len(clients)))) if first]
            _expect(len(won) == 1, f"{len(won)} writers won the race")
            _expect(self.open_reader().get(f"race/{turn}", limit=9) == b"%d" % won[0], "the winner's bytes are there")

    def test_ranges_are_exact(self) -> None:
        """A range is as long as asked; one that goes beyond the end is damage."""
        content = bytes(range(256)) * 512
        self.open_bank().put("ranged", [content])
        reader = self.open_reader()
        for offset, length in ((0, 0), (0, 1), (0, len(content)), (1, 70_000), (131_071, 1), (131_072, 0)):
            _expect(
                reader.get_range("ranged", offset, length) == content[offset : offset + length], f"{offset}+{length}"
            )
        for offset, length in ((0, 131_073), (131_071, 2), (131_072, 1), (200_000, 1)):
            _refuses(Damaged, reader.get_range, "ranged", offset, length)

    def test_get_keeps_to_its_limit(self) -> None:
        """An object that is larger than expected is not read."""
        self.open_bank().put("sized", [b"x" * 1000])
        reader = self.open_reader()
        _expect(len(reader.get("sized", limit=1000)) == 1000, "an object as large as the limit is read")
        _refuses(Damaged, reader.get, "sized", limit=999)

    def test_missing_is_missing(self) -> None:
        """What was never there, what is only a folder of keys, and what lies below an object."""
        bank, reader = self.open_bank(), self.open_reader()
        bank.put("folder/object", [b"x"])
        for key in ("never", "folder", "folder/never", "folder/object/below", "never/never"):
            _refuses(ObjectMissing, reader.get, key, limit=9)
            _refuses(ObjectMissing, reader.get_range, key, 0, 1)
            _refuses(ObjectMissing, reader.stat, key)
            bank.delete(key)
        _expect(reader.get("folder/object", limit=9) == b"x", "deleting what is missing removes nothing else")

    def test_deleted_is_missing(self) -> None:
        """Also for a client that saw the object, and when it is deleted twice."""
        bank, reader = self.open_bank(), self.open_reader()
        bank.put("short-lived", [b"x"])
        _expect(reader.get("short-lived", limit=9) == b"x", "it is there at first")
        bank.delete("short-lived")
        bank.delete("short-lived")
        _refuses(ObjectMissing, reader.get, "short-lived", limit=9)
        _refuses(ObjectMissing, reader.stat, "short-lived")
        self._expect_listed("", [])

    def test_bad_keys_are_refused(self) -> None:
        """By every method, before anything happens."""
        bank, reader = self.open_bank(), self.open_reader()
        for key in BAD_KEYS:
            _refuses(InvalidInput, bank.put, key, [b"x"])
            _refuses(InvalidInput, bank.delete, key)
            _refuses(InvalidInput, reader.get, key, limit=9)
            _refuses(InvalidInput, reader.get_range, key, 0, 1)
            _refuses(InvalidInput, reader.stat, key)
        for prefix in ("../", "/", "a/../", "a//", "~", "a b"):
            _refuses(InvalidInput, self._listed, prefix)
        self._expect_listed("", [])

    def test_every_good_key_works(self) -> None:
        """Every character, dots where they mean nothing, and the longest key."""
        part = "A-Z.a_z" + "0" * (MAX_KEY_PART - 8)
        longest = "/".join([part] * (MAX_KEY // MAX_KEY_PART + 1))[: self.longest_key]
        keys = sorted(["...", "..a", ".hidden", "-", "_", "a.b-c_d/E.F-G_H/0123456789", longest])
        bank = self.open_bank()
        for key in keys:
            bank.put(key, [key.encode()])
        for key in keys:
            _expect(self.open_reader().get(key, limit=MAX_KEY) == key.encode(), key)
        self._expect_listed("", keys)

    def test_list_is_in_the_order_of_keys(self) -> None:
        """Bytewise over the whole key: a slash is a character like the others; a prefix may end inside a name."""
        keys = ["A", "a-b", "a.b", "a/b", "a/b.c/d", "a/b0", "a0/b", "a_b", "aa/1", "aa/10", "aa/2", "b"]
        bank = self.open_bank()
        for key in reversed(keys):
            bank.put(key, [b"x"])
        for prefix in ("", "a", "a/", "a/b", "aa/1", "b", "c", "a/b/", "zz/zz"):
            self._expect_listed(prefix, [key for key in keys if key.startswith(prefix)])
        for after in (*keys, "0", "a/", "a/b.", "a0", "zz"):
            for prefix in ("", "a", "a/b"):
                wanted = [key for key in keys if key.startswith(prefix) and key > after]
                self._expect_listed(prefix, wanted, after=after)

    def test_list_pages_through_many(self) -> None:
        """Nothing is lost, doubled or out of order; a listing can be taken up where it was left."""
        keys = [f"many/{number % 7}/{number:08d}" for number in range(self.many)]
        bank = self.open_bank()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: bank.put(key, [key.encode()]), keys))
        keys.sort()
        self._expect_listed("many/", keys)
        middle = keys[len(keys) // 2]
        self._expect_listed("many/", keys[len(keys) // 2 + 1 :], after=middle)
        _expect(next(iter(self.open_reader().list("many/"))).size == len(keys[0]), "a listing shows the size")

    def test_put_that_fails_midway_leaves_nothing(self) -> None:
        """Neither a new object nor a changed one."""
        bank, reader = self.open_bank(), self.open_reader()
        bank.put("kept", [b"before"])
        for key in ("kept", "half"):
            try:
                bank.put(key, _Broken())
            except ZeroDivisionError:
                continue
            _expect(False, "the error of the caller's own parts reaches the caller")
        _expect(reader.get("kept", limit=9 * _MIB) == b"before", "the object that existed is as it was")
        _refuses(ObjectMissing, reader.get, "half", limit=9 * _MIB)
        self._expect_listed("", ["kept"])

    def test_readers_see_the_whole_object_or_none(self) -> None:
        """While it is replaced again and again by objects of other sizes."""
        bank, reader = self.open_bank(), self.open_reader()
        contents = [bytes([letter]) * size for letter, size in ((65, 300_000), (66, 10), (67, 2_000_000))]
        bank.put("replaced", [contents[0]])
        done = threading.Event()

        def read() -> int:
            reads = 0
            while not done.is_set() or reads < 3:
                _expect(reader.get("replaced", limit=3_000_000) in contents, "a reader sees a mixture")
                _expect(reader.stat("replaced").size in {len(content) for content in contents}, "stat sees a mixture")
                reads += 1
            return reads

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            try:
                for turn in range(30):
                    content = contents[turn % 3]
                    bank.put("replaced", [content[: len(content) // 2], content[len(content) // 2 :]])
            finally:
                done.set()
            for one in readers:
                one.result()

    def test_many_threads_at_once(self) -> None:
        """Each with its own objects, through one client; and two clients see each other's."""
        bank, other = self.open_bank(), self.open_reader()

        def work(number: int) -> None:
            for turn in range(10):
                key, content = f"thread/{number}/{turn}", b"%d-%d" % (number, turn)
                bank.put(key, [content])
                _expect(other.get(key, limit=99) == content, f"{key} after put")
                if turn % 2:
                    bank.delete(key)
                    _refuses(ObjectMissing, other.stat, key)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        self._expect_listed(
            "thread/", sorted(f"thread/{number}/{turn}" for number in range(8) for turn in range(0, 10, 2))
        )

    def test_list_beside_writers_loses_nothing_that_stays(self) -> None:
        """Objects that exist the whole time are listed exactly once, whatever comes and goes beside them."""
        bank = self.open_bank()
        stays = [f"beside/{number:03d}" for number in range(0, 200, 2)]
        for key in stays:
            bank.put(key, [b"x"])
        self._expect_listed("beside/", stays)
        done = threading.Event()

        def churn() -> None:
            while not done.is_set():
                for number in range(1, 200, 20):
                    bank.put(f"beside/{number:03d}", [b"y"])
                    bank.delete(f"beside/{number:03d}")

        with ThreadPoolExecutor(1) as pool:
            churning = pool.submit(churn)
            try:
                for _ in range(10):
                    found = self._listed("beside/")
                    _expect(found == sorted(set(found)), "a listing is ordered and without doubles")
                    _expect(set(stays) <= set(found), "a listing has what stays")
            finally:
                done.set()
            churning.result()

    def test_space_is_plausible(self) -> None:
        """Free room is at most the whole; None where the store cannot tell."""
        space = self.open_reader().space()
        if space.free is not None:
            _expect(space.free >= 0, "free room is not negative")
            _expect(space.total is None or space.free <= space.total, "free room is at most the whole")

    def _listed(self, prefix: str) -> list[str]:
        return [one.key for one in self.open_reader().list(prefix)]

    def _expect_listed(self, prefix: str, keys: list[str], *, after: str = "") -> None:
        """The listing is exactly this, at once or, where it may lag, soon."""
        bank = self.open_reader()
        deadline = time.monotonic() + (self.settle_seconds if FEATURE_LIST_LAG in bank.features else 0)
        while (found := [one.key for one in bank.list(prefix, after=after)]) != keys:
            if time.monotonic() >= deadline:
                wrong = sorted(set(found) ^ set(keys))[:5]
                _expect(
                    False, f"list {prefix!r} after {after!r}: {len(found)} for {len(keys)} keys, differing in {wrong}"
                )
            time.sleep(0.5)


class _Broken(Sequence[bytes]):
    """Three parts, the last of which cannot be had."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: object) -> bytes:  # type: ignore[override]
        if index == 2:
            raise ZeroDivisionError
        return b"x" * _MIB


def _expect(true: bool, what: str) -> None:
    if not true:
        raise AssertionError(what)


def _refuses(error: type[Exception], act: Callable[..., object], *arguments: object, **named: object) -> None:
    """The call must raise this kind of error."""
    try:
        act(*arguments, **named)
    except error:
        return
    _expect(False, f"{error.__name__} is raised")
