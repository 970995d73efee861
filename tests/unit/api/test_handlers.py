from __future__ import annotations

import msgspec
import pytest

from karbor.domain.checkpoint import Checkpoint

P = "1" * 32
PROVIDER = "b766f37c-d011-4026-8228-28730d734a3f"
PLAN = "f0e34d2c-70e2-4d1c-8d5b-6d4a4a1b7d01"
CHECKPOINT = "0857c1f0-13b4-4a60-a1f7-0f6f3a3b9a02"
OTHER = "11111111-2222-4333-8444-555555555555"
PLACE = f"/providers/{PROVIDER}/checkpoints/{CHECKPOINT}"
KEY = "OS::Cinder::Volume#a1"
RESOURCE = {"id": "a1", "type": "OS::Cinder::Volume", "name": "vol1", "extra_info": {"availability_zone": "nova"}}


def plan_body(**changes):
    body = {"name": "n", "provider_id": PROVIDER, "parameters": {}, "resources": [RESOURCE], **changes}
    return {"plan": {name: value for name, value in body.items() if value is not ...}}


def test_plan_on_the_wire(send):
    assert send("GET", f"/plans/{PLAN}").json == {
        "plan": {
            "id": PLAN,
            "name": "web tier",
            "description": None,
            "provider_id": PROVIDER,
            "status": "suspended",
            "resources": [RESOURCE],
            "parameters": {"OS::Cinder::Volume": {"force": True}},
            "created_at": "2026-11-22T13:19:37.281947Z",
        }
    }


def test_create_plan_hands_over_what_was_meant(send, service):
    parameters = {"OS::Cinder::Volume": {"force": False, "name": None}, "OS::Nova::Server": None}
    resources = [{**RESOURCE, "zz": 1, "extra_info": '{"a": 1}'}, {"id": "2", "type": "t", "name": None}]
    assert send("POST", "/plans", json=plan_body(parameters=parameters, resources=resources)).status_code == 200
    ((_, _, given),) = service.calls
    assert given["parameters"] == {"OS::Cinder::Volume": {"force": False}}
    assert given["resources"][0].extra_info == {"a": 1}
    assert given["resources"][1].name == ""


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ...}, "plan.name"),
        ({"name": None}, "plan.name"),
        ({"name": ""}, "plan.name"),
        ({"name": "   "}, "plan.name"),
        ({"name": "a\x00"}, "plan.name"),
        ({"name": "x" * 256}, "plan.name"),
        ({"description": "x" * 256}, "plan.description"),
        ({"description": "a\nb"}, "plan.description"),
        ({"provider_id": "abc"}, "plan.provider_id"),
        ({"provider_id": ...}, "plan.provider_id"),
        ({"resources": ...}, "plan.resources"),
        ({"resources": [{"id": "1", "type": "t"}]}, "plan.resources[0].name"),
        ({"resources": [{"id": "1", "type": "t", "name": "n", "extra_info": 1}]}, "plan.resources[0].extra_info"),
        ({"parameters": ...}, "plan.parameters"),
        ({"parameters": None}, "plan.parameters"),
        ({"parameters": {"OS::X": {"a": {}}}}, "plan.parameters.OS::X.a"),
        ({"parameters": {"OS::X": {"a": 1.5}}}, "plan.parameters.OS::X.a"),
        ({"parameters": {"OS::X": 1}}, "plan.parameters.OS::X"),
        ({"parameters": {"OS::X#abc": {}}}, "plan.parameters"),
        ({"parameters": {"OS::X#a#b": {}}}, "plan.parameters"),
        ({"parameters": {"/": {}}}, "plan.parameters"),
        ({"zz": 1}, "plan.zz"),
    ],
)
def test_bad_plans_name_the_field(send, changes, field):
    result = send("POST", "/plans", json=plan_body(**changes))
    assert result.status_code == 400
    assert result.json["badRequest"]["field"] == field, result.json
    assert "regex" not in result.json["badRequest"]["message"]


def test_update_plan_changes_only_what_was_given(send, service):
    assert send("PUT", f"/plans/{PLAN}", json={"plan": {"name": "x"}}).status_code == 200
    assert send("PUT", f"/plans/{PLAN}", json={"plan": {"description": None, "resources": []}}).status_code == 200
    first, second = (given for _, _, given in service.calls)
    assert first.pop("description") is not None  # unset
    assert first == {"name": "x"}
    assert second == {"description": None, "resources": []}
    assert send("PUT", f"/plans/{PLAN}", json={"plan": {}}).status_code == 400
    assert send("PUT", f"/plans/{PLAN}", json={"plan": {"parameters": {}}}).status_code == 400


def test_checkpoint_on_the_wire(send):
    checkpoint = send("GET", PLACE).json["checkpoint"]
    assert checkpoint["resource_graph"] == "[{}, []]"
    assert checkpoint["created_at"] == "2026-11-22"
    assert checkpoint["created_at_precise"] == "2026-11-22T13:19:37.281947Z"
    assert checkpoint["extra_info"] == '{"created_by": "manual"}'
    assert checkpoint["protection_plan"] == {
        "id": PLAN,
        "name": "web tier",
        "provider_id": PROVIDER,
        "resources": [{**RESOURCE, "extra_info": '{"availability_zone": "nova"}'}],
    }
    assert checkpoint["resources_status"] == {KEY: "available"}
    assert "progress" not in checkpoint


@pytest.mark.parametrize("spelling", ["extra-info", "extra_info"])
def test_both_spellings_of_extra_info(send, service, spelling):
    body = {"checkpoint": {"plan_id": PLAN.replace("-", ""), spelling: {"k": "v", "none": None}}}
    answer = send("POST", f"/providers/{PROVIDER}/checkpoints", json=body)
    assert answer.json["checkpoint"]["status"] == "protecting"
    assert service.calls == [("protect", (PROVIDER, PLAN, {"k": "v"}), {})]


def test_null_extra_info(send):
    body = {"checkpoint": {"plan_id": PLAN, "extra-info": None}}
    assert send("POST", f"/providers/{PROVIDER}/checkpoints", json=body).status_code == 200


@pytest.mark.parametrize("body", [{"plan_id": "abc"}, {}, {"plan_id": PLAN, "extra-info": {"a": []}}])
def test_bad_checkpoints(send, body):
    assert send("POST", f"/providers/{PROVIDER}/checkpoints", json={"checkpoint": body}).status_code == 400


def test_dry_runs_create_nothing(send, service):
    body = {"checkpoint": {"plan_id": PLAN}}
    answer = send("POST", f"/providers/{PROVIDER}/checkpoints?dry_run=true", json=body)
    item = {"resource": KEY, "action": "read", "what": "vol1", "reason": "", "estimated_bytes": 5}
    assert answer.json == {"preflight": {"items": [item], "estimated_bytes": 5, "refused": False}}
    body = {"restore": {"provider_id": PROVIDER, "checkpoint_id": CHECKPOINT, "parameters": {}}}
    assert send("POST", "/restores?dry_run=True", json=body).json["preflight"]["refused"] is True
    assert [name for name, _, _ in service.calls] == ["preflight_restore"]
    assert send("POST", "/restores?dry_run=maybe", json=body).status_code == 400


def test_reset_and_delete(send, service):
    assert send("PUT", PLACE, json={"os-resetState": {"state": "error"}}).json == {}
    assert send("DELETE", PLACE).json == {}
    assert [name for name, _, _ in service.calls] == ["reset_checkpoint", "delete_checkpoint"]
    assert send("PUT", PLACE, json={"os-resetState": {"state": "deleted"}}).status_code == 400
    assert send("PUT", PLACE, json={"foo": {}}).status_code == 400


def test_restore_takes_what_the_dashboard_sends(send, service):
    body = {
        "provider_id": PROVIDER,
        "checkpoint_id": CHECKPOINT,
        "restore_target": None,
        "restore_auth": {"type": "password", "username": None},
        "parameters": {"OS::Cinder::Volume": {"restore_name": None}},
    }
    answer = send("POST", "/restores", json={"restore": body})
    assert answer.json["restore"]["status"] == "success"
    ((_, _, given),) = service.calls
    assert given["parameters"] == {"OS::Cinder::Volume": {}}
    assert given["restore_auth"] == {"type": "password"}


@pytest.mark.parametrize("parameters", [None, ...])
def test_restore_needs_parameters(send, parameters):
    body = {"provider_id": PROVIDER, "checkpoint_id": CHECKPOINT}
    if parameters is not ...:
        body["parameters"] = parameters
    assert send("POST", "/restores", json={"restore": body}).status_code == 400


def test_verification_parameters_are_optional(send, service):
    body = {"provider_id": PROVIDER, "checkpoint_id": CHECKPOINT}
    assert send("POST", "/verifications", json={"verification": body}).status_code == 200
    assert service.calls[0][2]["parameters"] == {}


def test_cancel_and_progress(send, service):
    for path in (PLACE, f"/restores/{OTHER}", f"/verifications/{OTHER}"):
        assert send("POST", f"{path}/action", json={"os-cancel": None}).json == {}
        assert send("POST", f"{path}/action", json={"os-other": None}).status_code == 400
        assert send("GET", f"{path}/progress").json["progress"]["total_bytes"] == 2
    assert [args[0] for _, args, _ in service.calls] == ["checkpoint", "restore", "verification"]


def test_operation_log_times_have_no_zone(send):
    log = send("GET", f"/operation_logs/{OTHER}").json["operation_log"]
    assert log["started_at"] == "2026-11-22T13:19:37.281947"
    assert log["ended_at"] is None
    assert log["extra_info"] is None


def test_protectables(send):
    assert send("GET", "/protectables").json == {"protectable_type": ["OS::Cinder::Volume", "OS::Nova::Server"]}
    assert send("GET", "/protectables/OS::Nova::Server").json == {
        "protectable_type": {"name": "OS::Nova::Server", "dependent_types": ["OS::Cinder::Volume"]}
    }
    instance = send("GET", "/protectables/OS::Nova::Server/instances/s1?parameters={'a':'b'}").json["instance"]
    assert instance["dependent_resources"] == [RESOURCE]
    assert send("GET", "/protectables/OS::Foo").status_code == 400
    assert send("GET", "/protectables/OS::Nova::Server/instances?parameters=abc").status_code == 400


def test_entries_keep_names_that_are_not_utf8(send, service):
    answer = send("GET", f"{PLACE}/entries?resource=OS::Cinder::Volume%23a1&path=dir%ff")
    assert answer.json["entries"] == [
        {"name": "plain", "type": "file", "size": 3},
        {"name": "bad\ufffd", "type": "file", "quoted": "bad%FF"},
    ]
    assert service.calls == [("entries", (KEY, "dir\udcff"), {})]
    assert send("GET", f"{PLACE}/entries").status_code == 400


@pytest.mark.parametrize(
    ("header", "status", "start", "end"),
    [
        (None, 200, 0, 2048),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-", 206, 100, 2048),
        ("bytes=-5", 206, 2043, 2048),
        ("bytes=2000-99999", 206, 2000, 2048),
        ("bytes=-99999", 206, 0, 2048),
        ("bytes=0-1,5-6", 200, 0, 2048),
        ("lines=0-1", 200, 0, 2048),
    ],
)
def test_content_ranges(send, service, header, status, start, end):
    headers = {"Range": header} if header else {}
    answer = send("GET", f"{PLACE}/content?resource=OS::Cinder::Volume%23a1&path=f", headers=headers)
    assert answer.status_code == status
    assert answer.content == service.content[start:end]
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["accept-ranges"] == "bytes"
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/2048"


@pytest.mark.parametrize(("header", "status"), [("bytes=2048-", 416), ("bytes=x", 400), ("bytes=5-1", 400)])
def test_bad_ranges(send, header, status):
    answer = send("GET", f"{PLACE}/content?resource=OS::Cinder::Volume%23a1", headers={"Range": header})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"


def test_content_of_an_empty_file(send, service):
    service.content = b""
    answer = send("GET", f"{PLACE}/content?resource=OS::Cinder::Volume%23a1&path=f")
    assert (answer.status_code, answer.content) == (200, b"")


def test_progress_stands_in_a_checkpoint_under_way_for_its_own_project(send, service):
    checkpoint = service.catalogue.records[Checkpoint]
    service.catalogue.records[Checkpoint] = msgspec.structs.replace(checkpoint, status="protecting")
    assert send("GET", PLACE).json["checkpoint"]["progress"]["total_bytes"] == 2
    foreign = msgspec.structs.replace(checkpoint, status="protecting", project_id="2" * 32)
    service.catalogue.records[Checkpoint] = foreign
    assert "progress" not in send("GET", PLACE, token="admin").json["checkpoint"]
