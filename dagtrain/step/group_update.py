"""The update of one group of parameters, compiled: its scalars once a step, then its blocks.

    scalars(step, weight, norms)              once a step: 1 / weight, learning rate, bias corrections, …
    block(p, g, slots, scalars) → p, slots    for each block, in place

The gradient is that of the loss's sum over all shards. The first operation divides it by the loss's total weight, so that clipping, decay
and the optimiser see the gradient of the weighted mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError
from dagtrain.graph import LEAVES, Array, Graph, Tensor, ancestors_of, rebuild, topological
from dagtrain.graph import input as new_input
from dagtrain.nn.calls import naming
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.reduce import reduce_sum
from dagtrain.optim.groups import ParameterGroup
from dagtrain.optim.optimizer import Optimizer, Per
from dagtrain.plan import Plan, plan
from dagtrain.step.state import State

__all__ = ["BLOCK", "GroupUpdate", "blocks_of"]

BLOCK = 65536
"""Most elements of a block: large enough to be worth a call, and small enough for the caches with all vectors of Adam (measured)."""
_EVENLY = 4
"""More than one block are a multiple of this number, so two or four owners have equally many."""
_LINE = 16
"""Blocks begin at multiples of this number of elements: a cache line of float32."""


def blocks_of(size: int, most: int | None = None) -> list[slice]:
    """The fixed blocks of a vector: one, or several of nearly the same length.

    Parameters
    ----------
    size
        Elements of the vector.
    most
        Most elements of a block; `BLOCK` by default.

    Examples
    --------
    >>> [b.stop - b.start for b in blocks_of(150_000)]
    [37504, 37504, 37504, 37488]
    """
    most = BLOCK if most is None else most
    count = -(-size // most)
    if count > 1:
        count = -(-count // _EVENLY) * _EVENLY
    length = min(-(-size // (max(count, 1) * _LINE)) * _LINE, most)
    return [slice(a, min(a + length, size)) for a in range(0, size, max(length, 1))]


class _Tracing:
    """The optimiser's context while its graph is built; satisfies `dagtrain.optim.optimizer.Context`."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.step = new_input("step", (), np.float64)
        self.learning_rate_scale = new_input("learning_rate_scale", (), np.float64)
        self.weight = new_input("weight", (), np.float64)
        self.norms: list[Tensor] = []
        self.measured: list[Tensor] = []
        self.per: list[Per] = []

    def scalar(self, value: Any) -> Tensor:
        return cast(as_tensor(value), self.dtype)

    def norm(self, vector: Tensor, per: Per = "all") -> Tensor:
        one_of("per", per, ("all", "group", "parameter"))
        self.per.append(per)
        self.norms.append(new_input(f"norm_{len(self.norms)}", (), self.dtype))
        self.measured.append(reduce_sum(cast(vector, np.float64) ** 2))
        return self.norms[-1]

    def global_norm(self, vector: Tensor) -> Tensor:
        return self.norm(vector)


class GroupUpdate:
    """The update of one group of parameters.

    Parameters
    ----------
    group
        The group.
    start, sizes
        Its place in the vector, and the elements of each of its parameters.
    dtype
        Of the vector.
    block
        Most elements of a block.

    Attributes
    ----------
    place
        Its part of the vector.
    slots
        Name of each slot in the state → its name in the optimiser.
    units
        Its blocks, by unit: the blocks of a unit share their scalars. A unit is the group, or one parameter if the optimiser needs norms
        by parameter.
    per
        What each of its norms is of, in order.
    """

    def __init__(self, group: ParameterGroup, start: int, sizes: Sequence[int], dtype: Any, block: int | None) -> None:
        self.name, self.slots, self.period = group.name, group.slots, group.optimizer.period
        self.place = slice(start, start + sum(sizes))
        self.graph: Graph | None = None
        self.block_plans: dict[int, Plan] = {}
        self.norm_plans: dict[int, list[Plan]] = {}
        self.scalars: Plan | None = None
        self.per: tuple[Per, ...] = ()
        self._dtype = dtype
        self.units = [_shifted(blocks_of(sum(sizes), block), start)]
        self._build(group.optimizer)
        if "parameter" in self.per:
            starts = accumulate(sizes, initial=start)
            self.units = [_shifted(blocks_of(size, block), first) for first, size in zip(starts, sizes, strict=False) if size]
            self._build(group.optimizer)

    def _build(self, optimizer: Optimizer) -> None:
        lengths = {b.stop - b.start for unit in self.units for b in unit}
        self.block_plans = {n: p for n, p in self.block_plans.items() if n in lengths}
        for length in sorted(lengths - set(self.block_plans), reverse=True):
            self._build_for(optimizer, length)

    def _build_for(self, optimizer: Optimizer, length: int) -> None:
        context, dtype = _Tracing(self._dtype), self._dtype
        p, g = new_input("parameters", (length,), dtype), new_input("gradient", (length,), dtype)
        slots = {name: new_input(name, (length,), dtype) for name in optimizer.slots}
        mean = g * context.scalar(1.0 / context.weight)
        with naming(f"the optimizer {optimizer.name!r}"):
            result = optimizer.update(context, mean, p, dict(slots))
            if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict) and set(slots) <= set(result[1])):
                raise ArgumentError(f"update returns the change of the parameters and a dict of all slots ({', '.join(slots) or 'none'}).")
            change, after = result
        outputs = {"parameters": cast(p + change, dtype), **{n: cast(as_tensor(after[n]), dtype) for n in slots}}
        vectors = [p, g, *slots.values()]
        numbers = [context.step, context.learning_rate_scale, context.weight, *context.norms]
        scalars, replaced = _split(list(outputs.values()), vectors)
        leaves = {str(t.name): t for t in numbers}
        # A plan of its own computes once a step what depends on no vector.
        self.scalars = plan(Graph(leaves, {f"scalar_{i}": t for i, t in enumerate(scalars)})) if scalars else None
        block = Graph(
            {**{str(t.name): t for t in vectors}, **{f"scalar_{i}": replaced[t] for i, t in enumerate(scalars)}},
            {name: replaced[t] for name, t in outputs.items()},
        )
        self.block_plans[length] = plan(block, donate={name: name for name in ("parameters", *slots)})
        self.graph = Graph({**{str(t.name): t for t in vectors}, **leaves}, outputs)
        self.norm_plans[length] = [plan(Graph.of(squares=measured)) for measured in context.measured]
        self.per = tuple(context.per)

    @property
    def plans(self) -> list[Plan]:
        """The plans of its blocks and of its scalars."""
        return [*self.block_plans.values(), *([self.scalars] if self.scalars else [])]

    def count(self, state: State) -> int:
        """The updates made before since its optimiser began."""
        return state.step - state.starts.get(self.name, 0)

    def vectors(self, state: State, block: slice) -> list[Array]:
        """The parameters and the slots of a block of the vector."""
        local = slice(block.start - self.place.start, block.stop - self.place.start)
        return [state.parameters[block], *(state.slots[name][local] for name in self.slots)]


def _shifted(blocks: Sequence[slice], by: int) -> list[slice]:
    return [slice(b.start + by, b.stop + by) for b in blocks]


def _split(outputs: list[Tensor], vectors: list[Tensor]) -> tuple[list[Tensor], dict[Tensor, Tensor]]:
    """The scalars at the edge between tensors that depend on no vector and those that do, and the graph with inputs in their places."""
    order = topological(outputs)
    inside = ancestors_of(vectors, order)
    edge: dict[Tensor, None] = {}
    for node in order:
        if node in inside:
            edge.update((s, None) for s in node.inputs if s not in inside and s.op not in LEAVES - {"input"})
    stand_ins = {t: new_input(f"scalar_{i}", t.shape, t.dtype) for i, t in enumerate(edge)}
    return list(edge), rebuild(outputs, stand_ins)
