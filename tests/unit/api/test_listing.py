from __future__ import annotations

import datetime as dt

import pytest

P, P2 = "1" * 32, "2" * 32
PROVIDER = "b766f37c-d011-4026-8228-28730d734a3f"
PLAN = "f0e34d2c-70e2-4d1c-8d5b-6d4a4a1b7d01"
CHECKPOINTS = f"/providers/{PROVIDER}/checkpoints"


def asked(send, service, path, **options):
    result = send("GET", path, **options)
    assert result.status_code == 200, result.text
    return service.catalogue.queries[-1]


def test_defaults(send, service):
    query = asked(send, service, "/plans")
    assert (query.scope, query.filters, query.limit, query.offset, query.marker) == (P, {}, 1000, 0, "")
    assert query.sort == (("created_at", "desc"),)


def test_paging(send, service):
    query = asked(send, service, f"/plans?limit=2000&offset=3&marker={PLAN}")
    assert (query.limit, query.offset, query.marker) == (1000, 3, PLAN)


@pytest.mark.parametrize(
    ("query", "sort"),
    [
        ("sort=name:asc", (("name", "asc"),)),
        ("sort=name", (("name", "desc"),)),
        ("sort=status:asc,name:desc", (("status", "asc"), ("name", "desc"))),
        ("sort_key=name&sort_dir=asc", (("name", "asc"),)),
        ("sort_dir=asc", (("created_at", "asc"),)),
    ],
)
def test_sort_in_both_styles(send, service, query, sort):
    assert asked(send, service, f"/plans?{query}").sort == sort


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=",
        "offset=x",
        "offset=-1",
        "offset=99999999999999999999",
        "sort=zzz:asc",
        "sort=name:foo",
        "sort=name&sort_key=name",
        "name=%00",
        "name=%ff",
        "marker=%ff",
        "&".join(f"x{i}=1" for i in range(101)),
    ],
)
def test_bad_queries_are_400(send, query):
    result = send("GET", f"/plans?{query}")
    assert result.status_code == 400
    assert "badRequest" in result.json


def test_filters_of_plans(send, service):
    query = asked(send, service, "/plans?name=al&description=dd&status=started&zzz=1&provider_id=N")
    assert query.filters == {"name~": "al", "description~": "dd", "status": "started"}


@pytest.mark.parametrize("query", ["all_tenants=1", "all_tenants=abc", f"all_tenants=1&project_id={P2}"])
def test_members_never_leave_their_project(send, service, query):
    assert asked(send, service, f"/plans?{query}").scope == P


@pytest.mark.parametrize(
    ("query", "scope"),
    [
        ("all_tenants=1", "*"),
        ("all_tenants=True", "*"),
        ("all_tenants=0", P),
        (f"all_tenants=yes&project_id={P2}", P2),
        (f"project_id={P2}", P),
    ],
)
def test_administrators_may(send, service, query, scope):
    assert asked(send, service, f"/plans?{query}", token="admin").scope == scope


def test_administrators_bad_boolean(send):
    assert send("GET", "/plans?all_tenants=abc", token="admin").status_code == 400


@pytest.mark.parametrize("path", ["/restores", "/verifications", "/operation_logs"])
def test_unknown_filter_of_an_administrator_matches_nothing(send, path):
    key = path[1:]
    assert send("GET", f"{path}?zzz=1", token="admin").json == {key: []}
    assert len(send("GET", f"{path}?zzz=1").json[key]) == 1


def test_members_filter_what_v1_lets_them(send, service):
    assert asked(send, service, "/restores?status=fail&checkpoint_id=x").filters == {"status": "fail"}
    assert asked(send, service, "/restores?checkpoint_id=x", token="admin").filters == {"checkpoint_id": "x"}
    query = asked(send, service, "/operation_logs?plan_id=a&restore_id=b&operation_type=c")
    assert query.filters == {"plan_id": "a", "restore_id": "b"}


def test_checkpoints_of_a_provider_by_date(send, service):
    query = asked(send, service, f"{CHECKPOINTS}?plan_id={PLAN}&start_date=2020-01-01&end_date=2021-01-01")
    listed = query.filters.pop("status")
    assert "deleted" not in listed
    assert "error-deleting" in listed
    assert query.filters == {
        "provider_id": PROVIDER,
        "plan_id": PLAN,
        "created_at>=": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        "created_at<": dt.datetime(2021, 1, 2, tzinfo=dt.UTC),
    }


def test_end_date_alone_and_the_last_day_of_all(send, service):
    assert "created_at<" in asked(send, service, f"{CHECKPOINTS}?end_date=2021-01-01").filters
    assert "created_at<" not in asked(send, service, f"{CHECKPOINTS}?end_date=9999-12-31").filters
    assert send("GET", f"{CHECKPOINTS}?start_date=zz").status_code == 400


def test_checkpoints_by_status(send, service):
    assert asked(send, service, f"{CHECKPOINTS}?status=error").filters["status"] == ["error"]
    assert send("GET", f"{CHECKPOINTS}?status=deleted").json == {"checkpoints": []}


def test_checkpoints_of_an_unknown_provider(send):
    for provider in ("abc", PLAN):
        assert send("GET", f"/providers/{provider}/checkpoints").status_code == 404


def test_next_link_on_a_full_page(send):
    result = send("GET", f"{CHECKPOINTS}?limit=1&sort=created_at:asc&offset=4")
    (link,) = result.json["checkpoints_links"]
    last = result.json["checkpoints"][-1]["id"]
    assert link["rel"] == "next"
    assert link["href"].endswith(f"/v1/{P}{CHECKPOINTS}?limit=1&sort=created_at%3Aasc&marker={last}")
    assert "checkpoints_links" not in send("GET", f"{CHECKPOINTS}?limit=2").json


def test_pages_in_memory(send):
    path = "/protectables/OS::Cinder::Volume/instances"

    def names(query):
        return [row["name"] for row in send("GET", f"{path}?{query}").json["instances"]]

    assert names("limit=1") == ["a"]
    assert names("limit=1&marker=a") == ["b"]
    assert names("offset=1") == ["b", "c"]
    assert names("sort=name:desc") == ["c", "b", "a"]
    assert names("sort=created_at:desc") == ["a", "b", "c"]
    assert send("GET", f"{path}?sort=zzz").status_code == 400
    assert send("GET", "/providers?name=No-Op%20Provider").json["providers"]
    assert send("GET", "/providers?name=x").json["providers"] == []
