"""The inventory: one listing per type and level, joined in memory; a listing that fails fails the whole."""

from __future__ import annotations

import pytest

from karbor.domain.resource import Resource
from karbor.errors import InvalidInput, NotFound, Unavailable
from karbor.protection.inventory import Inventory
from karbor.sdk.protectable import Protectable


def server(ident: str, layer: str = "") -> Resource:
    return Resource(type="Server", id=ident, layer=layer)


def volume(ident: str, layer: str = "") -> Resource:
    return Resource(type="Volume", id=ident, layer=layer)


class Servers(Protectable):
    type, parents = "Server", ()

    def list(self, session):
        return [server("a"), server("b")]


class Volumes(Protectable):
    type, parents = "Volume", ("Server",)

    def __init__(self) -> None:
        self.listings = 0
        self.broken = False

    def list(self, session):
        return [volume("1")]

    def dependents(self, session, parents):
        self.listings += 1
        if self.broken:
            raise Unavailable("the volumes cannot be listed")
        return {parent.key: [volume("1"), volume(parent.id)] for parent in parents}


@pytest.fixture
def volumes() -> Volumes:
    return Volumes()


@pytest.fixture
def inventory(volumes: Volumes) -> Inventory:
    return Inventory({"Server": Servers(), "Volume": volumes}, {"Share": "no such module"})


def test_one_listing_for_all_parents(inventory: Inventory, volumes: Volumes) -> None:
    graph = inventory.graph(None, [server("a"), server("b")])
    assert volumes.listings == 1
    assert [resource.key for resource in graph.resources] == [
        "Volume#1",
        "Volume#a",
        "Server#a",
        "Volume#b",
        "Server#b",
    ]


def test_the_plan_says_the_layer_of_what_it_names(inventory: Inventory) -> None:
    graph = inventory.graph(None, [server("a", "web"), volume("1", "database")])
    assert {resource.key: resource.layer for resource in graph.resources} == {
        "Volume#1": "database",
        "Volume#a": "",
        "Server#a": "web",
    }


def test_a_listing_that_fails_fails_the_whole(inventory: Inventory, volumes: Volumes) -> None:
    volumes.broken = True
    for ask in (
        lambda: inventory.graph(None, [server("a")]),
        lambda: inventory.instances(None, "Server"),
        lambda: inventory.instance(None, "Server", "a"),
    ):
        with pytest.raises(Unavailable):
            ask()


def test_types_and_what_they_depend_on(inventory: Inventory) -> None:
    assert inventory.types() == ["Server", "Volume"]
    assert inventory.dependent_types("Server") == ["Volume"]
    assert inventory.dependent_types("Volume") == []
    assert [each.resource.id for each in inventory.instances(None, "Server")] == ["a", "b"]
    assert inventory.instance(None, "Server", "a").dependents == (volume("1"), volume("a"))


def test_what_is_not_there_is_said_so(inventory: Inventory) -> None:
    with pytest.raises(NotFound):
        inventory.instance(None, "Server", "z")
    with pytest.raises(InvalidInput) as caught:
        inventory.instances(None, "Share")
    assert caught.value.hint == "no such module"
