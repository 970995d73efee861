from __future__ import annotations

import logging

import falcon.testing
import pytest

from karbor.domain.plan import Plan
from karbor.errors import Conflict, Damaged, OverLimit, Unavailable

P, P2 = "1" * 32, "2" * 32
PLAN = "f0e34d2c-70e2-4d1c-8d5b-6d4a4a1b7d01"
PROVIDER = "b766f37c-d011-4026-8228-28730d734a3f"
CHECKPOINT = "0857c1f0-13b4-4a60-a1f7-0f6f3a3b9a02"
GOOD_PLAN = {
    "name": "n",
    "provider_id": PROVIDER,
    "parameters": {},
    "resources": [{"id": "1", "type": "t", "name": "r"}],
}


def fault(result):
    ((name, value),) = result.json.items()
    return name, value


def test_versions_need_no_token(app):
    result = falcon.testing.TestClient(app).simulate_get("/")
    assert result.status_code == 300
    (version,) = result.json["versions"]
    assert version["id"] == "v1.0"
    assert version["status"] == "CURRENT"
    assert version["links"] == [{"rel": "self", "href": "http://falconframework.org/v1/"}]


def test_health_needs_no_token_and_says_why_not(app, service):
    client = falcon.testing.TestClient(app)
    assert client.simulate_get("/healthcheck").json == {"status": "ok"}

    def gone(kind, query):
        raise Unavailable("the database does not answer")

    service.catalogue.list = gone
    result = client.simulate_get("/healthcheck")
    assert result.status_code == 503
    assert fault(result) == (
        "serviceUnavailable",
        {"code": 503, "message": "the database does not answer", "error": "unavailable"},
    )


@pytest.mark.parametrize("path", ["/v1", "/v1/", f"/v1/{P}/plans", f"/v1/{P}/nosuch"])
def test_without_token_401(app, path):
    result = falcon.testing.TestClient(app).simulate_get(path)
    assert result.status_code == 401
    assert result.headers["www-authenticate"] == "Token"
    assert fault(result)[0] == "unauthorized"


def test_request_id_in_every_answer(send):
    for path in ("/plans", "/nosuch"):
        headers = send("GET", path).headers
        assert headers["x-openstack-request-id"] == headers["x-compute-request-id"] == "req-1"


def test_foreign_project_in_the_address_is_400_for_administrators_too(send):
    for token in ("member", "admin"):
        result = send("GET", "/plans", token=token, project=P2)
        assert result.status_code == 400
        assert fault(result)[1]["message"] == "Malformed request url"


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/nosuch", 404, "itemNotFound"),
        ("GET", f"/plans/{PLAN}/edit", 404, "itemNotFound"),
        ("GET", "/plans/new", 404, "itemNotFound"),
        ("GET", "/plans/abc", 400, "badRequest"),
        ("PATCH", f"/plans/{PLAN}", 405, "badMethod"),
        ("DELETE", f"/restores/{PLAN}", 404, "itemNotFound"),
        ("PUT", f"/restores/{PLAN}", 404, "itemNotFound"),
        ("DELETE", f"/restores/{PLAN}/progress", 405, "badMethod"),
        ("POST", f"/plans/{PLAN}/action", 404, "itemNotFound"),
    ],
)
def test_unknown_places_and_methods(send, method, path, status, name):
    result = send(method, path)
    assert result.status_code == status
    assert fault(result)[0] == name
    assert result.headers["content-type"] == "application/json"


def test_suffix_json_and_final_slash(send):
    assert send("GET", "/plans.json").json == send("GET", "/plans").json == send("GET", "/plans/").json
    assert send("GET", f"/plans/{PLAN}.json").json["plan"]["id"] == PLAN


@pytest.mark.parametrize("spelling", [PLAN.upper(), PLAN.replace("-", ""), f"urn:uuid:{PLAN}", "{" + PLAN + "}"])
def test_identifiers_in_any_spelling(send, spelling):
    assert send("GET", f"/plans/{spelling}").json["plan"]["id"] == PLAN


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ("{bad", "application/json", None),
        ('{"plan": {"parameters": ' + '{"a": ' * 5000, "application/json", None),
        ("[]", "application/json", None),
        ('{"zz": 1}', "application/json", "zz"),
        ("{}", "application/json", "plan"),
        ("{}", "text/plain", "Content-Type"),
        ("{}", None, "Content-Type"),
        ('{"plan": {"name": null}}', "application/json", "plan.name"),
        ('{"plan": {"name": "\\ud800"}}', "application/json", None),
    ],
)
def test_bad_bodies_are_400_and_name_the_field(send, body, kind, field):
    headers = {"Content-Type": kind} if kind else {}
    result = send("POST", "/plans", body=body, headers=headers)
    assert result.status_code == 400
    name, value = fault(result)
    assert name == "badRequest"
    assert value.get("field") == field
    assert value["error"] == "invalid_input"


def test_content_type_may_have_parameters(send):
    result = send(
        "POST", "/plans", json={"plan": GOOD_PLAN}, headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert result.status_code == 200


def test_too_large_a_body_is_413(send):
    result = send("POST", "/plans", body=" " * 100_001, headers={"Content-Type": "application/json"})
    assert result.status_code == 413
    assert fault(result)[0] == "overLimit"


def test_quota_has_v1s_retry_after(send, service):
    def full(*args, **kwargs):
        raise OverLimit("Maximum number of plans allowed (1) exceeded")

    service.create_plan = full
    result = send("POST", "/plans", json={"plan": GOOD_PLAN})
    assert result.status_code == 413
    assert result.headers["retry-after"] == "0"
    assert fault(result)[1]["retryAfter"] == "0"


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [(Conflict("busy"), 409, "conflictingRequest"), (Damaged("k", "cut"), 500, "computeFault")],
)
def test_errors_of_the_service_keep_their_code(send, service, error, status, name):
    def fails(*args):
        raise error

    service.delete_checkpoint = fails
    result = send("DELETE", f"/providers/{PROVIDER}/checkpoints/{CHECKPOINT}")
    assert result.status_code == status
    assert fault(result)[0] == name
    assert fault(result)[1]["error"] == error.code


def test_the_unexpected_is_logged_and_shows_nothing(send, service, caplog):
    def fails(*args):
        raise ZeroDivisionError("secret detail")

    service.catalogue.list = fails
    result = send("GET", "/plans")
    assert result.status_code == 500
    assert "secret" not in result.text
    assert "ZeroDivisionError: secret detail" in caplog.text


def test_access_log_has_no_query(send, caplog):
    caplog.set_level(logging.INFO, "karbor.api.access")
    send("GET", "/plans?name=secret")
    assert caplog.messages == [f"GET /v1/{P}/plans 200 0.0 ms req-1 user=u1 project={P}"]


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        ("reader", "GET", "/plans", 200),
        ("reader", "DELETE", f"/plans/{PLAN}", 403),
        ("nobody", "GET", "/plans", 403),
        ("admin", "DELETE", f"/plans/{PLAN}", 200),
    ],
)
def test_roles(send, token, method, path, status):
    result = send(method, path, token=token)
    assert result.status_code == status
    if status == 403:
        assert fault(result)[0] == "forbidden"


def test_bad_body_precedes_policy_as_in_v1(send):
    assert send("POST", "/plans", token="reader", json={}).status_code == 400
    assert send("POST", "/plans", token="reader", json={"plan": GOOD_PLAN}).status_code == 403


def test_an_empty_answer_has_no_body(send):
    result = send("DELETE", f"/plans/{PLAN}")
    assert (result.status_code, result.content) == (200, b"")
    assert result.headers["content-type"] == "application/json"
    assert result.headers["content-length"] == "0"


def test_a_foreign_object_does_not_exist(send):
    assert send("GET", f"/plans/{PLAN}", token="foreign", project=P2).status_code == 404


def test_administrators_see_foreign_objects(send, service):
    import msgspec

    service.catalogue.records[Plan] = msgspec.structs.replace(service.catalogue.records[Plan], project_id=P2)
    assert send("GET", f"/plans/{PLAN}", token="admin").status_code == 200
    assert send("GET", f"/plans/{PLAN}").status_code == 404


def test_requests_that_wait_for_a_cloud_leave_threads_to_others(service, policy):
    import threading

    from karbor.api.application import build_application
    from karbor.api.auth import StaticAuth
    from karbor.api.route import Services
    from karbor.domain.context import Caller

    reached, free = threading.Event(), threading.Event()

    def slow(caller, kind):
        reached.set()
        free.wait(10)
        return []

    service.instances = slow
    auth = StaticAuth({"t": Caller(user_id="u", project_id=P, roles=("member",))})
    clock = type("Clock", (), {"monotonic": staticmethod(lambda: 0.0)})()
    services = Services(protection=service, schedules=None, quotas=None, programs=None)
    client = falcon.testing.TestClient(build_application(services, auth, policy, clock=clock, cloud_slots=1))

    def get(path):
        return client.simulate_get(f"/v1/{P}{path}", headers={"X-Auth-Token": "t"}).status_code

    instances = "/protectables/OS::Nova::Server/instances"
    waiting = threading.Thread(target=get, args=(instances,))
    waiting.start()
    assert reached.wait(10)
    assert get(instances) == 503
    assert get("/plans") == 200
    free.set()
    waiting.join()
    assert get(instances) == 200
