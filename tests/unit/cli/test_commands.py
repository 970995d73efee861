"""The commands as a user types them, over a service in memory."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.cli.conftest import CHECKPOINT, DATABASE, DIRECTORY, OTHER_PLAN, PLAN, PROVIDER, checkpoint, plan

from karbor.cli.checkpoints import needed
from karbor.cli.client import VERBS
from karbor.cli.contents import BLOCK
from karbor.cli.following import PATIENCE
from karbor.cli.restores import places
from karbor.cli.transport import Answer
from karbor.errors import KarborError, Unavailable
from karbor.wire.faults import Fault

AT = f"/providers/{PROVIDER}/checkpoints"
DIRECTORY_KEY = f"Karbor::Host::Directory#{DIRECTORY}"
DATABASE_KEY = f"Karbor::Host::Database#{DATABASE}"


def test_every_command_explains_itself(karbor):
    for verb in VERBS:
        result = karbor(*verb.name.split(), "--help")
        assert result.code == 0
        assert verb.help in " ".join(result.out.split()), verb.name


def test_help_lists_every_command(karbor):
    result = karbor("help")
    assert all(f"{verb.name} " in result.out for verb in VERBS)


def test_a_list_in_every_format(karbor):
    assert [item["name"] for item in karbor("plan", "list", "-f", "json").json()] == ["web", "db"]
    assert karbor("plan", "list", "-f", "value", "-c", "name").out == "web\ndb\n"
    assert "name: web" in karbor("plan", "list", "-f", "yaml").out
    assert "| web " in karbor("plan", "list").out


def test_programs_get_bytes_and_people_units(karbor):
    assert karbor("checkpoint", "list", "-f", "json").json()[0]["logical_bytes"] == 1536
    assert "1.5 KiB" in karbor("checkpoint", "list").out


def test_an_unknown_column_is_a_usage_error(karbor):
    result = karbor("plan", "list", "-c", "nosuch")
    assert result.code == 2
    assert result.err.startswith("error: No recognized column")


def test_filters_and_scope_reach_the_service(karbor, service):
    karbor("plan", "list", "--name", "w", "--project", "p2", "--sort", "name:asc", "--limit", "1")
    query = service.sent("GET")[0].query
    assert query == {"limit": "1", "name": "w", "all_tenants": "true", "project_id": "p2", "sort": "name:asc"}


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (
            Fault(code=400, message="bad name", error="invalid_input", hint="say it"),
            2,
            "error: bad name\nhint: say it\n",
        ),
        (Fault(code=401, message="no token"), 3, "error: no token\n"),
        (Fault(code=409, message="bank is not ours", error="bank_foreign"), 8, "error: bank is not ours\n"),
        (Fault(code=500, message="pack-1 is gone", error="object_missing"), 9, "error: pack-1 is gone\n"),
        (Fault(code=413, message="too many"), 6, "error: too many\n"),
        (Fault(code=503, message="later"), 7, "error: later\n"),
        (Fault(code=500, message="odd"), 1, "error: odd\n"),
    ],
)
def test_a_fault_decides_message_and_exit_code(karbor, service, fault, code, text):
    service.on("GET", "/plans", fault)
    result = karbor("plan", "list")
    assert (result.code, result.err, result.out) == (code, text, "")


def test_an_answer_that_is_not_karbors_is_said_to_be_so(karbor, service):
    service.on("GET", "/plans", Answer(status=200, headers={}, body=b"<html>"))
    result = karbor("plan", "list")
    assert result.code == 1
    assert "hint: is this the address of a Karbor service?" in result.err


def test_a_traceback_stands_there_only_for_debug(karbor, service):
    service.on("GET", "/plans", {"plans": ["not an object"]})
    assert "Traceback" not in karbor("plan", "list").err
    assert "Traceback" in karbor("plan", "list", "--debug").err


def test_a_plan_is_made_of_resources_by_name(karbor, service):
    shop = {"id": DIRECTORY, "type": "Karbor::Host::Application", "name": "shop", "dependent_resources": []}
    service.collection("protectables/Karbor::Host::Application/instances", [shop], "instance")
    service.collection("protectables/Karbor::Host::Directory/instances", [])
    service.on("POST", "/plans", lambda request: {"plan": {**request.body["plan"], "id": PLAN}})
    for selector in ("shop", "application#shop", f"Karbor::Host::Application#{DIRECTORY}"):
        result = karbor(
            "plan", "create", "nightly", selector, "--parameter", f"application#{DIRECTORY}:quiesce=true", "-f", "json"
        )
        assert result.code == 0, result.err
        assert service.sent("POST")[-1].body["plan"] == {
            "name": "nightly",
            "description": None,
            "provider_id": PROVIDER,
            "resources": [{"type": "Karbor::Host::Application", "id": DIRECTORY, "name": "shop"}],
            "parameters": {f"Karbor::Host::Application#{DIRECTORY}": {"quiesce": True}},
        }


def test_a_resource_that_could_not_be_looked_for_everywhere_is_not_called_missing(karbor, service):
    service.on("GET", "/protectables/Karbor::Host::Application/instances", Fault(code=503, message="cloud is down"))
    service.collection("protectables/Karbor::Host::Directory/instances", [])
    result = karbor("plan", "create", "nightly", "shop")
    assert result.code == 7
    assert "cloud is down" in result.err


@pytest.mark.parametrize("given", ["volume", "volume=1", ":a=1", "volume:=1", "Karbor::Host:=1"])
def test_a_parameter_that_is_none_is_a_usage_error(karbor, service, given):
    assert karbor("plan", "create", "n", f"directory#{DIRECTORY}", "--parameter", given).code in (2, 4)
    assert not service.sent("POST")


def test_plans_are_deleted_only_when_all_of_them_are_known(karbor, service):
    service.on("DELETE", f"/plans/{PLAN}", Answer(status=200, headers={}))
    assert karbor("plan", "delete", "web", "nothing").code == 4
    assert not service.sent("DELETE")
    assert karbor("plan", "delete", "web").err == f"plan web ({PLAN}) is deleted\n"


def test_a_plan_changes_only_where_something_was_given(karbor, service):
    service.on("PUT", f"/plans/{OTHER_PLAN}", {"plan": plan(OTHER_PLAN, "new")})
    assert karbor("plan", "update", "db", "--name", "new").code == 0
    assert service.sent("PUT")[0].body == {"plan": {"name": "new"}}
    assert karbor("plan", "update", "db").code == 2


def test_a_checkpoint_is_shown_unpacked(karbor):
    shown = karbor("checkpoint", "show", "c0ffee", "-f", "json").json()
    assert shown["extra_info"] == {"created_by": "manual"}
    assert shown["created_at"] == "2026-11-22T10:00:00Z"
    assert [(item["name"], item["status"]) for item in shown["resources"]] == [
        ("/srv/www", "available"),
        ("/srv/shop.db", None),
    ]


def test_checkpoints_of_several_providers_are_one_list_newest_first(karbor, service):
    other = "11111111-97a7-4078-b6d5-f36246333fd9"
    service.collection("providers", [{"id": PROVIDER, "name": "host"}, {"id": other, "name": "other"}])
    older, newer = (
        checkpoint(id=f"{day:08}-0000-4000-8000-000000000000", created_at_precise=f"2026-11-{day}T00:00:00Z")
        for day in (20, 24)
    )
    service.collection(f"providers/{other}/checkpoints", [newer, older])
    listed = karbor("checkpoint", "list", "-f", "value", "-c", "id").out.split()
    assert listed == [newer["id"], CHECKPOINT, older["id"]]
    assert karbor("checkpoint", "list", "--limit", "1", "-f", "value", "-c", "id").out.split() == [newer["id"]]
    assert karbor("checkpoint", "list", "--marker", CHECKPOINT).code == 2


def test_protecting_is_followed_to_its_end(karbor, service):
    protecting = {"checkpoint": checkpoint(status="protecting")}
    service.on("POST", AT, protecting)
    service.on("GET", f"{AT}/{CHECKPOINT}", [protecting] * 20 + [{"checkpoint": checkpoint(warnings=["one device"])}])
    steps = [{"progress": {"done_bytes": i * 1024**2, "total_bytes": 30 * 1024**2}} for i in range(30)]
    service.on("GET", f"{AT}/{CHECKPOINT}/progress", steps)
    result = karbor("checkpoint", "create", "web", "--wait", "-f", "json")
    assert result.code == 0
    assert result.json()["status"] == "available"
    assert result.err.splitlines() == [
        "protect web: 0 B of 30.0 MiB",
        "protect web: 10.0 MiB of 30.0 MiB, 2.0 MiB/s, 10 s left",
        "warning: one device",
    ]


def test_the_end_of_a_failed_operation_gives_reasons_and_an_exit_code(karbor, service):
    failed = checkpoint(
        status="error", reason="1 of 2 failed", resources_reason={DIRECTORY_KEY: "index.html: unreadable"}
    )
    service.on("POST", AT, {"checkpoint": checkpoint(status="protecting")})
    service.on("GET", f"{AT}/{CHECKPOINT}", {"checkpoint": failed})
    result = karbor("checkpoint", "create", "web", "--wait", "-f", "value", "-c", "status")
    assert (result.code, result.out) == (10, "error\n")
    assert f"{DIRECTORY_KEY}: index.html: unreadable" in result.err
    assert f"error: checkpoint {CHECKPOINT} is error: 1 of 2 failed" in result.err
    service.on("GET", f"{AT}/{CHECKPOINT}", {"checkpoint": checkpoint(status="cancelled")})
    assert karbor("checkpoint", "create", "web", "--wait").code == 11


def test_a_service_that_is_started_again_is_waited_for(karbor, service):
    silent = Unavailable("no answer")
    service.on("POST", AT, {"checkpoint": checkpoint(status="protecting")})
    service.on("GET", f"{AT}/{CHECKPOINT}", [silent] * 100 + [{"checkpoint": checkpoint()}])
    assert karbor("checkpoint", "create", "web", "--wait").code == 0
    service.on("GET", f"{AT}/{CHECKPOINT}", silent)
    result = karbor("checkpoint", "create", "web", "--wait")
    assert result.code == 7
    assert f"no answer (for {PATIENCE:.0f} s)" in result.err


def test_who_stops_waiting_learns_that_the_operation_goes_on(karbor, service):
    def interrupted(_):
        raise KeyboardInterrupt

    service.on("POST", AT, {"checkpoint": checkpoint(status="protecting")})
    service.on("GET", f"{AT}/{CHECKPOINT}", interrupted)
    result = karbor("checkpoint", "create", "web", "--wait")
    assert (result.code, result.err) == (130, "protect web: nobody waits any longer, the operation goes on\n")


def preflight(*items: dict, refused: bool = False) -> dict:
    return {"preflight": {"items": list(items), "estimated_bytes": 1536, "refused": refused}}


def item(action: str, **more: object) -> dict:
    return {"resource": DIRECTORY_KEY, "action": action, "what": "/srv/www", "estimated_bytes": 1536, **more}


def test_a_dry_run_shows_and_changes_nothing(karbor, service):
    service.on("POST", AT, preflight(item("read")))
    result = karbor("checkpoint", "create", "web", "--dry-run", "-f", "json")
    assert result.json() == [
        {"action": "read", "resource": DIRECTORY_KEY, "what": "/srv/www", "estimated_bytes": 1536, "reason": ""}
    ]
    assert [request.query for request in service.sent("POST")] == [{"dry_run": "true"}]


def test_a_dry_run_that_is_refused_shows_the_table_and_ends_so(karbor, service):
    service.on("POST", "/restores", preflight(item("refuse", reason="no such root"), refused=True))
    result = karbor("restore", "create", "c0ff", "--dry-run")
    assert result.code == 5
    assert "| refuse |" in result.out
    assert "error: /srv/www: no such root" in result.err


RESTORE = {
    "id": "4e4e4e4e-0000-4000-8000-000000000009",
    "project_id": "p",
    "provider_id": PROVIDER,
    "checkpoint_id": CHECKPOINT,
    "restore_target": None,
    "parameters": {},
    "status": "in_progress",
    "resources_status": {},
    "resources_reason": {},
}


@pytest.fixture
def restoring(service):
    """Restores of which the pre-flight answers with `service.preflight`."""
    service.preflight = preflight(item("create"))
    schema = {
        "restore_schema": {"Karbor::Host::Directory": {"properties": {"restore_path": {}, "overwrite": {}, "path": {}}}}
    }
    provider = {"id": PROVIDER, "name": "host", "extended_info_schema": schema}
    service.on("GET", f"/providers/{PROVIDER}", {"provider": provider})
    service.on(
        "POST", "/restores", lambda request: service.preflight if "dry_run" in request.query else {"restore": RESTORE}
    )
    return service


def restores_begun(service) -> int:
    return sum("dry_run" not in request.query for request in service.sent("POST"))


def test_on_a_terminal_a_restore_shows_what_it_would_do_and_asks(karbor, restoring):
    result = karbor("restore", "create", "c0ff", answer="n\n")
    assert (result.code, restores_begun(restoring)) == (11, 0)
    assert "create    /srv/www, 1.5 KiB" in result.err
    assert karbor("restore", "create", "c0ff", answer="y\n").code == 0
    assert karbor("restore", "create", "c0ff", "--yes", answer="").code == 0
    assert restores_begun(restoring) == 2


def test_a_script_overwrites_only_when_it_says_so(karbor, restoring):
    assert karbor("restore", "create", "c0ff").code == 0
    restoring.preflight = preflight(item("create"), item("overwrite"))
    result = karbor("restore", "create", "c0ff")
    assert (result.code, restores_begun(restoring)) == (5, 1)
    assert result.err == "error: this would overwrite /srv/www\nhint: --yes says that this is wanted\n"
    assert karbor("restore", "create", "c0ff", "--yes").code == 0


def test_yes_does_not_outvote_a_refusal(karbor, restoring):
    restoring.preflight = preflight(item("refuse", reason="mounted"), refused=True)
    assert karbor("restore", "create", "c0ff", "--yes").code == 5
    assert restores_begun(restoring) == 0


def test_one_path_is_restored_elsewhere(karbor, restoring):
    assert karbor("restore", "create", "c0ff", "--path", "/srv/www/a/b.html", "--to", "/tmp/x", "--overwrite").code == 0
    sent = restoring.sent("POST")[-1].body["restore"]
    assert sent["resources"] == [DIRECTORY_KEY]
    assert sent["parameters"] == {DIRECTORY_KEY: {"path": "a/b.html", "restore_path": "/tmp/x", "overwrite": True}}


def test_several_resources_go_below_one_folder():
    named = [{"id": "1" * 36, "name": "/a/www"}, {"id": "2" * 36, "name": "/b/www"}, {"id": "3" * 36, "name": "/"}]
    assert [place for _, place in places(named, "/t")] == ["/t/www-11111111", "/t/www-22222222", "/t/" + "3" * 36]
    assert [place for _, place in places(named[:1], "/t")] == ["/t"]


def test_what_is_chosen_brings_what_it_depends_on():
    known = [
        {"key": "a", "dependents": []},
        {"key": "b", "dependents": ["a"]},
        {"key": "c", "dependents": ["b", "a"]},
        {"key": "d", "dependents": []},
    ]
    assert [item["key"] for item in needed(known, known[2:3])] == ["a", "b", "c"]
    assert needed(known, []) == known


def test_an_option_that_no_plugin_has_is_refused_by_name(karbor, restoring):
    result = karbor("restore", "create", "c0ff", "--resource", "/srv/shop.db", "--to", "/tmp/x")
    assert result.code == 2
    assert "a restore has no option restore_path for Karbor::Host::Database" in result.err


def test_the_end_of_a_restore_names_what_became_of_each_resource(karbor, restoring):
    ended = RESTORE | {
        "status": "success",
        "restored": {DIRECTORY_KEY: "Karbor::Host::Directory#new"},
        "resources_status": {"Karbor::Host::Directory#new": "available"},
    }
    restoring.on("GET", f"/restores/{RESTORE['id']}", {"restore": ended})
    result = karbor("restore", "create", "c0ff", "--wait", "-f", "value", "-c", "status")
    assert (result.code, result.out) == (0, "success\n")
    assert result.err == "Karbor::Host::Directory /srv/www → Karbor::Host::Directory#new: available\n"


def test_a_verification_that_found_damage_fails(karbor, service):
    begun = {"id": CHECKPOINT, "status": "in_progress"}
    ended = begun | {"status": "fail", "resources_reason": {DATABASE_KEY: "pack 12 is damaged"}}
    service.on("POST", "/verifications", {"verification": begun})
    service.on("GET", f"/verifications/{CHECKPOINT}", {"verification": ended})
    result = karbor("verification", "create", "c0ff", "--wait")
    assert result.code == 10
    assert f"{DATABASE_KEY}: pack 12 is damaged" in result.err


def test_cancelling_and_resetting_name_the_thing(karbor, service):
    service.on("POST", f"{AT}/{CHECKPOINT}/action", Answer(status=200, headers={}))
    service.on("PUT", f"{AT}/{CHECKPOINT}", {})
    assert karbor("checkpoint", "cancel", "c0ff").code == 0
    assert service.sent("POST")[0].body == {"os-cancel": None}
    assert karbor("checkpoint", "undelete", CHECKPOINT).code == 0
    assert service.sent("POST")[1].body == {"os-undelete": None}
    assert karbor("checkpoint", "reset-state", "c0ff", "--available").code == 0
    assert service.sent("PUT")[0].body == {"os-resetState": {"state": "available"}}


def test_resources_and_entries_are_listed(karbor, service):
    names = [row["name"] for row in karbor("checkpoint", "ls", "c0ff", "-f", "json").json()]
    assert names == ["/srv/www", "/srv/shop.db"]
    entries = [
        {"name": "a.html", "type": "file", "size": 2048, "mode": 0o644, "modified": "2026-11-22T10:00:00Z"},
        {"name": "cur", "type": "symlink", "mode": 0o777, "target": "a.html"},
        {"name": "caf\ufffd", "type": "dir", "mode": 0o755, "quoted": "caf%E9"},
        {"name": "\x1b[2Jx'", "type": "file"},
    ]
    service.on("GET", f"{AT}/{CHECKPOINT}/entries", {"entries": entries})
    result = karbor("checkpoint", "ls", "c0ff", "/srv/www/docs", "-f", "value")
    assert result.out.splitlines() == [
        "-rw-r--r-- 2048 2026-11-22T10:00:00Z a.html",
        "lrwxrwxrwx 0  cur -> a.html",
        "drwxr-xr-x 0  $'caf\\xe9'",
        "---------- 0  $'\\x1b[2Jx\\x27'",
    ]
    assert service.seen[-1].query == {"resource": DIRECTORY_KEY, "path": "docs"}


def content(data: bytes):
    """The route of a file's bytes, with ranges as RFC 9110 section 14 has them."""

    def answer(request):
        first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        if int(first) >= len(data):
            return Answer(status=416, headers={"content-range": f"bytes */{len(data)}"})
        block = data[int(first) : int(last) + 1]
        headers = {"content-range": f"bytes {first}-{int(first) + len(block) - 1}/{len(data)}"}
        return Answer(status=206, headers=headers, body=block)

    return answer


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1])
def test_one_file_is_copied_by_ranges(karbor, service, tmp_path, size):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    service.on("GET", f"{AT}/{CHECKPOINT}/content", content(data))
    target = tmp_path / "out"
    result = karbor("checkpoint", "get", "c0ff", "/srv/www/a.bin", "-o", str(target), "-f", "json")
    assert result.code == 0, result.err
    assert result.json()["size"] == size
    assert target.read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_exists_is_replaced_only_by_force_and_a_folder_takes_the_name(karbor, service, tmp_path):
    service.on("GET", f"{AT}/{CHECKPOINT}/content", content(b"new"))
    (tmp_path / "a.bin").write_bytes(b"old")
    get = ("checkpoint", "get", "c0ff", "/srv/www/a.bin", "-o", str(tmp_path))
    assert karbor(*get).code == 5
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert karbor(*get, "--force").code == 0
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_a_copy_that_breaks_off_leaves_nothing(karbor, service, tmp_path):
    good = content(b"x" * (BLOCK + 10))
    service.on(
        "GET",
        f"{AT}/{CHECKPOINT}/content",
        lambda request: good(request) if request.headers["Range"].startswith("bytes=0-") else Unavailable("cut"),
    )
    result = karbor("checkpoint", "get", "c0ff", "/srv/www/a.bin", "-o", str(tmp_path / "out"))
    assert (result.code, list(tmp_path.iterdir())) == (7, [])


def test_a_copy_outlives_a_short_silence(karbor, service, tmp_path):
    good = content(b"data")
    service.on("GET", f"{AT}/{CHECKPOINT}/content", [Unavailable("cut"), Unavailable("cut"), good])
    assert karbor("checkpoint", "get", "c0ff", "/srv/www/a.bin", "-o", str(tmp_path / "out")).code == 0


def test_a_server_that_knows_no_ranges_is_read_too(karbor, service, tmp_path):
    service.on("GET", f"{AT}/{CHECKPOINT}/content", Answer(status=200, headers={}, body=b"whole"))
    assert karbor("checkpoint", "get", "c0ff", "/srv/www/a", "-o", str(tmp_path / "a")).code == 0
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_host_application_is_declared_for_a_service(karbor, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    assert karbor("host", "add", "shop", str(site)).code == 2
    result = karbor("--state", str(tmp_path / "state"), "host", "add", "shop", str(site))
    assert result.code == 0, result.err
    assert (tmp_path / "state/hosts.d/shop.yaml").is_file()


def test_exit_codes_of_the_tree_are_those_of_the_faults():
    def walk(kind):
        yield kind
        for child in kind.__subclasses__():
            yield from walk(child)

    from karbor.cli.faults import error_of

    for kind in walk(KarborError):
        if kind.__module__ == "karbor.errors":
            body = msgspec.json.encode({"computeFault": {"code": kind.status, "message": "m", "error": kind.code}})
            found = error_of(Answer(status=kind.status, headers={}, body=body))
            assert (type(found), found.message) == (kind, "m")
