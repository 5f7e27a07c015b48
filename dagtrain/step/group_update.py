"""The update of one group of parameters, compiled: its scalars once a step, then its blocks.

    scalars(step, weight, norms)              once a step: 1 / weight, learning rate, bias corrections, …
    block(p, g, slots, scalars) → p, slots    for each block, in place

An optimiser with norms by parameter has blocks that end where parameters end. Small parameters share a block, whose scalars that depend on
such norms are vectors, with one number for each parameter:

    [ kernel: block 0 | block 1 | bias, kernel, bias: block 2 ]        [ n n n, m m m m m m, o o ]  the numbers, one for each element

The gradient is that of the loss's sum over all shards. The first operation divides it by the loss's total weight, so that clipping, decay
and the optimiser see the gradient of the weighted mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

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

__all__ = ["BLOCK", "GroupUpdate", "Unit", "blocks_of"]

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


class Unit(NamedTuple):
    """Blocks that share their scalars: those of a group, or of one parameter, or one block of several parameters of these sizes."""

    blocks: list[slice]
    sizes: tuple[int, ...] = ()

    def spread(self, values: Array) -> Array:
        """A number for each parameter as one for each of their elements; other values as they are."""
        return np.repeat(values, self.sizes) if np.ndim(values) else values

    def sum(self, values: Array) -> Array:
        """The sum of the elements of each parameter."""
        return np.add.reduceat(values, [0, *accumulate(self.sizes[:-1])])


class _Tracing:
    """The optimiser's context while its graph is built; satisfies `dagtrain.optim.optimizer.Context`.

    A norm by parameter has the shape `by_parameter`: () for the norm of one.
    """

    def __init__(self, dtype: Any, by_parameter: tuple[int, ...] = ()) -> None:
        self.dtype, self.by_parameter = dtype, by_parameter
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
        shape = self.by_parameter if per == "parameter" else ()
        self.norms.append(new_input(f"norm_{len(self.norms)}", shape, self.dtype))
        squares = cast(vector, np.float64) ** 2
        self.measured.append(squares if shape else reduce_sum(squares))
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
        Its blocks, by unit: the group, or parameters if the optimiser needs norms by parameter.
    per
        What each of its norms is of, in order.
    """

    def __init__(self, group: ParameterGroup, start: int, sizes: Sequence[int], dtype: Any, block: int | None) -> None:
        self.name, self.slots, self.period = group.name, group.slots, group.optimizer.period
        self.place = slice(start, start + sum(sizes))
        self.graph: Graph | None = None
        self._plans: dict[tuple[int, bool], tuple[Plan, list[Plan]]] = {}
        self._scalars: dict[int, Plan | None] = {}
        self.per: tuple[Per, ...] = ()
        self._dtype = dtype
        self.units = [Unit(_shifted(blocks_of(sum(sizes), block), start))]
        self._build(group.optimizer)
        if "parameter" in self.per:
            self.units = _units_of(sizes, start, block)
            self._build(group.optimizer)

    def _build(self, optimizer: Optimizer) -> None:
        needed = {(b.stop - b.start, bool(unit.sizes)) for unit in self.units for b in unit.blocks}
        self._plans = {key: plans for key, plans in self._plans.items() if key in needed}
        for key in sorted(needed - set(self._plans), reverse=True):
            self._plans[key] = self._plans_for(optimizer, *key)
        for count in {len(unit.sizes) for unit in self.units if unit.sizes}:  # of numbers by parameter: traced for vectors of as many
            scalars, *_ = self._trace(optimizer, count, (count,))
            self._scalars[count] = plan(scalars) if scalars.outputs else None

    def _plans_for(self, optimizer: Optimizer, length: int, several: bool) -> tuple[Plan, list[Plan]]:
        """The plans of a block of this many elements, of `several` parameters or less than two, and of the squares for its norms."""
        scalars, block, whole, context = self._trace(optimizer, length, (length,) if several else ())
        if not several:  # a plan of its own computes once a step what depends on no vector
            self._scalars[0], self.graph = plan(scalars) if scalars.outputs else None, whole
        self.per = tuple(context.per)
        donate = {name: name for name in ("parameters", *self.slots.values())}
        return plan(block, donate=donate), [plan(Graph.of(squares=measured)) for measured in context.measured]

    def _trace(self, optimizer: Optimizer, length: int, by_parameter: tuple[int, ...]) -> tuple[Graph, Graph, Graph, _Tracing]:
        """The graphs of the scalars, of a block given them, and of both."""
        context, dtype = _Tracing(self._dtype, by_parameter), self._dtype
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
        block = Graph(
            {**{str(t.name): t for t in vectors}, **{f"scalar_{i}": replaced[t] for i, t in enumerate(scalars)}},
            {name: replaced[t] for name, t in outputs.items()},
        )
        whole = Graph({**{str(t.name): t for t in vectors}, **leaves}, outputs)
        return Graph(leaves, {f"scalar_{i}": t for i, t in enumerate(scalars)}), block, whole, context

    @property
    def plans(self) -> list[Plan]:
        """The plans of its blocks and of its scalars."""
        return [*(block for block, _ in self._plans.values()), *(scalars for scalars in self._scalars.values() if scalars)]

    def block_plan(self, unit: Unit, length: int) -> Plan:
        """The plan of a block of a unit."""
        return self._plans[length, bool(unit.sizes)][0]

    def scalars(self, unit: Unit, *numbers: Any) -> Sequence[Any]:
        """The scalars of the blocks of a unit, from the step, the learning rate scale, the weight and the norms."""
        scalars = self._scalars[len(unit.sizes)]
        return () if scalars is None else tuple(map(unit.spread, scalars(*numbers)))

    def squares(self, unit: Unit, norm: int, length: int, values: Mapping[str, Any]) -> Array:
        """The sum of squares of a block for one of the group's norms; by parameter one for each of the block."""
        measure = self._plans[length, bool(unit.sizes)][1][norm]
        squares = measure(*(unit.spread(values[name]) if name.startswith("norm_") else values[name] for name in measure.inputs))[0]
        return unit.sum(squares) if np.ndim(squares) else np.reshape(squares, 1)

    def count(self, state: State) -> int:
        """The updates made before since its optimiser began."""
        return state.step - state.starts.get(self.name, 0)

    def vectors(self, state: State, block: slice) -> list[Array]:
        """The parameters and the slots of a block of the vector."""
        local = slice(block.start - self.place.start, block.stop - self.place.start)
        return [state.parameters[block], *(state.slots[name][local] for name in self.slots)]


def _units_of(sizes: Sequence[int], start: int, most: int | None) -> list[Unit]:
    """Each parameter's blocks; parameters that follow each other share one, as long as they fit in it.

    Examples
    --------
    >>> [([b.stop - b.start for b in unit.blocks], unit.sizes) for unit in _units_of([5, 40, 3, 0, 9], 0, 16)]
    [([5], ()), ([16, 16, 8], ()), ([12], (3, 9))]
    """
    most = BLOCK if most is None else most
    units: list[Unit] = []
    shared: tuple[int, ...] = ()

    def close() -> None:
        nonlocal start, shared
        if shared:
            units.append(Unit([slice(start, start + sum(shared))], shared if len(shared) > 1 else ()))
            start, shared = start + sum(shared), ()

    for size in filter(None, sizes):
        if sum(shared) + size > most:
            close()
        if size > most:
            units.append(Unit(_shifted(blocks_of(size, most), start)))
            start += size
        else:
            shared = (*shared, size)
    close()
    return units


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
