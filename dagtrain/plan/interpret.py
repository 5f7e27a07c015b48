"""The slow and obvious executor: one kernel call a node, in order, all values kept. Every other executor is tested against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, ExecutionError
from dagtrain.graph import LEAVES, Array, Graph, Tensor
from dagtrain.ops import find
from dagtrain.ops.scan import run
from dagtrain.plan.inputs import as_input

__all__ = ["interpret", "node_values"]


def node_values(graph: Graph, inputs: Sequence[Any], watch: Callable[[Tensor, Any], None] | None = None) -> Mapping[Tensor, Any]:
    """The value of every node; `watch(node, value)` is called with each as soon as it is computed."""
    if len(inputs) != len(graph.inputs):
        raise ArgumentError(f"the graph has {len(graph.inputs)} inputs {list(graph.inputs)}, got {len(inputs)} values.")
    values: dict[Tensor, Any] = {}
    for (name, leaf), value in zip(graph.inputs.items(), inputs, strict=True):
        values[leaf] = as_input(name, leaf.spec, value)
    return _fill(graph, values, watch)


def _fill(graph: Graph, values: dict[Tensor, Any], watch: Callable[[Tensor, Any], None] | None = None) -> dict[Tensor, Any]:
    """Add the value of every node to those of the inputs."""
    for node in graph.nodes:
        if node not in values:
            values[node] = node.value if node.op in LEAVES else _apply(node, [values[source] for source in node.inputs])
        if watch is not None:
            watch(node, values[node])
    return values


def _apply(node: Tensor, arrays: list[Any]) -> Any:
    try:
        if node.op == "scan":
            attributes = dict(node.attributes)
            body = attributes["body"]
            buffers = [np.empty(p.shape, p.dtype) for p in node.spec.parts]
            return run(attributes, lambda *values: _outputs(body, values), arrays, buffers)
        op = find(node.op)
        value = op.kernel(*arrays, **dict(node.attributes))
    except (ArgumentError, ExecutionError):
        raise
    except Exception as error:
        raise ExecutionError(f"{node.op} ({node.spec}) at {node.origin} failed: {error}") from error
    # By default NumPy gives a result the layout of its operands; plans store it in C order.
    return np.asarray(value) if op.view else np.asarray(value, order="C")


def _outputs(body: Graph, arrays: Sequence[Any]) -> list[Any]:
    values = _fill(body, dict(zip(body.inputs.values(), arrays, strict=True)))
    return [np.asarray(values[t], order="C") for t in body.outputs.values()]


def interpret(graph: Graph, *inputs: Any) -> tuple[Array, ...]:
    """The values of the graph's outputs.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> graph = dt.trace(lambda x: x * 2, np.zeros(2))
    >>> interpret(graph, np.array([1.0, 2.0]))
    (array([2., 4.]),)
    """
    values = node_values(graph, inputs)
    return tuple(values[t] for t in graph.outputs.values())
