"""Graphs as `dask.delayed` values: one for each output; inputs are values, or Dask computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError
from dagtrain.graph import Graph, Tensor, array, rebuild, spec_of
from dagtrain.tasks.external import dask_leaf, is_dask, source_of
from dagtrain.tasks.lowering import lower
from dagtrain.trace import leaves

__all__ = ["to_delayed"]


def to_delayed(graph: Graph, *inputs: Any, granularity: str | float = "fragment", **named: Any) -> Any:
    """The outputs of a graph as delayed values.

    Parameters
    ----------
    graph
        Any graph; it is lowered as it is.
    *inputs
        Values of the graph's inputs in their order: arrays, numbers, tensors, or what Dask computes (a Delayed, a future, a dask array as
        a whole). A dict of these, as the traced function takes it, stands for all its leaves.
    granularity
        How much work is worth a task; see `lower`.
    **named
        Values by the name of the input; an input made by `from_delayed` needs none.

    Returns
    -------
    Delayed or tuple of Delayed
        One for a graph with one output, else a tuple in the order of the outputs. They compute to arrays with the bits of the interpreter.

    Raises
    ------
    ArgumentError
        If an input has no value, or one of another shape.
    UnknownNameError
        If there is no input of this name.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> graph = dt.trace(lambda x, y: np.sum(x * y), np.zeros(3), np.zeros(3))
    >>> graph.to_delayed([1.0, 2.0, 3.0], y=np.ones(3)).compute()
    array(6.)
    """
    values = _by_name(graph, inputs, named)
    leaf_of = {graph.inputs[name]: _leaf(name, graph.inputs[name], value) for name, value in values.items()}
    became = rebuild(graph.outputs.values(), leaf_of)
    lowered = lower(Graph.of(**{name: became[t] for name, t in graph.outputs.items()}), granularity=granularity)
    layer = f"graph-{graph.key[:16]}"
    layers = HighLevelGraph.from_collections(layer, lowered.tasks, dependencies=())
    outputs = tuple(Delayed(key, layers, layer=layer) for key in lowered.keys.values())
    return outputs[0] if len(outputs) == 1 else outputs


def _by_name(graph: Graph, inputs: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    # Nested arguments of the traced function: their leaves are the inputs, in order.
    inputs = tuple(leaf for argument in inputs for leaf in (leaves(argument) if isinstance(argument, dict) else (argument,)))
    if len(inputs) > len(graph.inputs):
        raise ArgumentError(f"the graph has {len(graph.inputs)} inputs {list(graph.inputs)}, got {len(inputs)} values.")
    values = dict(zip(graph.inputs, inputs, strict=False))
    for name, value in named.items():
        one_of("input", name, graph.inputs)
        if name in values:
            raise ArgumentError(f"input {name!r} is given twice, by its place and by its name.")
        values[name] = value
    for name, leaf in graph.inputs.items():
        if name not in values and leaf.attribute("source") is None:
            raise ArgumentError(
                f"input {name!r} ({leaf.spec}, made at {leaf.origin}) has no value: give one for each of {list(graph.inputs)}, by place "
                "or by name."
            )
    return values


def _leaf(name: str, leaf: Tensor, value: Any) -> Tensor:
    """The leaf in an input's place: with the value, or with the Dask graph that computes it."""
    if isinstance(value, Tensor):
        if value.spec != leaf.spec:
            raise ArgumentError(f"input {name!r} is {leaf.spec}, got {value.spec}.")
        return value
    if is_dask(value):
        shape = getattr(value, "shape", None)  # with NaN for lengths that Dask does not know
        if isinstance(shape, tuple) and all(isinstance(n, int) for n in shape) and shape != leaf.shape:
            raise ArgumentError(f"input {name!r} is {leaf.spec}, got a {type(value).__name__} of shape {shape}.")
        return dask_leaf(name, leaf.spec, source_of(value))
    content = np.asarray(value, leaf.dtype)
    if content.shape != leaf.shape:
        raise ArgumentError(f"input {name!r} is {leaf.spec}, got {spec_of(value)}.")
    return array(content, name=name)
