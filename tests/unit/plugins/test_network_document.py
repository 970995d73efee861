"""Addresses moved by rule, and the document's own consistency."""

from __future__ import annotations

import pytest

from karbor.errors import InvalidInput, ResourceFailed
from karbor.plugins.network.addresses import Remap
from karbor.plugins.network.topology import check, packed, unpacked

NETWORK = {"id": "n", "name": "front"}
SUBNET = {"id": "s", "network_id": "n", "cidr": "10.9.0.0/24"}


def document(**changes):
    kinds = {key: [] for key in ("networks", "subnets", "routers", "security_groups", "ports", "floating_ips")}
    return {"project_id": "p", "network_id": None, "foreign_networks": {"x": "public"}, **kinds, **changes}


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("10.9.0.7", "10.19.0.7"),
        ("10.9.0.0/24", "10.19.0.0/24"),
        ("10.9.0.128/25", "10.19.0.128/25"),
        ("10.9.1.7", "10.200.1.7"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("fd00:8::7", "fd00:9::7"),
        ("9.9.9.9", "9.9.9.9"),
    ],
)
def test_an_address_moves_with_the_longest_prefix_that_has_it(value, moved):
    assert Remap("10.9.0.0/16=10.200.0.0/16, 10.9.0.0/24=10.19.0.0/24,fd00:8::/64=fd00:9::/64").address(value) == moved


def test_addresses_move_within_documents_and_other_words_do_not():
    pools = [{"start": "10.9.0.1", "end": "10.9.0.9", "mac_address": "fa:16:3e:00:00:01", "n": 1}]
    moved = [{"start": "10.8.0.1", "end": "10.8.0.9", "mac_address": "fa:16:3e:00:00:01", "n": 1}]
    assert Remap("10.9.0.0/24=10.8.0.0/24").within(pools) == moved
    assert Remap(None).within(pools) == pools


@pytest.mark.parametrize(
    "rule", ["10.9.0.0/24", "10.9.0.0/24=10.8.0.0/23", "10.9.0.1/24=10.8.0.0/24", "a=b", "::/64=10.0.0.0/24"]
)
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(InvalidInput):
        Remap(rule)


def test_a_large_document_is_saved_small_and_read_as_it_was():
    large = document(networks=[{"id": f"{number}", "name": "the same again" * 4} for number in range(20000)])
    saved = packed(large)
    assert len(str(saved)) < 1 << 20 < len(str(large))
    assert unpacked(saved) == large
    assert packed(document()) == document()


def test_a_document_that_refers_to_what_it_has_not_is_no_document():
    assert check(document(networks=[NETWORK], subnets=[SUBNET])) == 2
    with pytest.raises(ResourceFailed, match="subnet s"):
        check(document(subnets=[SUBNET]))
    router = {"id": "r", "external_gateway_info": {"network_id": "gone"}}
    with pytest.raises(ResourceFailed, match="router r"):
        check(document(routers=[router]))
