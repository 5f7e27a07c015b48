"""The computational graph of a model, for its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagtrain.graph import Graph, Tensor, rebuild
from dagtrain.graph import input as new_input
from dagtrain.nn.context import run_pass
from dagtrain.nn.passes import Pass
from dagtrain.nn.tracing import first_pass
from dagtrain.ops.random import key as new_key
from dagtrain.trace.tree import flatten

if TYPE_CHECKING:
    from dagtrain.nn.layer import Layer

__all__ = ["graph_of"]


def graph_of(layer: Layer, inputs: tuple[Any, ...], training: bool) -> Graph:
    """The graph of a layer's outputs, in training with the auxiliary ones; its inputs are those of the layer, parameters and states."""
    first = first_pass(layer, new_key(0), inputs, allocate=False)
    shared, call = first.shared, first.call
    if not training:
        shared = Pass(False, shared.dtype, None, dict(shared.parameters), dict(shared.states))
        call = run_pass(shared, layer, call.inputs)
    named, _ = flatten(call.outputs)
    outputs = {name or "y": value for name, value in {**named, **shared.auxiliary}.items() if isinstance(value, Tensor)}
    became = {
        leaf: new_input(f"{root}.{'.'.join(path)}", leaf.shape, leaf.dtype)
        for root, values in (("parameters", shared.parameters), ("statistics", shared.states))  # as in the graph of a trainer
        for path, leaf in values.items()
    }
    rebuilt = rebuild(list(outputs.values()), became)
    return Graph.of(**{name: rebuilt[value] for name, value in outputs.items()})
