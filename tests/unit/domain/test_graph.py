"""The resource graph: built once per resource, packed as v1 shows it, cut to what a part needs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karbor.domain.graph import ResourceGraph, build, unpack
from karbor.domain.resource import Resource
from karbor.errors import InvalidInput


def thing(name: str, **more: object) -> Resource:
    return Resource(type="OS::Cinder::Volume", id=name, name=name, **more)


def graph_of(edges: dict[str, list[str]], *roots: str) -> ResourceGraph:
    return build([thing(root) for root in roots], lambda parent: [thing(c) for c in edges.get(parent.id, [])])


def names(graph: ResourceGraph) -> list[str]:
    return [resource.id for resource in graph.resources]


def test_dependents_stand_before_those_that_need_them() -> None:
    graph = graph_of({"app": ["web", "db"], "web": ["disk"], "db": ["disk"]}, "app")
    assert names(graph) == ["disk", "web", "db", "app"]
    assert graph.children == ((), (0,), (0,), (1, 2))
    assert graph.parents() == [[1, 2], [3], [3], []]


def test_a_shared_dependent_is_expanded_once() -> None:
    asked: list[str] = []

    def dependents(parent: Resource) -> list[Resource]:
        asked.append(parent.id)
        return [thing("shared")] if parent.id != "shared" else []

    build([thing("a"), thing("b"), thing("a")], dependents)
    assert asked == ["a", "shared", "b"]


def test_a_resource_with_two_names_is_one() -> None:
    graph = build([thing("a"), Resource(type="OS::Cinder::Volume", id="a", name="live name")], lambda _: [])
    assert len(graph.resources) == 1


def test_a_loop_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"#a → .*#b → .*#c → .*#a"):
        graph_of({"a": ["b"], "b": ["c"], "c": ["a"]}, "a")


def test_a_deep_chain_needs_no_recursion() -> None:
    edges = {str(i): [str(i + 1)] for i in range(20_000)}
    assert len(graph_of(edges, "0").resources) == 20_001


def test_every_node_and_edge_is_looked_at_once() -> None:
    """Linear in both: how long ten thousand nodes take is measured in bench/flow.py."""
    edges = {str(i): [str(j) for j in range(i + 1, min(i + 6, 2_000))] for i in range(2_000)}
    asked: list[str] = []

    def dependents(parent: Resource) -> list[Resource]:
        asked.append(parent.id)
        return [thing(child) for child in edges[parent.id]]

    graph = build([thing("0")], dependents)
    assert len(asked) == len(set(asked)) == 2_000
    assert sum(map(len, graph.children)) == 9_985


def test_packs_as_v1_shows_it() -> None:
    graph = graph_of({"server": ["image", "volume"]}, "server")
    nodes, adjacency = json.loads(graph.pack())
    assert nodes["0x2"] == ["OS::Cinder::Volume", "server", "server", None]
    assert adjacency == [["0x2", ["0x0", "0x1"]]]


def test_unpacks_what_the_original_wrote() -> None:
    text = json.dumps(
        [
            {
                "0x0": ["OS::Cinder::Volume", "v", "vol", '{"availability_zone": "nova"}'],
                "0x1": ["OS::Nova::Server", "s", "srv", None],
            },
            [["0x1", ["0x0"]]],
        ]
    )
    graph = unpack(text)
    assert graph.resources[0].extra_info == {"availability_zone": "nova"}
    assert graph.children == ((), (0,))


@pytest.mark.parametrize("text", ["", "[]", "[{}, [[1, 2]]]", '[{"0x0": ["a"]}, []]', "{", "null"])
def test_refuses_what_is_no_graph(text: str) -> None:
    with pytest.raises(InvalidInput):
        unpack(text)


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), min_size=1, max_size=30))
def test_packing_is_reversible(rows: list[list[int]]) -> None:
    edges = {str(i): [str(child) for child in row if child > i and child < len(rows)] for i, row in enumerate(rows)}
    graph = graph_of(edges, *edges)
    assert unpack(graph.pack()) == graph


def test_a_part_brings_what_it_needs_and_no_more() -> None:
    graph = graph_of({"app": ["web", "db"], "web": ["disk"]}, "app")
    part = graph.closure(["OS::Cinder::Volume#web"])
    assert names(part) == ["disk", "web"]
    assert part.children == ((), (0,))


def test_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not in this checkpoint"):
        graph_of({}, "a").closure(["OS::Cinder::Volume#zzz"])
