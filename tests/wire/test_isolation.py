"""Every route of the table by a foreign project and each role: nothing leaks, nothing is done."""

from __future__ import annotations

import http.client
import json
import time

import pytest

from karbor.api.policy import ADMIN, list_rules
from karbor.api.routes import ROUTES
from karbor.wire import administration, schedules
from karbor.wire import requests as bodies

P, P2 = "4" * 32, "2" * 32
PROVIDER = "cf56bd3e-97a7-4078-b6d5-f36246333fd9"
VOLUME = "a1a1a1a1-0000-4000-8000-000000000001"
ADMINISTRATORS = {rule.name for rule in list_rules() if rule.check_str == ADMIN}
BELOW_A_PROJECT = [route for route in ROUTES if not route.public]


@pytest.fixture(scope="session")
def send(port):
    def request(method, path, token, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    return request


@pytest.fixture(scope="session")
def own(send):
    """One finished thing of every kind in project P, made by its member; ids by the name that paths use."""

    def done(path, key):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = json.loads(send("GET", path, "m4")[1])[key]
            if found["status"] not in {"protecting", "in_progress"}:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{path} does not end")

    def make(path, key, body):
        status, text = send("POST", f"/v1/{P}{path}", "m4", {key: body})
        assert status == 200, text
        return json.loads(text)[key]["id"]

    resources = [{"id": VOLUME, "type": "OS::Cinder::Volume", "name": "secret volume"}]
    plan = {"name": "secret plan", "provider_id": PROVIDER, "parameters": {}, "resources": resources}
    ids = {"project_id": P, "provider_id": PROVIDER, "type": "OS::Cinder::Volume", "instance": VOLUME}
    ids["plan_id"] = make("/plans", "plan", plan)
    checkpoints = f"/providers/{PROVIDER}/checkpoints"
    ids["checkpoint_id"] = make(checkpoints, "checkpoint", {"plan_id": ids["plan_id"]})
    assert done(f"/v1/{P}{checkpoints}/{ids['checkpoint_id']}", "checkpoint")["status"] == "available"
    read = {"provider_id": PROVIDER, "checkpoint_id": ids["checkpoint_id"], "parameters": {}}
    ids["restore_id"] = make("/restores", "restore", read)
    ids["verification_id"] = make("/verifications", "verification", read)
    done(f"/v1/{P}/restores/{ids['restore_id']}", "restore")
    done(f"/v1/{P}/verifications/{ids['verification_id']}", "verification")
    logs = json.loads(send("GET", f"/v1/{P}/operation_logs?plan_id={ids['plan_id']}", "m4")[1])["operation_logs"]
    ids["operation_log_id"] = logs[0]["id"]
    trigger = {"name": "secret trigger", "type": "time", "properties": {"format": "crontab", "pattern": "0 3 * * *"}}
    ids["trigger_id"] = make("/triggers", "trigger_info", trigger)
    what = {"plan_id": ids["plan_id"], "provider_id": PROVIDER}
    order = {"name": "secret order", "operation_type": "protect", "trigger_id": ids["trigger_id"]}
    order["operation_definition"] = what
    ids["scheduled_operation_id"] = make("/scheduled_operations", "scheduled_operation", order)
    ids |= {"project": P, "name": "default", "service": "1"}
    return ids


def body_of(route, own):
    """A valid body that names what belongs to project P."""
    resources = [{"id": VOLUME, "type": "OS::Cinder::Volume", "name": "v"}]
    read = {"provider_id": PROVIDER, "checkpoint_id": own["checkpoint_id"], "parameters": {}}
    inner = {
        bodies.PlanCreate: {"name": "n", "provider_id": PROVIDER, "parameters": {}, "resources": resources},
        bodies.PlanUpdate: {"name": "taken over"},
        bodies.CheckpointCreate: {"plan_id": own["plan_id"]},
        bodies.CheckpointReset: {"state": "error"},
        bodies.RestoreCreate: read,
        bodies.VerificationCreate: read,
        bodies.Cancel: {"os-cancel": None},
        bodies.CheckpointAction: {"os-undelete": None},
        administration.CopyCreate: {"plan_id": own["plan_id"]},
        administration.QuotaUpdate: {"plans": 1},
        administration.ServiceUpdate: {"status": "disabled"},
        schedules.TriggerCreate: {
            "name": "n",
            "type": "time",
            "properties": {"format": "crontab", "pattern": "0 3 * * *"},
        },
        schedules.TriggerUpdate: {"name": "taken over"},
        schedules.ScheduledOperationCreate: {
            "name": "n",
            "operation_type": "protect",
            "trigger_id": own["trigger_id"],
            "operation_definition": {"plan_id": own["plan_id"], "provider_id": PROVIDER},
        },
        None: None,
    }[route.body]
    return {route.body_key: inner} if route.body_key else inner


def address(route, own, project):
    query = "?resource=OS::Cinder::Volume%23" + VOLUME if "resource" in route.required else ""
    return route.template.format(**{**own, "project_id": project}) + query


def named(route):
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", BELOW_A_PROJECT, ids=named)
def test_a_foreign_project_sees_and_does_nothing(send, own, route):
    status, text = send(route.method, address(route, own, P2), "m2", body_of(route, own))
    things = ("plan", "checkpoint", "restore", "verification", "operation_log", "trigger", "scheduled_operation")
    concerned = any(f"{{{thing}_id}}" in route.path for thing in things)
    if route.rule in ADMINISTRATORS or route.rule == "quota:get":
        assert status == 403, text
    elif concerned or route.body not in {None, bodies.PlanCreate, schedules.TriggerCreate}:
        assert status == 404, text
    else:
        assert status == 200, text
    assert "secret" not in text
    leaked = {name for name, ident in own.items() if name.endswith("_id") and name != "provider_id" and ident in text}
    in_the_request = {name for name, ident in own.items() if ident in address(route, own, P2)}
    in_the_request |= {name for name, ident in own.items() if ident in json.dumps(body_of(route, own))}
    assert leaked <= in_the_request, text


@pytest.mark.parametrize("route", BELOW_A_PROJECT, ids=named)
def test_nobody_enters_by_another_projects_address(send, own, route):
    status, text = send(route.method, address(route, own, P), "m2", body_of(route, own))
    assert status == 400, text
    assert "secret" not in text


@pytest.mark.parametrize("route", BELOW_A_PROJECT, ids=named)
def test_without_a_role_nothing_is_allowed(send, own, route):
    status, text = send(route.method, address(route, own, P), "x4", body_of(route, own))
    assert status == 403, text
    assert route.rule in text


@pytest.mark.parametrize("route", [route for route in BELOW_A_PROJECT if route.method != "GET"], ids=named)
def test_a_reader_changes_nothing(send, own, route):
    status, text = send(route.method, address(route, own, P), "r4", body_of(route, own))
    assert status == 403, text


@pytest.mark.parametrize("route", [route for route in BELOW_A_PROJECT if route.method == "GET"], ids=named)
def test_a_reader_reads_all_but_the_data(send, own, route):
    status, text = send(route.method, address(route, own, P), "r4", None)
    data = route.rule in {"provider:checkpoint_entries", "provider:checkpoint_content"}
    assert status == (403 if data or route.rule in ADMINISTRATORS else 200), text


@pytest.mark.parametrize("route", BELOW_A_PROJECT, ids=named)
def test_without_a_token_nothing_at_all(send, own, route):
    assert send(route.method, address(route, own, P), "no such token", body_of(route, own))[0] == 401


def test_after_all_that_everything_is_as_it_was(send, own):
    plan = json.loads(send("GET", f"/v1/{P}/plans/{own['plan_id']}", "m4")[1])["plan"]
    assert plan["name"] == "secret plan"
    checkpoint = send("GET", f"/v1/{P}/providers/{PROVIDER}/checkpoints/{own['checkpoint_id']}", "m4")[1]
    assert json.loads(checkpoint)["checkpoint"]["status"] == "available"
