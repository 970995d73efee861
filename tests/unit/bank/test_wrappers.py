"""Retries, rates, read-only and prefixed banks; and the faulty bank that tests lean on."""

from __future__ import annotations

import pytest

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.wrappers import ByteRate, Prefixed, ReadOnly, Retrying, Throttled
from karbor.errors import BankError, BankFull, InvalidInput, ObjectExists, ObjectMissing, UnsupportedOperation
from karbor.sdk.contract.faulty import Chances, Fault, FaultyBank


@pytest.fixture
def store(tmp_path):
    bank = FilesystemBank(str(tmp_path / "bank"))
    yield bank
    bank.close()


def test_waits_grow_and_are_drawn(store):
    waits = []
    faulty = FaultyBank(store, script=[Fault(kind="fail", call="put", times=4)])
    bank = Retrying(faulty, attempts=5, first_wait=1, longest_wait=3, sleep=waits.append, jitter=lambda: 0.5)
    bank.put("object", [b"x"])
    assert waits == [0.75, 1.5, 2.25, 2.25]
    assert store.get("object", limit=9) == b"x"


def test_the_last_error_is_the_callers(store):
    bank = Retrying(FaultyBank(store, script=[Fault(kind="fail", times=9)]), attempts=3, sleep=lambda seconds: None)
    with pytest.raises(BankError, match="injected"):
        bank.get("object", limit=9)


def test_what_cannot_pass_is_not_tried_again(store):
    waits = []
    bank = Retrying(FaultyBank(store, script=[Fault(kind="full", call="put")]), sleep=waits.append)
    with pytest.raises(BankFull):
        bank.put("object", [b"x"])
    with pytest.raises(ObjectMissing):
        bank.get("object", limit=9)
    assert waits == []


def test_a_lost_answer_to_a_new_object_is_no_conflict(store):
    bank = Retrying(FaultyBank(store, script=[Fault(kind="lost answer", call="put")]), sleep=lambda seconds: None)
    bank.put("new", [b"mi", b"ne"], if_absent=True)
    with pytest.raises(ObjectExists):
        bank.put("new", [b"mine"], if_absent=True)


@pytest.mark.parametrize("theirs", [b"theirs", b"the", b"mine, and more"])
def test_another_writer_s_object_is_a_conflict_also_when_tried_again(store, theirs):
    store.put("new", [theirs])
    bank = Retrying(FaultyBank(store, script=[Fault(kind="fail", call="put")]), sleep=lambda seconds: None)
    with pytest.raises(ObjectExists):
        bank.put("new", [b"mine"], if_absent=True)
    assert store.get("new", limit=99) == theirs


def test_a_listing_goes_on_where_it_broke_off(store):
    keys = [f"k/{number:02d}" for number in range(40)]
    for key in keys:
        store.put(key, [b""])
    faulty = FaultyBank(store, script=[Fault(kind="cut", call="list", times=4)])
    bank = Retrying(faulty, attempts=2, sleep=lambda seconds: None)
    assert [one.key for one in bank.list("k/")] == keys
    assert len(faulty.happened) == 4


def test_a_rate_makes_those_who_come_later_wait():
    now, slept = [0.0], []
    rate = ByteRate(100, clock=lambda: now[0], sleep=slept.append)
    rate.take(50)
    rate.take(200)
    assert slept == [0.5]
    now[0] = 60.0
    rate.take(1)
    rate.take(1)
    assert slept == [0.5, pytest.approx(0.01)]
    with pytest.raises(InvalidInput):
        ByteRate(0)


def test_a_throttled_bank_pays_for_what_it_moves(store):
    taken = []

    class Counted(ByteRate):
        def take(self, count):
            taken.append(count)

    bank = Throttled(store, reading=Counted(1), writing=Counted(1))
    bank.put("object", [b"12345", bytearray(b"678")])
    bank.get("object", limit=8)
    bank.get_range("object", 2, 3)
    assert taken == [8, 8, 3]


def test_a_read_only_bank_refuses_changes(store):
    store.put("object", [b"x"])
    bank = ReadOnly(store)
    with pytest.raises(UnsupportedOperation, match="reading only"):
        bank.put("object", [b"y"])
    with pytest.raises(UnsupportedOperation, match="reading only"):
        bank.delete("object")
    assert bank.get("object", limit=9) == b"x"


def test_a_prefixed_bank_sees_only_its_part(store):
    bank = Prefixed(store, "p/q/")
    store.put("p/other", [b"x"])
    bank.put("object", [b"y"])
    assert bank.location == f"{store.location}/p/q"
    assert [one.key for one in bank.list("")] == ["object"]
    assert store.get("p/q/object", limit=9) == b"y"
    with pytest.raises(ObjectMissing, match="p/q/nothing"):
        bank.stat("nothing")
    for wrong in ("p", "../", "/", ""):
        with pytest.raises(InvalidInput):
            Prefixed(store, wrong)


def test_scripted_faults_happen_where_they_are_told(store):
    faulty = FaultyBank(store, script=[
        Fault(kind="cut", call="put", key="data/", after=1),
        Fault(kind="late repeat", call="put", key="late", turns=2),
        Fault(kind="twice", call="delete", key="late"),
    ])  # fmt: skip
    faulty.put("data/1", [b"whole"])
    with pytest.raises(BankError, match="cut"):
        faulty.put("data/2", [b"whole"])
    assert store.get("data/2", limit=9) == b"wh"
    faulty.put("late", [b"x"])
    faulty.delete("late")
    with pytest.raises(ObjectMissing):
        faulty.get("never", limit=1)
    assert store.get("late", limit=9) == b"x"
    assert faulty.happened == [("cut", "put", "data/2"), ("late repeat", "put", "late"), ("twice", "delete", "late")]


def test_late_repeats_can_be_waited_for(store):
    faulty = FaultyBank(store, script=[Fault(kind="late repeat", call="delete", turns=99)])
    faulty.put("object", [b"x"])
    faulty.delete("object")
    faulty.put("object", [b"y"])
    faulty.settle()
    with pytest.raises(ObjectMissing):
        store.stat("object")


def test_a_full_bank_has_room_again_after_a_delete(store):
    faulty = FaultyBank(store, capacity=10)
    faulty.put("a", [b"123456"])
    with pytest.raises(BankFull):
        faulty.put("b", [b"12345"])
    faulty.put("a", [b"1234567890"])
    faulty.delete("a")
    faulty.put("b", [b"12345"])


def test_a_seed_gives_the_same_faults_again(store):
    def happened(seed):
        faulty = FaultyBank(store, chances=Chances(of={"fail": 0.3, "twice": 0.1}), seed=seed)
        for number in range(50):
            try:
                faulty.put(f"object-{number}", [b"x"])
            except BankError:
                continue
        return faulty.happened

    assert happened(1) == happened(1) != happened(2)
