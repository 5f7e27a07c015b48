"""The bodies of a node: the graphs among its attributes, such as a loop's step or the branches of a choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagtrain.graph.graph import Graph
from dagtrain.graph.tensor import Tensor, make

__all__ = ["bodies", "with_bodies"]


def bodies(node: Tensor) -> dict[str, tuple[Graph, ...]]:
    """Attribute → its graph, or its graphs."""
    return {name: graphs for name, value in node.attributes if (graphs := _graphs(value))}


def with_bodies(node: Tensor, change: Callable[[Graph], Graph]) -> Tensor:
    """The node with each body changed to a graph of the same inputs and outputs; the node itself if none changes."""
    changed: dict[str, Any] = {}
    for name, graphs in bodies(node).items():
        new = tuple(map(change, graphs))
        if any(a is not b for a, b in zip(new, graphs, strict=True)):
            changed[name] = new if isinstance(node.attribute(name), tuple) else new[0]
    return make(node.op, node.inputs, {**dict(node.attributes), **changed}, node.spec, node.origin) if changed else node


def _graphs(value: Any) -> tuple[Graph, ...]:
    if isinstance(value, Graph):
        return (value,)
    return value if isinstance(value, tuple) and value and isinstance(value[0], Graph) else ()
