"""The history in the bank: everything that was done is there within a minute, and comes back when the database is lost."""

from __future__ import annotations

import pytest
from tests.ledger import PROVIDER

from karbor.bank.history import entries, newest
from karbor.domain.checkpoint import Checkpoint
from karbor.domain.operation import OperationLog, Restore
from karbor.domain.plan import Plan
from karbor.errors import Damaged
from karbor.protection.catalogue import Query
from karbor.protection.recovery import recover

from .conftest import CALLER, Running


def repository_of(running):
    return running.app.vaults.open(running.app.providers.get(PROVIDER), CALLER.project_id)


def told(running):
    return newest(change for entry in entries(repository_of(running)) for change in entry.changes)


def worked(running) -> tuple[Checkpoint, Checkpoint]:
    good = running.protect(running.world.thing("a"))
    bad = running.protect(running.world.thing("b", protect="fail"))
    begun = running.service.restore(CALLER, provider_id=PROVIDER, checkpoint_id=good.id, parameters={})
    running.wait(lambda: running.app.catalogue.get(Restore, CALLER.project_id, begun.id))
    while running.app.history.flush() or _waiting(running):
        pass
    return good, bad


def _waiting(running) -> bool:
    return bool(running.app.history._changes.waiting())


def test_what_was_done_is_in_the_bank(running) -> None:
    good, bad = worked(running)
    known = {change.record["id"]: change.record for change in told(running)}
    assert known[good.id]["status"] == "available"
    assert known[bad.id]["status"] == "error"
    assert sum(change.kind == "OperationLog" for change in told(running)) == 3
    running.service.delete_plan(CALLER, good.plan_id)
    while _waiting(running):
        running.app.history.flush()
    assert good.plan_id not in {change.record["id"] for change in told(running)}


def test_everything_comes_back_when_the_database_is_lost(running, tmp_path) -> None:
    good, bad = worked(running)
    running.stop.set()
    running.thread.join()
    (tmp_path / "new").mkdir()
    other = Running(tmp_path / "new")
    found = recover(other.app.catalogue, repository_of(running))
    assert not found.unreadable
    assert found.history > 0
    query = Query(scope=CALLER.project_id)
    assert {each.id: each.status for each in other.app.catalogue.list(Checkpoint, query)} == {
        good.id: "available",
        bad.id: "error",
    }
    assert len(other.app.catalogue.list(Plan, query)) == 2
    assert len(other.app.catalogue.list(OperationLog, query)) == 3
    assert other.app.catalogue.list(Restore, query)[0].status == "success"
    again = recover(other.app.catalogue, repository_of(running))
    assert (again.checkpoints, again.plans) == (0, 0)
    other.app.database.close()


def test_a_changed_swapped_or_missing_entry_is_found(running) -> None:
    worked(running)
    running.protect(running.world.thing("c"))
    while _waiting(running):
        running.app.history.flush()
    files = sorted(running.bank.rglob("karbor/log/*"))
    assert len(files) > 1
    first, second = files[0].read_bytes(), files[1].read_bytes()
    files[0].write_bytes(second)
    with pytest.raises(Damaged, match="does not follow"):
        list(entries(repository_of(running)))
    files[0].write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
    with pytest.raises(Damaged):
        list(entries(repository_of(running)))
    files[0].unlink()
    with pytest.raises(Damaged, match="does not follow"):
        list(entries(repository_of(running)))
