"""The bank contract over the folder store and over every wrapper."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.wrappers import ByteRate, Prefixed, ReadOnly, Retrying, Throttled
from karbor.errors import ObjectExists, ObjectMissing
from karbor.sdk.contract.bank import BankContract
from karbor.sdk.contract.faulty import Chances, FaultyBank


class _InFolder(BankContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = str(tmp_path / "bank")
        self.seeds = itertools.count()
        self.opened = []
        yield
        for bank in self.opened:
            bank.close()

    def store(self):
        self.opened.append(FilesystemBank(self.folder))
        return self.opened[-1]


class TestFilesystem(_InFolder):
    def open_bank(self):
        return self.store()


class TestPrefixed(_InFolder):
    many = 1000
    longest_key = 512 - len("provider/project/")

    def open_bank(self):
        store = self.store()
        store.put("provider/a-neighbour", [b"x"])
        store.put("provider/project-2/x", [b"x"])
        return Prefixed(store, "provider/project/")


class TestReadOnly(_InFolder):
    many = 1000

    def open_bank(self):
        return self.store()

    def open_reader(self):
        return ReadOnly(self.store())


class TestThrottled(_InFolder):
    many = 1000

    def open_bank(self):
        return Throttled(self.store(), reading=ByteRate(1e9), writing=ByteRate(1e9))


class TestFaultyWithoutFaults(_InFolder):
    many = 1000

    def open_bank(self):
        return FaultyBank(self.store(), chances=Chances(of={"delay": 0.1}))


class TestRetryingOverFaults(_InFolder):
    """Errors, lost answers and cut listings are made good; what a store must not do at all (torn puts) is left out."""

    many = 1000

    def open_bank(self):
        chances = Chances(of={"fail": 0.1, "lost answer": 0.1, "throttle": 0.05, "delay": 0.05})
        faulty = FaultyBank(self.store(), chances=chances, seed=next(self.seeds))
        return Retrying(faulty, attempts=12, sleep=lambda seconds: None)


class _Torn(FilesystemBank):
    """Writes in place."""

    def put(self, key, parts, *, if_absent=False):
        super().put(key, [b""], if_absent=if_absent)
        for end in range(1, len(parts) + 1):
            super().put(key, [parts[number] for number in range(end)])


class _Unordered(FilesystemBank):
    def list(self, prefix, *, after=""):
        return iter(sorted(super().list(prefix, after=after), key=lambda one: one.key.split("/")))


class _Forgiving(FilesystemBank):
    """Gives what there is of a range."""

    def get_range(self, key, offset, length):
        size = self.stat(key).size
        return super().get_range(key, min(offset, size), max(0, min(length, size - offset)))


class _Racy(FilesystemBank):
    """Looks first and writes then."""

    def put(self, key, parts, *, if_absent=False):
        if if_absent:
            with contextlib.suppress(ObjectMissing):
                self.stat(key)
                raise ObjectExists(key)
        super().put(key, parts)


class _Forgetful(FilesystemBank):
    """Ends a listing early."""

    def list(self, prefix, *, after=""):
        return itertools.islice(super().list(prefix, after=after), 50)


@pytest.mark.parametrize(
    ("wrong", "test"),
    [
        (_Torn, "test_put_that_fails_midway_leaves_nothing"),
        (_Torn, "test_readers_see_the_whole_object_or_none"),
        (_Unordered, "test_list_is_in_the_order_of_keys"),
        (_Forgiving, "test_ranges_are_exact"),
        (_Racy, "test_if_absent_has_one_winner"),
        (_Forgetful, "test_list_pages_through_many"),
        (_Forgetful, "test_list_beside_writers_loses_nothing_that_stays"),
    ],
)
def test_the_contract_finds_what_is_wrong(tmp_path, wrong, test):
    class Suite(BankContract):
        many = 100

        def open_bank(self):
            return wrong(str(tmp_path / "bank"))

    with pytest.raises(AssertionError):
        getattr(Suite(), test)()
