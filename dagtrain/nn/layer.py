"""The protocol of a layer, and functions that all layers share.

    init(key, spec)                 -> (params, state)          first values, for a batch of this spec (first axis: samples)
    apply(params, state, x, ...)    -> (y, state)               a pure function of tensors or arrays

Gradients change `params`; `state` holds running statistics of the batches. Both are nested dicts of arrays, or ``{}``. A layer itself is a
frozen dataclass: its settings and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from dagtrain.errors import DagtrainError, ShapeError
from dagtrain.graph import Graph, Spec, make_spec, spec_of
from dagtrain.nn.values import Values
from dagtrain.ops.random import key as new_key
from dagtrain.trace import trace_nested

__all__ = ["Layer", "Nest", "input_spec", "naming", "parameter_dtype", "trace_layer"]

Nest = dict[str, Any]
"""Nested dict of arrays or tensors."""


class Layer(Protocol):
    """A part of a model; any frozen dataclass with these two methods can stand in a `Sequential`."""

    @property
    def name(self) -> str | None:
        """The user's name for the layer; None names it after its class."""

    def init(self, key: Any, spec: Spec) -> tuple[Nest, Nest]:
        """First parameters and state for batches of this spec."""

    def apply(self, params: Nest, state: Nest, x: Values, *, key: Any = None, training: bool = False) -> tuple[Values, Nest]:
        """The output for a batch, and the state after it."""


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the layer's name before the message of any error raised inside."""
    try:
        yield
    except DagtrainError as error:
        raise type(error)(f"layer {name!r}: {error}") from error


def parameter_dtype(spec: Spec) -> np.dtype[Any]:
    """Dtype of the parameters of a layer with this input: float64 for float64, else float32."""
    return np.dtype(np.float64 if spec.dtype == np.float64 else np.float32)


def input_spec(value: Any) -> Spec:
    """Spec of a model's batched input, from a spec, an array, or a shape (then float32).

    Examples
    --------
    >>> print(input_spec((32, 64)))
    float32[32, 64]
    """
    if isinstance(value, dict) or (type(value) is tuple and value and isinstance(value[0], Spec)):
        columns = ", ".join(value) if isinstance(value, dict) else f"{len(value)} columns"
        raise ShapeError(f"the model takes one array as x, got a {type(value).__name__} of {columns}: join them with np.concatenate.")
    spec = make_spec(value, np.float32) if isinstance(value, tuple | list) and not isinstance(value, Spec) else spec_of(value)
    if not spec.ndim:
        raise ShapeError(f"a model's input has samples on its first axis, got {spec}.")
    return spec


def trace_layer(layer: Layer, params: Nest, state: Nest, spec: Spec, *, training: bool = False) -> tuple[Graph, Spec]:
    """Graph of one application to a batch of this spec, and the spec of its output.

    Examples
    --------
    >>> from dagtrain.nn import Flatten
    >>> graph, out = trace_layer(Flatten(), {}, {}, make_spec((5, 2, 3), "f4"))
    >>> print(out)
    float32[5, 6]
    """

    def forward(params: Nest, state: Nest, x: Values, key: Any) -> tuple[Values, Nest]:
        return layer.apply(params, state, x, key=key, training=training)

    graph = trace_nested(forward, params, state, spec, new_key(0)).graph
    output = next(iter(graph.outputs.values())).spec
    if not output.shape or output.shape[0] != spec.shape[0]:
        raise ShapeError(f"{type(layer).__name__} made {output} of {spec}: a layer keeps the samples on the output axis.")
    return graph, output
