"""An optimiser compiled: one pass over the flat vector of parameters, in blocks that fit the cache.

    scalars(step, weight, norms)              once a step: 1 / weight, learning rate, bias corrections, …
    block(p, g, slots, scalars) → p, slots    for each block, in place

The gradient is that of the loss's sum over all shards. The first operation divides it by the loss's total weight, so that clipping, decay
and the optimiser see the gradient of the weighted mean. A step of weight 0 (every row masked) changes neither parameters nor slots.

The blocks depend on the number of parameters alone. The norm of a whole vector is the root of its blocks' sums of squares, added in float64
in the order of the blocks, so its bits depend on neither threads nor workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dagtrain.graph import LEAVES, Array, Graph, Tensor, ancestors_of, rebuild, topological
from dagtrain.graph import input as new_input
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.reduce import reduce_sum
from dagtrain.plan import Plan, plan
from dagtrain.step.state import State

__all__ = ["BLOCK", "BoundUpdate", "Update", "blocks_of"]

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

    def scalar(self, value: Any) -> Tensor:
        return cast(as_tensor(value), self.dtype)

    def global_norm(self, vector: Tensor) -> Tensor:
        self.norms.append(new_input(f"norm_{len(self.norms)}", (), self.dtype))
        self.measured.append(reduce_sum(cast(vector, np.float64) ** 2))
        return self.norms[-1]


class Update:
    """An optimiser's update of a vector of `size` parameters, in blocks of at most `block` elements (default `BLOCK`); picklable."""

    def __init__(self, optimizer: Any, size: int, dtype: Any = np.float32, block: int | None = None) -> None:
        self.size, self.dtype = size, np.dtype(dtype)
        self.slots: tuple[str, ...] = tuple(optimizer.slots)
        self.blocks = blocks_of(size, block)
        self.graphs: dict[str, Graph] = {}
        lengths = sorted({b.stop - b.start for b in self.blocks}, reverse=True)
        self.block_plans: dict[int, Plan] = {}
        self.norm_plans: dict[int, list[Plan]] = {}
        self.scalars: Plan | None = None
        for length in lengths:
            self._build(optimizer, length)

    def _build(self, optimizer: Any, length: int) -> None:
        context = _Tracing(self.dtype)
        p, g = new_input("parameters", (length,), self.dtype), new_input("gradient", (length,), self.dtype)
        slots = {name: new_input(name, (length,), self.dtype) for name in self.slots}
        mean = g * context.scalar(1.0 / context.weight)
        change, after = optimizer.update(context, mean, p, dict(slots))
        outputs = {"parameters": cast(p + change, self.dtype), **{n: cast(as_tensor(after[n]), self.dtype) for n in self.slots}}
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
        self.block_plans[length] = plan(block, donate={name: name for name in ("parameters", *self.slots)})
        self.graphs["update"] = Graph({**{str(t.name): t for t in vectors}, **leaves}, outputs)
        self.norm_plans[length] = [
            plan(Graph({**{str(t.name): t for t in vectors}, **leaves}, {"squares": measured})) for measured in context.measured
        ]

    @property
    def needs_norm(self) -> bool:
        """Whether the update of the first block needs the whole gradient."""
        return self.norm_count > 0

    @property
    def norm_count(self) -> int:
        """Number of norms of whole vectors in the update."""
        return max((len(plans) for plans in self.norm_plans.values()), default=0)

    def squares(self, k: int, block: slice, state: State, gradient: Array, weight: float, norms: Sequence[Any]) -> float:
        """One block's sum of squares for norm `k`, given the loss's total weight and the norms before it."""
        inputs = [state.parameters[block], gradient[block], *(state.slots[n][block] for n in self.slots)]
        padded = [*norms, *[self.dtype.type(0)] * (self.norm_count - len(norms))]
        return float(
            self.norm_plans[block.stop - block.start][k](*inputs, float(state.step), state.learning_rate_scale, weight, *padded)[0]
        )

    def norm(self, squares: Iterable[float]) -> Any:
        """The norm from its blocks' sums of squares, added in the order of the blocks."""
        total = 0.0
        for part in squares:
            total += float(part)
        return self.dtype.type(np.sqrt(total))

    def norms(self, state: State, gradient: Array, weight: float) -> list[Any]:
        """The norms in the update, in order."""
        norms: list[Any] = []
        for k in range(self.norm_count):
            norms.append(self.norm(self.squares(k, block, state, gradient, weight, norms) for block in self.blocks))
        return norms

    @property
    def has_rate(self) -> bool:
        """Whether the optimiser has a learning rate that `State.learning_rate_scale` changes."""
        return any(any(s.op == "input" and s.name == "learning_rate_scale" for s in node.inputs) for node in self.graphs["update"].nodes)

    def scalar_values(self, state: State, weight: float, norms: Sequence[Any]) -> tuple[Array, ...]:
        """The scalars of all blocks, from a state's step and learning rate scale, the loss's total weight and the norms."""
        return () if self.scalars is None else self.scalars(float(state.step), state.learning_rate_scale, weight, *norms)

    def bind(self, state: State, gradient: Array, threads: int = 1, blocks: Sequence[int] | None = None) -> BoundUpdate:
        """The update tied to the memory of this state and gradient; thread ``i % threads`` runs block `i`.

        By default all blocks can be updated, else only `blocks`.
        """
        return BoundUpdate(self, state, gradient, threads, range(len(self.blocks)) if blocks is None else blocks)


class BoundUpdate:
    """An update tied to memory: ``block(i, scalars)`` updates block `i` of the state in place."""

    def __init__(self, update: Update, state: State, gradient: Array, threads: int, blocks: Sequence[int]) -> None:
        self._calls = {}
        spaces: dict[tuple[int, int], list[Array]] = {}
        for i in blocks:
            block = update.blocks[i]
            length = block.stop - block.start
            vectors = [state.parameters[block], *(state.slots[n][block] for n in update.slots)]
            bound = update.block_plans[length].bind(vectors, spaces.get((i % threads, length)))
            spaces[i % threads, length] = bound.buffers
            self._calls[i] = bound.run, (vectors[0], gradient[block], *vectors[1:])

    def block(self, i: int, scalars: Sequence[Any]) -> None:
        """Update one block."""
        run, vectors = self._calls[i]
        run(*vectors, *scalars)


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
