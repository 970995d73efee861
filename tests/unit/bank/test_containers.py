"""Where keys lie in Swift, who may read there, and which sections of a provider's file a bank reads."""

from __future__ import annotations

import pytest

from karbor.bank.stores.containers import Containers, readers
from karbor.bank.stores.swift import SwiftBank
from karbor.errors import InvalidInput
from karbor.providers import load_providers
from karbor.sdk.loading import Loaded

PROVIDER = "8f6f1b52-0c0a-4f0a-8a55-1a7b9a2d4c22"


@pytest.mark.parametrize(
    ("key", "container", "start", "project"),
    [
        (f"{PROVIDER}/abc-g1/config", f"karbor.{PROVIDER}.abc-g1", f"{PROVIDER}/abc-g1/", "abc"),
        ("p/a-g1-g22/data/00", "karbor.p.a-g1-g22", "p/a-g1-g22/", "a-g1"),
        ("p/a-g1", "karbor", "", ""),
        ("p/a/config", "karbor", "", ""),
        ("p/a-g/config", "karbor", "", ""),
        ("p.q/a-g1/config", "karbor", "", ""),
        ("p/a.b-g1/config", "karbor", "", ""),
        ("p/.r-g1/config", "karbor", "", ""),
        ("log/1", "karbor", "", ""),
    ],
)
def test_a_key_lies_in_its_repository_s_container_or_in_the_bank_s(key, container, start, project):
    place = Containers("karbor").of_key(key)
    assert (place.container, place.start, place.project_id) == (container, start, project)


def test_repositories_are_found_by_their_containers_in_the_order_of_keys():
    containers = Containers("karbor")
    prefixes = sorted(["p/a-g1/", "p-1/a-g1/", "p/a-g10/", "p/a-1-g1/", "q/a-g1/"])
    names = [containers.of_key(prefix).container for prefix in prefixes]
    strangers = ["karbor.", "karbor.p", "karbor.p.a", "karbor.p.a-g1.old"]
    assert [place.start for place in containers.below("", sorted([*names, *strangers]))] == prefixes
    assert [place.start for place in containers.below("p/a-g1", names)] == ["p/a-g1/", "p/a-g10/"]


def test_only_a_repository_s_prefix_is_one():
    containers = Containers("karbor")
    assert containers.of_repository("p/a-g1/").container == "karbor.p.a-g1"
    for prefix in ("", "p/", "p/a-g1", "p/a-g1/data/", "log/"):
        with pytest.raises(InvalidInput):
            containers.of_repository(prefix)


def test_an_access_list_holds_projects_and_nothing_else():
    assert readers(["a", "b"]) == "a:*,b:*"
    assert readers([]) == ""
    for word in (".r", "*", "a,b", "a:b", "", "-x"):
        with pytest.raises(InvalidInput):
            readers([word])


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 101])
def test_a_bad_container_is_refused(name):
    with pytest.raises(InvalidInput):
        Containers(name)


def test_a_provider_s_file_may_have_v1_s_sections(tmp_path):
    (tmp_path / "old.conf").write_text(
        "[provider]\nname = Old\nid = x\nbank = karbor-swift-bank-plugin\nenabled = True\n"
        "[swift_client]\nswift_auth_url = http://keystone.example/v3\nswift_user = karbor\nswift_key = secret\n"
        "swift_tenant_name = service\n"
        "[swift_bank_plugin]\nbank_swift_object_container = old\n"
    )
    banks = Loaded(plugins={"karbor-swift-bank-plugin": SwiftBank}, problems={})
    providers = load_providers(tmp_path, Loaded(plugins={}, problems={}), banks, {})
    assert providers.problems == {}
    bank = providers.get("x").bank
    assert bank.location == "swift:old:/"
    assert bank.repository_location("p/a-g1/") == "swift:old.p.a-g1:/"
    bank.close()
