"""What ops with several outputs and with bodies share; see `dagtrain.ops.record` for their contracts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from dagtrain.graph import Graph, Spec, Tensor
from dagtrain.ops.record import as_tensor, written
from dagtrain.ops.shape import broadcast_to

__all__ = ["Body", "Call", "Vjp", "cotangent", "restrict", "several", "written_parts"]

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


def written_parts(results: Sequence[Any], out: Sequence[Any] | None) -> tuple[Any, ...]:
    """The results of a kernel with several outputs: as they are, or copied into `out`, whose entries are None where nothing reads them."""
    if out is None:
        return tuple(results)
    return tuple(None if place is None else written(result, place) for result, place in zip(results, out, strict=True))


def cotangent(g: Tensor | None, spec: Spec) -> Tensor:
    """The cotangent of an output of this spec; zeros for one that leads nowhere."""
    return broadcast_to(as_tensor(np.zeros((), spec.dtype)), spec.shape) if g is None else g


def restrict(body: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    """The body with the inputs and outputs at these positions; the body itself if these are all."""
    if len(inputs) == len(body.inputs) and len(outputs) == len(body.outputs):
        return body
    ins, outs = list(body.inputs.items()), list(body.outputs.items())
    return Graph(dict(ins[i] for i in inputs), dict(outs[i] for i in outputs))
