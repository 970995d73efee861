"""Locks: shared ones of ours with restic's rules, and never a live one taken for dead."""

from __future__ import annotations

import time

import pytest

from karbor.bank.vault.locks import HeldLock, RepositoryLock, decode_lock, locks, remove_locks, remove_stale_locks
from karbor.bank.vault.wireformat import go_json, go_time
from karbor.errors import BankError, Damaged, LeaseLost, Unavailable


def foreign(repository, *, exclusive, age=0.0):
    stamp = go_time(repository.now_ns() - int(age * 1e9))
    lock = HeldLock(time=stamp, exclusive=exclusive, hostname="desk", username="admin", pid=77)
    return repository.documents.put("locks", go_json(lock))


def names(repository):
    return list(repository.documents.names("locks"))


def test_a_lock_lies_there_as_long_as_the_block(repository):
    journal = []
    with RepositoryLock(repository, incarnation="a1", journal=journal.append) as held:
        assert names(repository) == journal
        ((_, lock),) = locks(repository)
        assert (lock.hostname, lock.exclusive, lock.ours) == ("karbor-a1", False, True)
        held.check()
    assert names(repository) == []


def test_writers_share(repository):
    with RepositoryLock(repository, incarnation="a1"), RepositoryLock(repository, incarnation="b2"):
        assert len(names(repository)) == 2


@pytest.mark.parametrize(
    ("ours_exclusive", "theirs_exclusive", "refused"),
    [(False, False, False), (False, True, True), (True, False, True), (True, True, True)],
)
def test_locks_of_others_are_honoured(repository, ours_exclusive, theirs_exclusive, refused):
    foreign(repository, exclusive=theirs_exclusive)
    lock = RepositoryLock(repository, incarnation="a1", exclusive=ours_exclusive)
    if refused:
        with pytest.raises(Unavailable, match="admin@desk, process 77"):
            lock.__enter__()
        assert len(names(repository)) == 1
    else:
        with lock:
            pass


def test_our_sweeper_does_not_stop_our_writers_but_another_sweeper(repository):
    with RepositoryLock(repository, incarnation="sweeper", exclusive=True):
        with RepositoryLock(repository, incarnation="writer"):
            pass
        with pytest.raises(Unavailable), RepositoryLock(repository, incarnation="second", exclusive=True):
            pass


def test_who_locks_in_the_same_moment_is_seen(repository, clock, monkeypatch):
    monkeypatch.setattr(clock, "sleep", lambda _: foreign(repository, exclusive=True))
    with pytest.raises(Unavailable), RepositoryLock(repository, incarnation="a1"):
        pass
    assert len(names(repository)) == 1


def test_stale_locks_do_not_count_and_can_be_removed(repository):
    foreign(repository, exclusive=True, age=1801)
    fresh = foreign(repository, exclusive=False)
    with RepositoryLock(repository, incarnation="a1"):
        pass
    assert remove_stale_locks(repository) == 1
    assert names(repository) == [fresh]


def test_a_refreshed_lock_is_a_new_file_and_the_old_one_goes(repository, clock):
    journal = []
    with RepositoryLock(repository, incarnation="a1", journal=journal.append) as held:
        clock.seconds += 300
        held.refresh()
        assert names(repository) == journal[1:]
        ((_, lock),) = locks(repository)
        assert lock.time.startswith("2026-11-22T12:05:00")


def test_a_lock_that_could_not_be_refreshed_is_lost(repository, clock, monkeypatch):
    with RepositoryLock(repository, incarnation="a1") as held:
        with monkeypatch.context() as patch:
            patch.setattr(type(repository.bank), "put", lambda *_, **__: (_ for _ in ()).throw(BankError("away")))
            clock.seconds += 1501
            with pytest.raises(BankError):
                held.refresh()
        with pytest.raises(LeaseLost, match="not refreshed"):
            held.check()
        held.refresh()
        held.check()


def test_a_lock_is_refreshed_by_itself(repository, monkeypatch):
    monkeypatch.setattr("karbor.bank.vault.locks.REFRESH_SECONDS", 0.01)
    journal = []
    with RepositoryLock(repository, incarnation="a1", journal=journal.append):
        deadline = time.monotonic() + 20
        while len(journal) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(journal) >= 3
    assert names(repository) == []


def test_the_locks_of_a_dead_incarnation_are_removed_and_no_others(repository):
    with RepositoryLock(repository, incarnation="alive"):
        lock = RepositoryLock(repository, incarnation="dead")
        lock._write()
        kept = foreign(repository, exclusive=False)
        assert remove_locks(repository, "dead") == 1
        assert kept in names(repository)
        assert len(names(repository)) == 2


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b'{"time":"soon"}', b'{"time":"2026-01-01T00:00:00Z","pid":"x"}', b"[" * 10_000]
)
def test_what_is_no_lock_is_damaged(raw):
    with pytest.raises(Damaged, match="locks/x"):
        decode_lock(raw, "locks/x")
