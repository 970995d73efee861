"""From what was typed to what was meant."""

from __future__ import annotations

import pytest
from tests.unit.cli.conftest import CHECKPOINT, DATABASE, DIRECTORY, OTHER_PLAN, PLAN, PROVIDER, plan

from karbor.cli.api import PAGE, Api
from karbor.cli.contents import locate, pick_resource
from karbor.cli.naming import find, find_checkpoint, find_provider, find_type, pick
from karbor.errors import InvalidInput, NotFound

ITEMS = [
    {"id": "aaaa1111-0000", "name": "one"},
    {"id": "aaaa2222-0000", "name": "two"},
    {"id": "bbbb3333-0000", "name": "twice"},
    {"id": "cccc4444-0000", "name": "twice"},
    {"id": "dddd5555-0000", "name": "aaaa"},
]


@pytest.mark.parametrize(
    ("selector", "ident"),
    [
        ("aaaa1111-0000", "aaaa1111-0000"),
        ("two", "aaaa2222-0000"),
        ("aaaa1", "aaaa1111-0000"),
        ("BBBB", "bbbb3333-0000"),
        ("aaaa", "dddd5555-0000"),
    ],
)
def test_an_id_then_a_name_then_a_beginning_counts(selector, ident):
    assert pick(selector, ITEMS, "thing")["id"] == ident


@pytest.mark.parametrize("selector", ["bbb", "nothing", "eeee", ""])
def test_what_fits_nothing_is_not_found(selector):
    with pytest.raises(NotFound, match="no thing"):
        pick(selector, ITEMS, "thing")


def test_an_ambiguous_name_lists_those_that_fit():
    with pytest.raises(InvalidInput, match="fits 2 things: bbbb3333-0000 twice, cccc4444-0000 twice"):
        pick("twice", ITEMS, "thing")


def test_an_ambiguous_beginning_lists_at_most_ten():
    many = [{"id": f"abcd{i:04x}", "name": ""} for i in range(12)]
    with pytest.raises(InvalidInput, match=r"fits 12 things: .*abcd0009, …"):
        pick("abcd", many, "thing")


def test_a_whole_id_is_asked_for_directly(service):
    assert find(Api(service), "plans", "plan", PLAN)["name"] == "web"
    assert [request.path for request in service.seen] == [f"/plans/{PLAN}"]


def test_a_name_is_looked_for_on_every_page(service):
    plans = [plan(f"{i:08x}-0000-4000-8000-000000000000", f"plan {i}") for i in range(PAGE + 3)]
    service.collection("plans", plans)
    assert find(Api(service), "plans", "plan", f"plan {PAGE + 2}") == plans[-1]
    assert len(service.seen) == 2


def test_a_limit_is_kept_over_pages(service):
    service.collection("plans", [plan(f"{i:08x}", "x") for i in range(PAGE * 2)])
    assert len(list(Api(service).listing("/plans", "plans", limit=PAGE + 1))) == PAGE + 1
    assert [request.query["limit"] for request in service.seen] == [str(PAGE), "1"]


def test_the_only_provider_needs_no_name(service):
    assert find_provider(Api(service), None)["id"] == PROVIDER
    service.collection("providers", [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}])
    with pytest.raises(InvalidInput, match="there are 2 providers: 1 a, 2 b"):
        find_provider(Api(service), None)
    service.collection("providers", [])
    with pytest.raises(NotFound):
        find_provider(Api(service), None)


@pytest.mark.parametrize("selector", [CHECKPOINT, "c0ff"])
def test_a_checkpoint_is_looked_for_in_every_provider(service, selector):
    other = "11111111-97a7-4078-b6d5-f36246333fd9"
    known = [{"id": other, "name": "empty"}, {"id": PROVIDER, "name": "host"}]
    service.collection("providers", known)
    service.collection(f"providers/{other}/checkpoints", [])
    assert find_checkpoint(Api(service), None, selector)["id"] == CHECKPOINT
    with pytest.raises(NotFound):
        find_checkpoint(Api(service), "empty", selector)


def test_a_type_may_be_given_by_the_end_of_its_name(service):
    assert find_type(Api(service), "application") == "Karbor::Host::Application"
    assert find_type(Api(service), "Karbor::Host::Directory") == "Karbor::Host::Directory"
    with pytest.raises(NotFound, match="no resource type 'Volume'"):
        find_type(Api(service), "Volume")


def test_two_plans_with_the_same_beginning_are_told_apart(service):
    assert find(Api(service), "plans", "plan", "0a1bf")["id"] == OTHER_PLAN
    with pytest.raises(InvalidInput, match="fits 2 plans"):
        find(Api(service), "plans", "plan", "0a1b")


def resource(kind: str, ident: str, name: str) -> dict[str, str]:
    return {"key": f"{kind}#{ident}", "type": kind, "id": ident, "name": name}


KNOWN = [
    resource("Directory", DIRECTORY, "/srv/www"),
    resource("Directory", "eeee0000-1", "/srv/www/shop"),
    resource("Database", DATABASE, "/srv/shop.db"),
    resource("Directory", "ffff0000-1", "/"),
]


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [
        ("/srv/www", "/srv/www", ""),
        ("/srv/www/", "/srv/www", ""),
        ("/srv/www/index.html", "/srv/www", "index.html"),
        ("/srv/www/shop/a/b", "/srv/www/shop", "a/b"),
        ("/srv/wwwx", "/", "srv/wwwx"),
        (f"Directory#{DIRECTORY}/a", "/srv/www", "a"),
        (f"{DIRECTORY}/a/b", "/srv/www", "a/b"),
        ("d1d1/a", "/srv/www", "a"),
        (DATABASE, "/srv/shop.db", ""),
    ],
)
def test_a_resource_and_a_path_in_it(text, name, path):
    found, inner = locate(KNOWN, text)
    assert (found["name"], inner) == (name, path)


def test_a_resource_that_is_not_there_or_not_alone():
    with pytest.raises(NotFound, match="no resource 'zzzz'"):
        pick_resource(KNOWN, "zzzz")
    with pytest.raises(InvalidInput, match="fits 2 resources"):
        pick_resource(KNOWN, "/srv/w")
    with pytest.raises(InvalidInput, match="fits 2 resources"):
        locate([resource("A", "1", "same"), resource("B", "2", "same")], "same/x")
