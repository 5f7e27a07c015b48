"""The checker: every node of a graph against its op's own shape rule. Tests run it after every pass."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dagtrain.errors import GraphError
from dagtrain.graph import LEAVES, Graph, Spec, Tensor, bodies
from dagtrain.ops import Op, find

__all__ = ["verify"]


def verify(graph: Graph) -> Graph:
    """Check that every node has the spec that its op infers; return the graph.

    Raises
    ------
    GraphError
        Naming the node, its spec and the spec that its op infers.
    """
    earlier: set[Tensor] = set()
    for node in graph.nodes:
        if not earlier.issuperset(node.inputs):
            raise GraphError(f"{node!r} stands before one of its inputs.")
        earlier.add(node)
        _check(node)
    return graph


def _check(node: Tensor) -> None:
    if node.op in LEAVES:
        if node.inputs:
            raise GraphError(f"the leaf {node!r} has inputs.")
        if node.op != "input" and Spec(node.value.shape, node.value.dtype) != node.spec:
            raise GraphError(f"{node!r} holds a value of shape {node.value.shape} and dtype {node.value.dtype}.")
        return
    for several in bodies(node).values():
        for body in several:
            verify(body)
    inferred = _inferred(find(node.op), tuple(source.spec for source in node.inputs), node.attributes)
    if inferred != node.spec:
        raise GraphError(f"{node!r} made at {node.origin} claims {node.spec}; the op {node.op!r} gives {inferred}.")


@lru_cache(maxsize=4096)  # most nodes of a graph are in the graphs that are made of it, and alike in others
def _inferred(op: Op, specs: tuple[Spec, ...], attributes: tuple[tuple[str, Any], ...]) -> Spec:
    return op.infer(*specs, **dict(attributes))
