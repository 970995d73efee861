"""The resource graph: a plan's resources and everything they depend on, at one moment, without loops."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.domain.resource import Resource
from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class ResourceGraph(msgspec.Struct, frozen=True):
    """A directed acyclic graph of resources; an edge leads from a parent to a dependent.

    `resources` is in post-order: dependents stand before those that need them. `children[i]` are the positions
    of the direct dependents of `resources[i]`.
    """

    resources: tuple[Resource, ...]
    children: tuple[tuple[int, ...], ...]

    def parents(self) -> list[list[int]]:
        """For each resource the positions of those that directly depend on it."""
        found: list[list[int]] = [[] for _ in self.resources]
        for parent, dependents in enumerate(self.children):
            for child in dependents:
                found[child].append(parent)
        return found

    def pack(self) -> str:
        """The string that v1 shows as `resource_graph`: ``[nodes, adjacency]`` with ids in post-order."""
        nodes = {hex(i): [r.type, r.id, r.name, r.extra_info] for i, r in enumerate(self.resources)}
        edges = [[hex(i), [hex(child) for child in row]] for i, row in enumerate(self.children) if row]
        return json.dumps([nodes, edges])

    def closure(self, keys: Iterable[str]) -> ResourceGraph:
        """The part of the graph that the resources with these keys need, themselves included.

        Raises `InvalidInput` where a key is not in the graph.
        """
        position = {resource.key: i for i, resource in enumerate(self.resources)}
        unknown = [key for key in keys if key not in position]
        if unknown:
            raise InvalidInput(f"resource {unknown[0]} is not in this checkpoint", field="resources")
        wanted: set[int] = set()
        stack = [position[key] for key in keys]
        while stack:
            node = stack.pop()
            if node not in wanted:
                wanted.add(node)
                stack.extend(self.children[node])
        kept = sorted(wanted)
        moved = {old: new for new, old in enumerate(kept)}
        return ResourceGraph(
            resources=tuple(self.resources[i] for i in kept),
            children=tuple(tuple(moved[child] for child in self.children[i]) for i in kept),
        )


def unpack(text: str) -> ResourceGraph:
    """Read what `ResourceGraph.pack` or the original wrote; raises `InvalidInput` where it is not such a string."""
    try:
        nodes, adjacency = json.loads(text)
        names = sorted(nodes, key=lambda name: int(name, 16))
        position = {name: i for i, name in enumerate(names)}
        edges = {parent: tuple(position[child] for child in row) for parent, row in adjacency}
        resources = tuple(_resource(nodes[name]) for name in names)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"not a packed resource graph: {error}", field="resource_graph") from error
    return ResourceGraph(resources=resources, children=tuple(edges.get(name, ()) for name in names))


def _resource(row: Sequence[Any]) -> Resource:
    kind, ident, name, extra = row
    if isinstance(extra, str):
        extra = json.loads(extra)
    return Resource(type=kind, id=ident, name=name or "", extra_info=extra)


def build(roots: Iterable[Resource], dependents: Callable[[Resource], Iterable[Resource]]) -> ResourceGraph:
    """Walk from the plan's resources to everything they depend on; each resource is expanded once.

    Linear in nodes and edges. Raises `InvalidInput` naming the loop where there is one.
    """
    order: list[Resource] = []
    edges: list[tuple[int, ...]] = []
    position: dict[str, int] = {}
    open_keys: dict[str, None] = {}
    stack: list[tuple[Resource, list[Resource], Iterator[Resource]]] = []

    def enter(resource: Resource) -> None:
        if resource.key in open_keys:
            loop = [*list(open_keys)[list(open_keys).index(resource.key) :], resource.key]
            raise InvalidInput(f"resources depend on one another in a loop: {' → '.join(loop)}", field="resources")
        if resource.key not in position:
            open_keys[resource.key] = None
            found = list({child.key: child for child in dependents(resource)}.values())
            stack.append((resource, found, iter(found)))

    for root in roots:
        enter(root)
        while stack:
            resource, found, rest = stack[-1]
            child = next(rest, None)
            if child is not None:
                enter(child)
                continue
            stack.pop()
            del open_keys[resource.key]
            position[resource.key] = len(order)
            order.append(resource)
            edges.append(tuple(position[child.key] for child in found))
    return ResourceGraph(resources=tuple(order), children=tuple(edges))
