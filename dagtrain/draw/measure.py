"""The numbers laid over a computational graph: values, the gradient of one output, and the local derivative along each edge.

A local derivative belongs to one node alone: how its output changes with one of its inputs, the others fixed. For an elementwise op it is
an array of the output's shape. For any other op it is the derivative of the *sum* of the node's elements by that input. Both come from the
op's own gradient rule with a cotangent of ones, so for numbers both are the derivative that calculus gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError, GradientError, GraphError
from dagtrain.graph import LEAVES, Array, Graph, Spec, Tensor, constant, make
from dagtrain.graph import input as new_input
from dagtrain.ops import find
from dagtrain.plan.interpret import interpret, node_values
from dagtrain.transform.gradient import cotangents, gradient

__all__ = ["Measures", "cheap", "choose_target", "is_elementwise", "measure", "ordered"]


_ELEMENTWISE = frozenset({"cast", "erf", "where"})
"""Elementwise ops that neither their ufunc nor `inplace` identifies."""

CHEAP_BYTES, CHEAP_FLOPS, CHEAP_NODES = 64e6, 1e9, 2000


@dataclass(frozen=True)
class Measures:
    """The numbers of a picture; an absent node or edge has no such number."""

    values: Mapping[Tensor, Any] = field(default_factory=dict)
    gradients: Mapping[Tensor, Array] = field(default_factory=dict)
    local: Mapping[tuple[Tensor, int], Array] = field(default_factory=dict)
    """By node and position of the input."""
    target: Tensor | None = None
    """The differentiated output."""


def is_elementwise(node: Tensor) -> bool:
    """Whether each element of the output depends on one element of each input."""
    op = find(node.op)
    return op.ufunc is not None or bool(op.kernel.inplace) or op.name in _ELEMENTWISE


def cheap(graph: Graph) -> bool:
    """Whether the graph is small enough to be computed for a picture without being requested."""
    if len(graph) > CHEAP_NODES or sum(node.nbytes for node in graph.nodes) > CHEAP_BYTES:
        return False
    return sum(find(node.op).count_flops(node) for node in graph.nodes if node.op not in LEAVES) <= CHEAP_FLOPS


def ordered(graph: Graph, inputs: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    """The values of the graph's inputs in its order, from names or from a sequence."""
    if not isinstance(inputs, Mapping):
        return list(inputs)
    for name in inputs:
        one_of("input of the graph", name, graph.inputs)
    missing = [name for name in graph.inputs if name not in inputs]
    if missing:
        raise ArgumentError(
            f"values can be drawn only when every input has one; missing: {', '.join(missing)}. Add them to inputs={{...}}."
        )
    return [inputs[name] for name in graph.inputs]


def choose_target(graph: Graph, of: str | None) -> Tensor | None:
    """The output to differentiate: the named one, else the first that is one number, else the first that is a float."""
    if of is not None:
        return graph.outputs[one_of("output", of, graph.outputs)]
    floats = [t for t in graph.outputs.values() if t.dtype.kind == "f" and not t.spec.parts]
    return next((t for t in floats if not t.shape), floats[0] if floats else None)


def measure(graph: Graph, inputs: Sequence[Any], target: Tensor | None, *, gradients: bool = True, local: bool = True) -> Measures:
    """Compute what a picture shows.

    Parameters
    ----------
    graph
        What is drawn.
    inputs
        A value for each input.
    target
        The output to differentiate; the sum of its elements if it has several. None for no gradients.
    gradients, local
        Whether to compute gradients of the target by each node, and local derivatives.
    """
    with np.errstate(all="ignore"):
        return _measure(graph, inputs, target, gradients, local)


def _measure(graph: Graph, inputs: Sequence[Any], target: Tensor | None, gradients: bool, local: bool) -> Measures:
    values = node_values(graph, inputs)
    grads: dict[Tensor, Array] = {}
    if gradients and target is not None and target.dtype.kind == "f":
        beyond = _without_gradient(graph)
        targets = [n for n in graph.nodes if n.dtype.kind == "f" and n.op != "constant" and not n.spec.parts and n not in beyond]
        seed = np.ones(target.shape, target.dtype)
        grad_of = cotangents([target], [constant(seed)], targets)
        if grad_of:
            backward = Graph(graph.inputs, {str(i): g for i, g in enumerate(grad_of.values())})
            grads = dict(zip(grad_of, interpret(backward, *inputs), strict=True))
    edges: dict[tuple[Tensor, int], Array] = {}
    if local:
        for node in graph.nodes:
            if node.inputs and not node.spec.parts and not node.is_part and node.dtype.kind == "f":
                edges.update(((node, i), d) for i, d in _local(node, values).items())
    return Measures(values, grads, edges, target)


def _without_gradient(graph: Graph) -> set[Tensor]:
    """The nodes that lead to an op without a gradient rule: a picture shows no gradients of these."""
    beyond: set[Tensor] = set()
    for node in reversed(graph.nodes):
        if node in beyond or (node.op not in LEAVES and not node.is_part and find(node.op).gradient is None):
            beyond.update(node.inputs)
    return beyond


def _local(node: Tensor, values: Mapping[Tensor, Any]) -> dict[int, Array]:
    """The local derivative of one node by each of its float inputs that could vary."""
    wide = is_elementwise(node)
    specs = [Spec(node.shape, s.dtype) if wide else s.spec for s in node.inputs]
    stand_ins = [new_input(f"operand_{i}", s.shape, s.dtype) for i, s in enumerate(specs)]
    alone = make(node.op, tuple(stand_ins), dict(node.attributes), node.spec, node.origin)
    floats = [i for i, s in enumerate(node.inputs) if s.dtype.kind == "f" and s.op != "constant"]
    try:
        derivatives = gradient(alone, [stand_ins[i] for i in floats], np.ones((), node.dtype), unconnected="zero")
        graph = Graph({f"operand_{i}": t for i, t in enumerate(stand_ins)}, {str(i): d for i, d in zip(floats, derivatives, strict=True)})
        arrays = [np.broadcast_to(values[s], spec.shape) for s, spec in zip(node.inputs, specs, strict=True)]
        return dict(zip(floats, interpret(graph, *arrays), strict=True))
    except (GradientError, GraphError):
        # An op without a rule, or whose rule needs its true inputs: the edge stays bare.
        return {}
