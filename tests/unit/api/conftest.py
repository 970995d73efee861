"""The application over a stub of the protection service: these tests are about the wire, not about protecting."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import falcon.testing
import msgspec
import pytest
from oslo_config import cfg

from karbor.api.application import build_application
from karbor.api.auth import StaticAuth
from karbor.api.policy import OsloPolicy
from karbor.api.route import Services
from karbor.domain.checkpoint import Checkpoint, ResourceState
from karbor.domain.context import Caller
from karbor.domain.operation import OperationLog, Progress, Restore, Verification
from karbor.domain.plan import Plan
from karbor.domain.preflight import Preflight, PreflightItem
from karbor.domain.resource import Resource
from karbor.errors import NotFound
from karbor.protection.inventory import Instance
from karbor.protection.offer import ProviderView
from karbor.sdk.vault import Entry

P, P2 = "1" * 32, "2" * 32
PROVIDER = "b766f37c-d011-4026-8228-28730d734a3f"
PLAN = "f0e34d2c-70e2-4d1c-8d5b-6d4a4a1b7d01"
CHECKPOINT = "0857c1f0-13b4-4a60-a1f7-0f6f3a3b9a02"
OTHER = "11111111-2222-4333-8444-555555555555"
NOW = dt.datetime(2026, 11, 22, 13, 19, 37, 281947, dt.UTC)
VOLUME = Resource(type="OS::Cinder::Volume", id="a1", name="vol1", extra_info={"availability_zone": "nova"})

RECORDS = {
    Plan: Plan(
        id=PLAN,
        project_id=P,
        name="web tier",
        provider_id=PROVIDER,
        resources=(VOLUME,),
        parameters={"OS::Cinder::Volume": {"force": True}},
        created_at=NOW,
    ),
    Checkpoint: Checkpoint(
        id=CHECKPOINT,
        project_id=P,
        provider_id=PROVIDER,
        plan_id=PLAN,
        plan_name="web tier",
        status="available",
        created_at=NOW,
        resources=(VOLUME,),
        extra_info={"created_by": "manual"},
        states=(ResourceState(key=VOLUME.key, status="available", data_location="bank"),),
    ),
    Restore: Restore(
        id=OTHER,
        project_id=P,
        provider_id=PROVIDER,
        checkpoint_id=CHECKPOINT,
        parameters={},
        status="success",
        created_at=NOW,
    ),
    Verification: Verification(
        id=OTHER,
        project_id=P,
        provider_id=PROVIDER,
        checkpoint_id=CHECKPOINT,
        parameters={},
        status="success",
        created_at=NOW,
    ),
    OperationLog: OperationLog(
        id=OTHER, project_id=P, operation_type="protect", status="available", provider_id=PROVIDER, started_at=NOW
    ),
}


class StubCatalogue:
    """Holds one record of each kind and remembers what it was asked."""

    def __init__(self):
        self.records = dict(RECORDS)
        self.queries = []

    def list(self, kind, query):
        self.queries.append(query)
        record = self.records.get(kind)
        return [record] if record and query.scope in {record.project_id, "*"} else []

    def get(self, kind, scope, ident):
        record = self.records[kind]
        if record.id != ident or scope not in {record.project_id, "*"}:
            raise NotFound(f"{ident} could not be found")
        return record


class StubService:
    """Answers at once, and remembers how it was called."""

    def __init__(self):
        self.catalogue = StubCatalogue()
        self.calls = []
        self.content = bytes(range(256)) * 8

    def runs_commands(self, caller, plan_id):
        return False

    def _note(self, called, *args, **kwargs):
        self.calls.append((called, args, kwargs))

    def types(self):
        return ["OS::Cinder::Volume", "OS::Nova::Server"]

    def dependent_types(self, kind):
        return ["OS::Cinder::Volume"] if kind == "OS::Nova::Server" else []

    def instances(self, caller, kind):
        return [Instance(Resource(type=kind, id=name, name=name), ()) for name in ("a", "b", "c")]

    def instance(self, caller, kind, ident):
        return Instance(Resource(type=kind, id=ident, name=ident), (VOLUME,))

    def providers(self, caller):
        return [self.provider(caller, PROVIDER)]

    def provider(self, caller, provider_id):
        if provider_id != PROVIDER:
            raise NotFound(f"Provider {provider_id} could not be found.")
        return ProviderView(
            id=PROVIDER,
            name="No-Op Provider",
            description="",
            options_schema={},
            restore_schema={},
            saved_info_schema={},
            verify_schema={},
            bank={"encrypted": True},
        )

    def create_plan(self, caller, **given):
        self._note("create_plan", **given)
        return msgspec.structs.replace(RECORDS[Plan], name=given["name"])

    def update_plan(self, caller, plan_id, **given):
        self._note("update_plan", plan_id, **given)
        return RECORDS[Plan]

    def delete_plan(self, caller, plan_id):
        self.catalogue.get(Plan, caller.project_id, plan_id)

    def protect(self, caller, provider_id, plan_id, extra_info):
        self._note("protect", provider_id, plan_id, extra_info)
        return msgspec.structs.replace(RECORDS[Checkpoint], status="protecting")

    def preflight_protect(self, caller, provider_id, plan_id):
        return Preflight(items=(PreflightItem(resource=VOLUME.key, action="read", what="vol1", estimated_bytes=5),))

    def checkpoint(self, caller, provider_id, checkpoint_id):
        return self.catalogue.get(Checkpoint, "*" if caller.is_admin else caller.project_id, checkpoint_id)

    def delete_checkpoint(self, caller, provider_id, checkpoint_id):
        self._note("delete_checkpoint", provider_id, checkpoint_id)

    def reset_checkpoint(self, caller, provider_id, checkpoint_id, state):
        self._note("reset_checkpoint", provider_id, checkpoint_id, state)

    def restore(self, caller, **given):
        self._note("restore", **given)
        return RECORDS[Restore]

    def preflight_restore(self, caller, **given):
        self._note("preflight_restore", **given)
        return Preflight(items=(PreflightItem(resource=VOLUME.key, action="refuse", what="vol1", reason="exists"),))

    def verify(self, caller, **given):
        self._note("verify", **given)
        return RECORDS[Verification]

    def cancel(self, caller, kind, ident):
        self._note("cancel", kind, ident)

    def progress(self, caller, kind, ident):
        return Progress(done_bytes=1, total_bytes=2, current="vol1")

    def entries(self, caller, provider_id, checkpoint_id, resource_key, path):
        self._note("entries", resource_key, path)
        return [Entry(name="plain", type="file", size=3), Entry(name="bad\udcff", type="file")]

    def open(self, caller, provider_id, checkpoint_id, resource_key, path):
        self._note("open", resource_key, path)
        return SimpleNamespace(size=len(self.content), read=lambda offset, length: self.content[offset:][:length])


class FixedClock:
    def now(self):
        return NOW

    def monotonic(self):
        return 0.0

    def sleep(self, seconds):
        raise AssertionError("nothing here waits")


@pytest.fixture
def service():
    return StubService()


@pytest.fixture(scope="session")
def policy():
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    return OsloPolicy(conf)


@pytest.fixture
def app(service, policy):
    callers = {
        "member": Caller(user_id="u1", project_id=P, roles=("member", "reader")),
        "reader": Caller(user_id="u2", project_id=P, roles=("reader",)),
        "nobody": Caller(user_id="u3", project_id=P, roles=("other",)),
        "foreign": Caller(user_id="u4", project_id=P2, roles=("member", "reader")),
        "admin": Caller(user_id="u5", project_id=P, roles=("admin",)),
    }
    return build_application(
        Services(protection=service, schedules=None, quotas=None, programs=None),
        StaticAuth(callers),
        policy,
        clock=FixedClock(),
        max_body=100_000,
        request_ids=lambda: "req-1",
    )


@pytest.fixture
def send(app):
    """`send(method, path below the project, token=…)` → falcon's result."""
    client = falcon.testing.TestClient(app)

    def request(method, path, *, token="member", project=P, **options):
        headers = {"X-Auth-Token": token, **options.pop("headers", {})}
        place, _, query = f"/v1/{project}{path}".partition("?")
        return client.simulate_request(method, place, query_string=query, headers=headers, **options)

    return request
