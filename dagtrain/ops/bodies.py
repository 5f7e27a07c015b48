"""What ops with several outputs and with bodies share; see `dagtrain.ops.record` for their contracts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from dagtrain.graph import Graph, Spec

__all__ = ["Body", "Call", "Vjp", "restrict", "several"]

Call = Callable[..., Sequence[Any]]
"""A body that can be run: arrays in, arrays out, in memory that the next call overwrites."""
Vjp = Callable[[Graph, Sequence[int], Sequence[int]], Graph]
"""``vjp(body, inputs, outputs)`` is the graph (the body's inputs, a cotangent for each of these outputs) → a gradient for each of these
inputs; both are lists of positions."""


class Body(Protocol):
    """A body as an executor gives it to a kernel."""

    def bind(self, shared: Call | None = None) -> Call:
        """The body with outputs of its own; its work space too, or that of another binding, which does not run at the same time."""
        ...


def several(specs: Sequence[Spec]) -> Spec:
    """The spec of a node with these outputs."""
    return Spec((), np.dtype(bool), tuple(specs))


def restrict(body: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    """The body with the inputs and outputs at these positions; the body itself if these are all."""
    if len(inputs) == len(body.inputs) and len(outputs) == len(body.outputs):
        return body
    ins, outs = list(body.inputs.items()), list(body.outputs.items())
    return Graph(dict(ins[i] for i in inputs), dict(outs[i] for i in outputs))
