"""The catalogue rebuilt from repositories alone: real repositories in a folder, a real SQLite database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.databases import upgraded

from karbor.bank.checkpoints import load_manifest, prepare, tombstone
from karbor.bank.manifest import Manifest, Meta, Place
from karbor.bank.stores.filesystem import open_bank
from karbor.bank.vault.repository import Repository
from karbor.db.catalogue import SqlCatalogue
from karbor.domain.checkpoint import Checkpoint, ResourceState
from karbor.domain.graph import ResourceGraph
from karbor.domain.plan import Plan
from karbor.domain.resource import Resource
from karbor.protection.catalogue import EVERY_PROJECT, Query
from karbor.protection.recovery import recover
from karbor.system import SystemClock

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
RESOURCE = Resource(type="Karbor::Host::Directory", id="d1d1d1d1-0000-4000-8000-000000000001", name="/srv")
STATE = ResourceState(key=RESOURCE.key, status="available", data_location="bank", logical_bytes=10, added_bytes=7)


@pytest.fixture
def repository(tmp_path):
    return Repository.create(open_bank({"path": str(tmp_path / "bank")}), "prov/p1-g1/", "secret", clock=SystemClock())


@pytest.fixture
def catalogue(tmp_path):
    database = upgraded(f"sqlite:///{tmp_path / 'karbor.db'}")
    yield SqlCatalogue(database)
    database.close()


def commit(repository, number: int, *, plan: str = "plan-1", parameters=None) -> tuple[Manifest, str]:
    manifest = Manifest(
        checkpoint_id=f"c0ffee{number:02}-0000-4000-8000-000000000000",
        provider_id="prov",
        plan_id=plan,
        plan_name=f"name of {plan}",
        place=Place(project_id="p1", host="here"),
        created_at=START + timedelta(hours=number),
        finished_at=START + timedelta(hours=number, minutes=1),
        resources=(RESOURCE,),
        parameters=parameters or {},
        graph=ResourceGraph(resources=(RESOURCE,), children=((),)),
        states=(STATE,),
        trees={},
        extra_info={"created_by": "manual"},
        survives=("resource",),
        warnings=("one device",),
    )
    meta = Meta(resource=RESOURCE, plugin="test", plugin_version="1", saved={})
    with repository.writer() as writer:
        whole, prepared = prepare(writer, manifest, {RESOURCE.key: meta}, {})
    repository.put_snapshot(prepared.snapshot_id, prepared.sealed)
    return whole, prepared.snapshot_id


def every(catalogue, kind):
    return catalogue.list(kind, Query(scope=EVERY_PROJECT, sort=(("created_at", "asc"),)))


def test_checkpoints_and_plans_come_back_as_they_were(repository, catalogue):
    first, first_id = commit(repository, 1)
    second, second_id = commit(repository, 2, parameters={RESOURCE.type: {"keep": True}})
    other, _ = commit(repository, 3, plan="plan-2")
    done = recover(catalogue, repository)
    assert (done.checkpoints, done.deleted, done.plans, done.present, done.unreadable) == (3, 0, 2, 0, ())
    records = every(catalogue, Checkpoint)
    assert [record.id for record in records] == [manifest.checkpoint_id for manifest in (first, second, other)]
    assert [record.snapshot_id for record in records[:2]] == [first_id, second_id]
    assert {record.status for record in records} == {"available"}
    assert (records[0].graph, records[0].states, records[0].survives) == (first.graph, (STATE,), ("resource",))
    assert load_manifest(repository, records[0].snapshot_id) == first
    plans = {plan.id: plan for plan in every(catalogue, Plan)}
    assert plans["plan-1"].parameters == {RESOURCE.type: {"keep": True}}
    assert (plans["plan-1"].name, plans["plan-1"].created_at) == ("name of plan-1", first.created_at)


def test_it_may_be_repeated_and_changes_nothing_that_is_there(repository, catalogue):
    _first, _ = commit(repository, 1)
    recover(catalogue, repository)
    (record,) = every(catalogue, Checkpoint)
    changed = msgspec.structs.replace(record, verify_level="data")
    catalogue.transact(lambda tx: catalogue.replace(tx, changed))
    _second, _ = commit(repository, 2)
    done = recover(catalogue, repository)
    assert (done.checkpoints, done.plans, done.present) == (1, 0, 1)
    assert [record.verify_level for record in every(catalogue, Checkpoint)] == ["data", "committed"]


def test_a_deleted_checkpoint_comes_back_as_deleted(repository, catalogue):
    _, snapshot_id = commit(repository, 1)
    stone = tombstone(repository, snapshot_id, START + timedelta(days=1))
    repository.put_snapshot(stone.snapshot_id, stone.sealed)
    repository.forget(snapshot_id)
    assert recover(catalogue, repository).deleted == 1
    (record,) = every(catalogue, Checkpoint)
    assert (record.status, record.snapshot_id) == ("deleted", stone.snapshot_id)


def test_a_deletion_that_was_cut_off_has_not_happened(repository, catalogue):
    _, snapshot_id = commit(repository, 1)
    stone = tombstone(repository, snapshot_id, START + timedelta(days=1))
    repository.put_snapshot(stone.snapshot_id, stone.sealed)
    done = recover(catalogue, repository)
    (record,) = every(catalogue, Checkpoint)
    assert (done.checkpoints, record.status, record.snapshot_id) == (1, "available", snapshot_id)


def test_what_cannot_be_read_is_named_and_hides_nothing_else(repository, catalogue, tmp_path):
    commit(repository, 1)
    kept = {path for path in (tmp_path / "bank").rglob("data/*/*") if path.is_file()}
    broken, _ = commit(repository, 2, plan="plan-2")
    for pack in {path for path in (tmp_path / "bank").rglob("data/*/*") if path.is_file()} - kept:
        pack.unlink()
    done = recover(catalogue, repository)
    assert done.checkpoints == 1
    (problem,) = done.unreadable
    assert problem.startswith(f"checkpoint {broken.checkpoint_id}: bank object prov/p1-g1/data/")
