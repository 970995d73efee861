"""The catalogue's contract, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from karbor.db.catalogue import SqlCatalogue
from karbor.db.journal import SqlJournal
from karbor.domain.checkpoint import Checkpoint, ResourceState
from karbor.domain.graph import ResourceGraph
from karbor.domain.operation import OperationLog, Restore, Verification
from karbor.domain.plan import Plan
from karbor.domain.resource import Resource
from karbor.errors import Conflict, InvalidInput, NotFound
from karbor.flow.model import NewRun, NewStep
from karbor.flow.sealing import Sealer
from karbor.protection.catalogue import EVERY_PROJECT, Query

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
VOLUME = Resource(type="OS::Cinder::Volume", id="v1", name="ä\U0001f4be", extra_info={"availability_zone": "nova"})


def plan(name="plan", *, project="p", at=NOON, **more):
    fields = {"provider_id": "provider", "resources": (VOLUME,), "parameters": {VOLUME.key: {"mode": "full", "n": 3}}}
    return Plan(id=str(uuid.uuid4()), project_id=project, name=name, created_at=at, **(fields | more))


def checkpoint(status="protecting", *, project="p", at=NOON, **more):
    return Checkpoint(
        id=str(uuid.uuid4()),
        project_id=project,
        provider_id="provider",
        plan_id=more.pop("plan_id", "plan"),
        plan_name="a plan",
        status=status,
        created_at=at,
        resources=(VOLUME,),
        **more,
    )


def operation(kind, project="p"):
    known = {
        "provider_id": "provider",
        "checkpoint_id": "cp",
        "parameters": {},
        "status": "in_progress",
        "created_at": NOON,
    }
    return kind(id=str(uuid.uuid4()), project_id=project, **known)


def log(*, project="p", at=NOON, **more):
    return OperationLog(
        id=str(uuid.uuid4()),
        project_id=project,
        operation_type="protect",
        status="in_progress",
        provider_id="provider",
        started_at=at,
        **more,
    )


EVERY_KIND = [
    plan,
    checkpoint,
    lambda **more: operation(Restore, **more),
    lambda **more: operation(Verification, **more),
    log,
]


@pytest.fixture
def catalogue(database):
    return SqlCatalogue(database)


def add(catalogue, *records):
    catalogue.transact(lambda tx: [catalogue.insert(tx, record) for record in records])
    return records


def names(catalogue, **query):
    return [each.name for each in catalogue.list(Plan, Query(scope=query.pop("scope", "p"), **query))]


@pytest.mark.parametrize("make", EVERY_KIND)
def test_every_kind_comes_back_as_it_went_in(catalogue, make):
    (record,) = add(catalogue, make())
    kind = type(record)
    assert catalogue.get(kind, "p", record.id) == record
    assert catalogue.list(kind, Query(scope="p")) == [record]
    assert catalogue.transact(lambda tx: catalogue.count(tx, kind, "p")) == 1


@pytest.mark.parametrize("make", EVERY_KIND)
def test_nothing_leaves_its_project(catalogue, make):
    (record,) = add(catalogue, make())
    kind = type(record)
    with pytest.raises(NotFound):
        catalogue.get(kind, "other", record.id)
    with pytest.raises(NotFound):
        catalogue.transact(lambda tx: catalogue.get(kind, "other", record.id, tx=tx))
    with pytest.raises(NotFound):
        catalogue.transact(lambda tx: catalogue.remove(tx, kind, "other", record.id))
    with pytest.raises(NotFound):
        catalogue.list(kind, Query(scope="other", marker=record.id))
    with pytest.raises(NotFound):
        catalogue.transact(lambda tx: catalogue.replace(tx, msgspec.structs.replace(record, project_id="other")))
    assert catalogue.list(kind, Query(scope="other")) == []
    assert catalogue.list(kind, Query(scope="other", filters={"project_id": "p"})) == []
    assert catalogue.transact(lambda tx: catalogue.count(tx, kind, "other")) == 0
    assert catalogue.get(kind, EVERY_PROJECT, record.id) == record
    assert catalogue.list(kind, Query(scope=EVERY_PROJECT)) == [record]


def test_a_whole_checkpoint(catalogue):
    states = (ResourceState(key=VOLUME.key, status="available", skipped_count={"socket": 2}, duration_seconds=1.5),)
    graph = ResourceGraph((VOLUME,), ((),))
    (record,) = add(
        catalogue, checkpoint("available", graph=graph, states=states, extra_info={"x": [1, None]}, finished_at=NOON)
    )
    assert catalogue.get(Checkpoint, "p", record.id) == record


def test_an_id_is_taken_once(catalogue):
    (record,) = add(catalogue, plan())
    with pytest.raises(Conflict, match=record.id):
        add(catalogue, record)


def test_replacing_and_removing(catalogue):
    (record,) = add(catalogue, checkpoint())
    done = msgspec.structs.replace(record, status="available", verify_level="structure")
    catalogue.transact(lambda tx: catalogue.replace(tx, done, expected_status="protecting"))
    assert catalogue.list(Checkpoint, Query(scope="p", filters={"status": "available"})) == [done]
    with pytest.raises(Conflict, match="is available, not protecting"):
        catalogue.transact(lambda tx: catalogue.replace(tx, record, expected_status="protecting"))
    catalogue.transact(lambda tx: catalogue.replace(tx, record))
    assert catalogue.get(Checkpoint, "p", record.id).status == "protecting"
    catalogue.transact(lambda tx: catalogue.remove(tx, Checkpoint, "p", record.id))
    with pytest.raises(NotFound):
        catalogue.transact(lambda tx: catalogue.replace(tx, done))
    with pytest.raises(NotFound):
        catalogue.get(Checkpoint, "p", record.id)


def test_a_transaction_is_all_or_nothing(catalogue):
    first, second = plan("first"), plan("second")

    def work(tx):
        catalogue.insert(tx, first)
        catalogue.insert(tx, second)
        assert catalogue.count(tx, Plan, "p") == 2
        raise InvalidInput("no")

    with pytest.raises(InvalidInput):
        catalogue.transact(work)
    assert catalogue.list(Plan, Query(scope="p")) == []


# Filters


def test_equality_and_sets(catalogue):
    a, b, c = add(catalogue, checkpoint("available"), checkpoint("error", plan_id="x"), checkpoint("deleted"))
    found = lambda **filters: {each.id for each in catalogue.list(Checkpoint, Query(scope="p", filters=filters))}  # noqa: E731
    assert found(status="available") == {a.id}
    assert found(status="error", plan_id="plan") == set()
    assert found(status=("available", "error")) == {a.id, b.id}
    assert found(status=()) == set()
    assert found(id=c.id) == {c.id}
    assert found(status=7) == set()
    assert catalogue.transact(lambda tx: catalogue.count(tx, Checkpoint, "p", {"status": "error"})) == 1


def test_equality_is_exact(catalogue):
    add(catalogue, plan("Name"), plan("name "), plan("nämé"))
    assert names(catalogue, filters={"name": "name"}) == []
    assert names(catalogue, filters={"name": "Name"}) == ["Name"]
    assert names(catalogue, filters={"name": "nämé"}) == ["nämé"]


@pytest.mark.parametrize("part", ["%", "_", "/", "\\", "'", "100%_/\\'x"])
def test_contains_is_literal(catalogue, part):
    add(catalogue, plan(f"a{part}b"), plan("ab"), plan("a1b"))
    assert names(catalogue, filters={"name~": part}) == [f"a{part}b"]


def test_contains_minds_the_case(catalogue):
    add(catalogue, plan("Web shop"))
    assert names(catalogue, filters={"name~": "b sh"}) == ["Web shop"]
    assert names(catalogue, filters={"name~": "web"}) == []


def test_plans_are_found_by_their_description(catalogue):
    add(catalogue, plan("a", description="of the web shop"), plan("b"))
    assert names(catalogue, filters={"description~": "shop"}) == ["a"]


def test_bounds_of_time(catalogue):
    add(catalogue, *(plan(f"{i}", at=NOON + timedelta(microseconds=i)) for i in range(4)))
    at = NOON + timedelta(microseconds=2)
    assert names(catalogue, filters={"created_at>=": at}) == ["3", "2"]
    assert names(catalogue, filters={"created_at<": at}) == ["1", "0"]
    assert names(
        catalogue, filters={"created_at>=": NOON, "created_at<": NOON + timedelta(seconds=1), "name": "3"}
    ) == ["3"]


@pytest.mark.parametrize(
    "filters",
    [
        {"colour": "red"},
        {"body": "x"},
        {"created_at": "today"},
        {"created_at>=": NOON.replace(tzinfo=None)},
        {"created_at~": NOON},
    ],
)
def test_what_cannot_be_compared_is_refused(catalogue, filters):
    with pytest.raises(InvalidInput):
        catalogue.list(Plan, Query(scope="p", filters=filters))


def test_an_unknown_column_names_those_there_are(catalogue):
    with pytest.raises(InvalidInput, match="id, project_id, created_at, status, provider_id, name, description"):
        catalogue.list(Plan, Query(scope="p", sort=(("colour", "asc"),)))


def test_what_a_record_does_not_say_is_found_as_nothing(catalogue):
    with_plan, without = add(catalogue, log(plan_id="x"), log())
    found = catalogue.list(OperationLog, Query(scope="p", filters={"plan_id": None}))
    assert [each.id for each in found] == [without.id]
    assert [each.id for each in catalogue.list(OperationLog, Query(scope="p", sort=(("plan_id", "asc"),)))] == [
        without.id,
        with_plan.id,
    ]


def test_a_long_name_is_kept_whole(catalogue):
    (record,) = add(catalogue, plan("n" * 300))
    assert catalogue.get(Plan, "p", record.id).name == "n" * 300


# Order and pages


def test_the_newest_comes_first(catalogue):
    add(catalogue, *(plan(f"{i}", at=NOON + timedelta(hours=i)) for i in (1, 3, 2)))
    assert names(catalogue) == ["3", "2", "1"]


ORDERS = [
    (),
    (("created_at", "desc"),),
    (("created_at", "asc"),),
    (("name", "asc"),),
    (("status", "desc"), ("name", "asc")),
    (("status", "asc"), ("created_at", "desc"), ("name", "desc")),
    (("id", "asc"),),
    (("name", "desc"), ("id", "asc")),
]


@pytest.mark.parametrize("sort", ORDERS)
def test_pages_add_up_to_the_whole(catalogue, sort):
    for name, status, hour in itertools.product(("", "a", "B"), ("started", "suspended"), (0, 1)):
        add(catalogue, *(plan(name, status=status, at=NOON + timedelta(hours=hour)) for _ in range(2)))
    add(catalogue, plan("foreign", project="q"))
    whole = catalogue.list(Plan, Query(scope="p", sort=sort))
    expected = list(whole)
    for column, direction in reversed((*sort, ("id", sort[-1][1] if sort else "desc"))):
        expected.sort(key=lambda each, column=column: getattr(each, column), reverse=direction == "desc")
    assert [each.id for each in whole] == [each.id for each in expected]
    paged, marker = [], ""
    while page := catalogue.list(Plan, Query(scope="p", sort=sort, limit=5, marker=marker)):
        paged += page
        marker = page[-1].id
    assert paged == whole
    assert catalogue.list(Plan, Query(scope="p", sort=sort, offset=3, limit=4)) == whole[3:7]
    assert catalogue.list(Plan, Query(scope="p", sort=sort, marker=whole[2].id, offset=2, limit=4)) == whole[5:9]


def test_pages_are_stable_while_records_come(catalogue):
    add(catalogue, *(plan(f"{i}", at=NOON + timedelta(hours=i)) for i in range(4)))
    first = catalogue.list(Plan, Query(scope="p", limit=2))
    add(catalogue, plan("new", at=NOON + timedelta(hours=9)))
    assert names(catalogue, marker=first[-1].id) == ["1", "0"]


def test_limits(catalogue):
    add(catalogue, plan())
    assert catalogue.list(Plan, Query(scope="p", limit=0)) == []
    assert len(catalogue.list(Plan, Query(scope="p", limit=10**9))) == 1
    for wrong in (Query(scope="p", limit=-1), Query(scope="p", offset=-1)):
        with pytest.raises(InvalidInput):
            catalogue.list(Plan, wrong)


def test_an_unknown_marker_is_not_found(catalogue):
    with pytest.raises(NotFound):
        catalogue.list(Plan, Query(scope="p", marker="unknown"))


# Runs


def test_the_newest_run_of_a_record(catalogue, database):
    journal = SqlJournal(database, Sealer(b"k" * 32))
    common = {"operation": "restore", "project_id": "p", "provider_id": "v", "checkpoint_id": "cp", "input": b""}
    for number in ("1", "2"):
        run = NewRun(id=f"run-{number}", object_id="restore", steps=(NewStep(action="x"),), **common)
        database.transact(lambda tx, run=run: journal.begin_run(tx, run))
    assert catalogue.run_of(Restore, "restore") == "run-2"
    assert catalogue.run_of(Checkpoint, "cp") == ""


def test_a_run_and_its_record_begin_together(catalogue, database):
    journal = SqlJournal(database, Sealer(b"k" * 32))
    record = checkpoint()

    def work(tx):
        catalogue.insert(tx, record)
        known = {
            "operation": "protect",
            "project_id": "p",
            "provider_id": "v",
            "input": b"",
            "steps": (NewStep(action="x"),),
        }
        journal.begin_run(tx, NewRun(id="run", checkpoint_id=record.id, object_id=record.id, **known))
        raise InvalidInput("after both")

    with pytest.raises(InvalidInput):
        catalogue.transact(work)
    assert journal.run("run") is None
    assert catalogue.list(Checkpoint, Query(scope="p")) == []
