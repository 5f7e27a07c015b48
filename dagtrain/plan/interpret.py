"""The slow and obvious executor: one kernel call a node, in order, all values kept. Every other executor is tested against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagtrain.backends import NUMPY, Backend, find_backend
from dagtrain.errors import ArgumentError, ExecutionError
from dagtrain.graph import LEAVES, Array, Graph, Tensor, bodies
from dagtrain.plan.inputs import as_input

__all__ = ["interpret", "node_values"]


def node_values(
    graph: Graph, inputs: Sequence[Any], watch: Callable[[Tensor, Any], None] | None = None, backend: str | Backend = NUMPY
) -> Mapping[Tensor, Any]:
    """The value of every node; `watch(node, value)` is called with each as soon as it is computed."""
    if len(inputs) != len(graph.inputs):
        raise ArgumentError(f"the graph has {len(graph.inputs)} inputs {list(graph.inputs)}, got {len(inputs)} values.")
    backend = find_backend(backend)
    values: dict[Tensor, Any] = {}
    for (name, leaf), value in zip(graph.inputs.items(), inputs, strict=True):
        values[leaf] = backend.from_host(as_input(name, leaf.spec, value))
    return _fill(graph, values, backend, watch)


def _fill(
    graph: Graph, values: dict[Tensor, Any], backend: Backend, watch: Callable[[Tensor, Any], None] | None = None
) -> dict[Tensor, Any]:
    """Add the value of every node to those of the inputs."""
    for node in graph.nodes:
        if node not in values:
            values[node] = backend.from_host(node.value) if node.op in LEAVES else _apply(node, values, backend)
        if watch is not None:
            watch(node, values[node])
    return values


def _apply(node: Tensor, values: Mapping[Tensor, Any], backend: Backend) -> Any:
    arrays, attributes = [values[source] for source in node.inputs], dict(node.attributes)
    if node.is_part:
        return arrays[0][attributes["index"]]
    kernel = backend.kernel(node.op)
    try:
        if kernel.view:
            return kernel(*arrays, **attributes)
        specs = node.spec.parts or (node.spec,)
        out = tuple(backend.empty(spec.shape, spec.dtype) for spec in specs)
        if kernel.bind is not None:
            graphs = {name: tuple(_Body(graph, backend) for graph in several) for name, several in bodies(node).items()}
            plain = {name: value for name, value in attributes.items() if name not in graphs}
            kernel.bind(graphs, backend, **plain)(arrays, out)
        else:
            kernel(*arrays, out=out if node.spec.parts else out[0], **attributes)
    except (ArgumentError, ExecutionError):
        raise
    except Exception as error:
        raise ExecutionError(f"{node.op} ({node.spec}) at {node.origin} failed: {error}") from error
    return out if node.spec.parts else out[0]


class _Body:
    """A body that is interpreted: new memory at each call."""

    def __init__(self, graph: Graph, backend: Backend) -> None:
        self.graph, self.backend = graph, backend

    def bind(self, shared: Any = None) -> Callable[..., Sequence[Any]]:
        return self

    def __call__(self, *arrays: Any) -> list[Any]:
        values = _fill(self.graph, dict(zip(self.graph.inputs.values(), arrays, strict=True)), self.backend)
        results = []
        for output in self.graph.outputs.values():  # views become arrays of their own
            results.append(self.backend.empty(output.shape, output.dtype))
            self.backend.copy(results[-1], values[output])
        return results


def interpret(graph: Graph, *inputs: Any, backend: str | Backend = NUMPY) -> tuple[Array, ...]:
    """The values of the graph's outputs.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> graph = dt.trace(lambda x: x * 2, np.zeros(2))
    >>> interpret(graph, np.array([1.0, 2.0]))
    (array([2., 4.]),)
    """
    backend = find_backend(backend)
    values = node_values(graph, inputs, backend=backend)
    return tuple(backend.to_host(values[t]) for t in graph.outputs.values())
