"""From hooks and a graph to steps: the order that plugins are promised, and no more edges than needed."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karbor.domain.graph import ResourceGraph
from karbor.domain.graph import build as build_graph
from karbor.domain.operation import HOOKS
from karbor.domain.resource import LAYERS, Resource
from karbor.flow.build import Hooks, build, effective_layers
from karbor.flow.model import NewStep

ALL = HOOKS


def graph_of(edges: dict[str, list[str]], layers: dict[str, str] | None = None) -> ResourceGraph:
    def thing(name: str) -> Resource:
        return Resource(type="T", id=name, layer=(layers or {}).get(name, ""))

    return build_graph([thing(name) for name in edges], lambda parent: [thing(c) for c in edges[parent.id]])


def steps_of(graph: ResourceGraph, written: tuple[str, ...] = ALL, operation: str = "protect") -> tuple[NewStep, ...]:
    return build(operation, graph, lambda _: Hooks("plugin", "1", written))


def reach(steps: tuple[NewStep, ...]) -> list[set[int]]:
    """For each step everything that must have ended before it."""
    before: list[set[int]] = []
    for i, step in enumerate(steps):
        assert all(need < i for need in step.needs), "a step comes before what it needs"
        before.append(set(step.needs).union(*(before[need] for need in step.needs)))
    return before


def ordered(steps: tuple[NewStep, ...], first: tuple[str, str], then: tuple[str, str]) -> bool:
    at = {(step.resource.partition("#")[2], step.action.partition("_")[2]): i for i, step in enumerate(steps)}
    return at[first] in reach(steps)[at[then]]


def test_the_order_of_hooks_is_the_promised_one() -> None:
    steps = steps_of(graph_of({"server": ["volume"], "volume": []}))
    assert ordered(steps, ("server", "prepare_begin"), ("volume", "prepare_begin"))
    assert ordered(steps, ("volume", "prepare_finish"), ("server", "prepare_finish"))
    assert ordered(steps, ("volume", "complete"), ("server", "complete"))
    assert not ordered(steps, ("volume", "main"), ("server", "main"))
    for name in ("server", "volume"):
        for earlier, later in itertools.pairwise(HOOKS):
            assert ordered(steps, (name, earlier), (name, later))


def test_no_step_for_a_hook_that_nobody_wrote() -> None:
    steps = steps_of(graph_of({str(i): [] for i in range(100)}), ("main",))
    assert len(steps) == 100
    assert all(step.needs == () for step in steps)


def test_order_passes_through_resources_without_the_hook() -> None:
    graph = graph_of({"top": ["middle"], "middle": ["leaf"], "leaf": []})
    written = {"top": ("prepare_begin",), "middle": (), "leaf": ("main",)}
    steps = build("protect", graph, lambda resource: Hooks("p", "1", written[resource.id]))
    assert ordered(steps, ("top", "prepare_begin"), ("leaf", "main"))


def test_edges_stay_linear_when_everything_depends_on_everything() -> None:
    edges = {f"p{i}": [f"c{j}" for j in range(100)] for i in range(100)} | {f"c{j}": [] for j in range(100)}
    steps = steps_of(graph_of(edges))
    assert sum(len(step.needs) for step in steps) < 4 * 10_000 + 10 * len(steps)


def test_layers_quiesce_in_order_and_restore_in_the_reverse() -> None:
    graph = graph_of({"w": [], "a": [], "d": []}, {"w": "web", "a": "application", "d": "database"})
    protect = steps_of(graph)
    assert ordered(protect, ("w", "prepare_begin"), ("a", "prepare_begin"))
    assert ordered(protect, ("a", "prepare_begin"), ("d", "prepare_begin"))
    restore = steps_of(graph, operation="restore")
    assert ordered(restore, ("d", "complete"), ("a", "main"))
    assert ordered(restore, ("a", "complete"), ("w", "main"))


def test_a_dependent_in_a_later_layer_forms_no_loop() -> None:
    graph = graph_of({"db-server": ["disk"], "disk": []}, {"db-server": "database", "disk": "web"})
    assert effective_layers("protect", graph) == [3, 3]
    assert effective_layers("restore", graph) == [1, 1]
    steps_of(graph), steps_of(graph, operation="restore")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 11), max_size=3), st.sampled_from(("", *LAYERS))), min_size=1, max_size=12
    ),
    st.sampled_from(("protect", "restore", "verify", "delete")),
    st.lists(st.sets(st.sampled_from(HOOKS)), min_size=12, max_size=12),
)
def test_every_graph_can_be_laid_and_keeps_the_order(
    rows: list[tuple[list[int], str]], operation: str, written: list[set[str]]
) -> None:
    edges = {str(i): [str(c) for c in sorted(set(row)) if i < c < len(rows)] for i, (row, _) in enumerate(rows)}
    graph = graph_of(edges, {str(i): layer for i, (_, layer) in enumerate(rows)})
    hooks = {str(i): tuple(hook for hook in HOOKS if hook in written[i]) for i in range(len(rows))}
    steps = build(operation, graph, lambda resource: Hooks("p", "1", hooks[resource.id]))
    before = reach(steps)
    at = {(step.resource.partition("#")[2], step.action.partition("_")[2]): i for i, step in enumerate(steps)}
    for parent, children in edges.items():
        for child in children:
            for hook, (first, then) in {
                "prepare_begin": (parent, child),
                "prepare_finish": (child, parent),
                "complete": (child, parent),
            }.items():
                if (first, hook) in at and (then, hook) in at:
                    assert at[first, hook] in before[at[then, hook]]


@pytest.mark.parametrize("operation", ["protect", "restore"])
def test_ten_thousand_resources_are_laid_quickly(operation: str) -> None:
    edges = {str(i): [str(j) for j in range(i + 1, min(i + 6, 10_000))] for i in range(10_000)}
    assert len(steps_of(graph_of(edges), operation=operation)) >= 40_000
