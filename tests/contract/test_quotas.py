"""Quotas and programs on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime

import pytest

from karbor.db.catalogue import SqlCatalogue
from karbor.db.journal import SqlJournal
from karbor.db.programs import SqlPrograms
from karbor.db.quotas import SqlQuotas
from karbor.domain.context import Caller
from karbor.domain.plan import Plan
from karbor.domain.quota import Limits
from karbor.domain.schedule import ScheduledOperation
from karbor.domain.trigger import Trigger
from karbor.errors import InUse, NotFound, OverLimit
from karbor.flow.sealing import Sealer
from karbor.protection.catalogue import Query
from karbor.protection.programs import WORKER, Permission, Programs
from karbor.protection.quotas import Quotas
from karbor.schedule.service import ScheduleService
from karbor.system import SystemClock, SystemRandomness

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def plan():
    return Plan(
        id=str(uuid.uuid4()), project_id="p", name="n", provider_id="x", resources=(), parameters={}, created_at=NOON
    )


@pytest.fixture
def catalogue(database):
    return SqlCatalogue(database)


@pytest.fixture
def quotas(database, catalogue):
    return Quotas(SqlQuotas(database), catalogue, Limits(plans=3))


def add_plan(quotas, catalogue):
    def work(tx):
        quotas.check(tx, "p", "plans")
        catalogue.insert(tx, plan())

    catalogue.transact(work)


def test_of_many_at_once_only_as_many_as_allowed(quotas, catalogue):
    refused = []

    def work():
        try:
            add_plan(quotas, catalogue)
        except OverLimit as error:
            refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5
    assert quotas.in_use("p") == {"plans": 3, "checkpoints": 0}
    assert quotas.in_use("other") == {"plans": 0, "checkpoints": 0}


def test_a_projects_own_limit_wins_over_the_class_and_that_over_the_configuration(quotas):
    assert quotas.limits("p") == Limits(plans=3, checkpoints=-1)
    assert quotas.set_class("default", {"plans": 4, "checkpoints": 9}) == Limits(plans=4, checkpoints=9)
    assert quotas.limits("p") == Limits(plans=4, checkpoints=9)
    assert quotas.set_limits("p", {"plans": 5}) == Limits(plans=5, checkpoints=9)
    assert quotas.set_limits("p", {"plans": 6}) == Limits(plans=6, checkpoints=9)
    assert quotas.limits("other") == Limits(plans=4, checkpoints=9)
    assert quotas.of_class("unknown") == Limits(plans=3, checkpoints=-1)
    quotas.forget_limits("p")
    quotas.forget_limits("p")
    assert quotas.limits("p") == Limits(plans=4, checkpoints=9)


def test_a_program_is_known_for_good_and_lives_by_its_workers_heartbeat(database):
    store, journal = SqlPrograms(database), SqlJournal(database, Sealer(bytes(32)), lease=30)
    store.register(WORKER, "h1")
    store.register(WORKER, "h1")
    store.register(WORKER, "h2")
    journal.enlist("w1", "h1", 1)
    first, second = Programs(store).all()
    assert (first.host, first.up, first.enabled) == ("h1", True, True)
    assert (second.host, second.up) == ("h2", False)
    assert Programs(store).all(host="h2", program=WORKER) == [second]
    assert Programs(store).set_enabled(str(first.id), enabled=False, reason="repair").disabled_reason == "repair"
    store.register(WORKER, "h1")
    assert not Permission(store, "h1", SystemClock())()
    assert Permission(store, "h2", SystemClock())()
    assert Programs(store).set_enabled(str(first.id), enabled=True).enabled
    for unknown in ("99", "zz", "9" * 40):
        with pytest.raises(NotFound):
            Programs(store).set_enabled(unknown, enabled=True)


def test_a_trigger_in_use_stays(catalogue):
    trigger = Trigger(
        id=str(uuid.uuid4()), project_id="p", name="t", properties={"pattern": "x" * 8192}, created_at=NOON
    )
    order = ScheduledOperation(
        id=str(uuid.uuid4()),
        project_id="p",
        name="o",
        operation_type="protect",
        trigger_id=trigger.id,
        definition={"plan_id": "a", "provider_id": "b"},
        caller=Caller(user_id="u", project_id="p", roles=("member",)),
        created_at=NOON,
    )
    catalogue.transact(lambda tx: [catalogue.insert(tx, trigger), catalogue.insert(tx, order)])
    service = ScheduleService(
        catalogue=catalogue,
        providers=None,
        delegations=None,
        limits=None,
        clock=SystemClock(),
        random=SystemRandomness(),
    )
    with pytest.raises(InUse):
        service.delete_trigger(order.caller, trigger.id)
    assert catalogue.list(ScheduledOperation, Query(scope="p", filters={"definition_text~": "plan_id"})) == [order]
    assert catalogue.get(Trigger, "p", trigger.id) == trigger
    service.delete_operation(order.caller, order.id)
    service.delete_trigger(order.caller, trigger.id)
    assert catalogue.list(Trigger, Query(scope="p")) == []
