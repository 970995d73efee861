"""From a resource graph and the hooks that plugins wrote to the steps of a run: a pure function, linear in both.

The order of hooks is that of `karbor.sdk.protection`. A hook that nobody wrote makes no step: what it would have
ordered is handed on as a frontier, the set of steps that come last before it. Where a frontier grows beyond
`_WIDE`, one `join` step stands for it, so that edges stay linear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from karbor.domain.resource import LAYERS
from karbor.flow.model import NewStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from karbor.domain.graph import ResourceGraph
    from karbor.domain.operation import Operation
    from karbor.domain.resource import Resource

_WIDE = 8
JOIN = "join"

Frontier = frozenset[int]
_NONE: Frontier = frozenset()


class Hooks(msgspec.Struct, frozen=True):
    """What the plugin of one resource wrote for the operation: names of hooks, as in `domain.operation.HOOKS`."""

    plugin: str
    version: str
    written: tuple[str, ...]


def build(operation: Operation, graph: ResourceGraph, hooks_of: Callable[[Resource], Hooks]) -> tuple[NewStep, ...]:
    """The steps of an operation on every resource of the graph; positions in `needs` are those of the result."""
    return _Builder(operation, graph, [hooks_of(resource) for resource in graph.resources]).build()


class _Builder:
    """Holds the steps while the four phases are laid over the graph."""

    def __init__(self, operation: Operation, graph: ResourceGraph, hooks: list[Hooks]) -> None:
        self.operation = operation
        self.graph = graph
        self.hooks = hooks
        self.parents = graph.parents()
        self.steps: list[NewStep] = []
        self.layers = effective_layers(operation, graph)

    def build(self) -> tuple[NewStep, ...]:
        count = len(self.graph.resources)
        begun: list[Frontier] = [_NONE] * count
        for i, gate in self._gated(reversed(range(count)), begun, gating=self.operation == "protect"):
            begun[i] = self._step(i, "prepare_begin", self._union((begun[p] for p in self.parents[i]), gate))
        finished: list[Frontier] = [_NONE] * count
        for i in range(count):
            below = self._union(finished[child] for child in self.graph.children[i])
            finished[i] = self._step(i, "prepare_finish", self._union([begun[i], below]))
        prepared = self._union(self._all("prepare_finish"))
        completed: list[Frontier] = [_NONE] * count
        for i, gate in self._gated(range(count), completed, gating=self.operation == "restore"):
            main = self._step(i, "main", self._union([finished[i], gate, prepared]))
            below = self._union(completed[child] for child in self.graph.children[i])
            completed[i] = self._step(i, "complete", self._union([main, below]))
        return tuple(self.steps)

    def _all(self, hook: str) -> list[Frontier]:
        action = f"{self.operation}_{hook}"
        return [frozenset({seq}) for seq, step in enumerate(self.steps) if step.action == action]

    def _gated(self, order: Iterable[int], ends: list[Frontier], *, gating: bool) -> Iterable[tuple[int, Frontier]]:
        """Positions layer by layer, each with the frontier of every layer before its own; unlayered ones first.

        `effective_layers` sees to it that the order within the graph is kept.
        """
        positions = list(order)
        if not gating or not any(self.layers):
            yield from ((i, _NONE) for i in positions)
            return
        gate = _NONE
        ranks = [rank or 0 for rank in self.layers]
        late = self._after_layers(positions, ranks) if self.operation == "restore" else frozenset()
        for rank in range(len(LAYERS) + 1):
            members = [i for i in positions if ranks[i] == rank and i not in late]
            yield from ((i, gate) for i in members)
            if rank:
                gate = self._union([gate, *(ends[i] for i in members)])
        yield from ((i, _NONE) for i in positions if i in late)

    def _after_layers(self, positions: list[int], ranks: list[int]) -> frozenset[int]:
        """Unlayered resources with a layered one below them: they complete after it, so they are laid last."""
        late: set[int] = set()
        for i in positions:
            below = self.graph.children[i]
            if not ranks[i] and any(ranks[child] or child in late for child in below):
                late.add(i)
        return frozenset(late)

    def _union(self, frontiers: Iterable[Frontier], *more: Frontier) -> Frontier:
        joined = _NONE.union(*frontiers, *more)
        if len(joined) <= _WIDE:
            return joined
        self.steps.append(NewStep(action=JOIN, needs=tuple(sorted(joined))))
        return frozenset({len(self.steps) - 1})

    def _step(self, node: int, hook: str, needs: Frontier) -> Frontier:
        hooks = self.hooks[node]
        if hook not in hooks.written:
            return needs
        self.steps.append(
            NewStep(
                action=f"{self.operation}_{hook}",
                node=node,
                resource=self.graph.resources[node].key,
                plugin=hooks.plugin,
                plugin_version=hooks.version,
                needs=tuple(sorted(needs)),
            )
        )
        return frozenset({len(self.steps) - 1})


def effective_layers(operation: Operation, graph: ResourceGraph) -> list[int]:
    """The rank of each resource's layer in the operation's order, from 1; 0 where it has none.

    A protect quiesces web before application before database; a restore goes the other way. A dependent is never
    gated behind what needs it: on protect it takes the latest rank of its own and its parents', on restore the
    earliest, so that layers and dependencies never form a loop.
    """
    order = LAYERS if operation == "protect" else tuple(reversed(LAYERS))
    choose = max if operation == "protect" else min
    parents = graph.parents()
    ranks = [0] * len(graph.resources)
    for i in reversed(range(len(graph.resources))):
        layer = graph.resources[i].layer
        own = [order.index(layer) + 1] if layer else []
        known = own + [ranks[p] for p in parents[i] if ranks[p]]
        ranks[i] = choose(known) if known else 0
    return ranks
