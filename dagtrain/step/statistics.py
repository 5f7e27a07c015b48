"""The states of all layers in one vector of bytes: integers stay integers, and states that are reduced alike lie together.

    vector   │ int64, sum        │ float32, mean                             │ float32, shard: a row for each shard │
             │ histogram.counts  │ batch_norm_1.mean   batch_norm_1.variance │ memory.h[0]  …  memory.h[S-1]        │

A shard contributes such a vector too, and the sum tree combines them region by region; see `dagtrain.nn.reductions`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Array, Spec
from dagtrain.nn.naming import Nest, nested
from dagtrain.nn.reductions import REDUCTIONS, Reduction
from dagtrain.step.layout import VectorLayout, settled
from dagtrain.step.state import State
from dagtrain.step.sum_tree import add_tree
from dagtrain.trace import flatten, unflatten

__all__ = ["Layout", "Region", "ShardStatistics", "StatisticsLayout", "in_evaluation", "state_leaves"]


class Region(NamedTuple):
    """States of one dtype and one reduction: their bytes in the vector, and the dtype as which the tree combines them."""

    place: slice
    dtype: np.dtype[Any]
    reduction: str

    @property
    def rule(self) -> Reduction:
        """How they are reduced."""
        return REDUCTIONS[self.reduction]


@dataclass(frozen=True)
class StatisticsLayout:
    """The place of each state in the vector.

    Attributes
    ----------
    names, shapes, dtypes, reductions
        Of the states, in the order of the nest; a state by shard has the shape of one shard.
    structure
        The nest without its arrays.
    shards
        Number of shards of a batch, each of which has a row in states by shard.

    Examples
    --------
    >>> layout = StatisticsLayout.of({"seen": np.array(7), "mean": np.zeros(2, "f4")}, {"seen": "sum"})
    >>> layout.nbytes, [view.tolist() for view in layout.views(layout.pack({"seen": np.array(7), "mean": np.ones(2)}))]
    (16, [7, [1.0, 1.0]])
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    reductions: tuple[str, ...]
    structure: Any
    shards: int = 1

    @classmethod
    def of(cls, tree: Any, reductions: Mapping[str, str], shards: int = 1) -> StatisticsLayout:
        """Layout of a nest of arrays; a state without a reduction by name is a mean."""
        named, structure = flatten(tree)
        arrays = {name: np.asarray(value) for name, value in named.items()}
        shapes, dtypes = tuple(a.shape for a in arrays.values()), tuple(a.dtype.str for a in arrays.values())
        return cls(tuple(arrays), shapes, dtypes, tuple(reductions.get(name, "mean") for name in arrays), structure, shards)

    @property
    def specs(self) -> Any:
        """The nest of the states' specs, as a shard has them."""
        return unflatten(self.structure, [Spec(shape, np.dtype(dtype)) for shape, dtype in zip(self.shapes, self.dtypes, strict=True)])

    @cached_property
    def by_shard(self) -> tuple[int, ...]:
        """The indices of the states by shard."""
        return tuple(i for i, reduction in enumerate(self.reductions) if reduction == "shard")

    @cached_property
    def arrays(self) -> tuple[Spec, ...]:
        """The spec of each state in the vector, with an axis of shards in states by shard."""
        return tuple(
            Spec((self.shards, *shape) if reduction == "shard" else shape, np.dtype(dtype))
            for shape, dtype, reduction in zip(self.shapes, self.dtypes, self.reductions, strict=True)
        )

    @cached_property
    def _laid(self) -> tuple[tuple[slice, ...], tuple[Region, ...]]:
        """The bytes of each state, and the regions: the widest dtypes first, so that every array is aligned."""
        kinds = [(-np.dtype(dtype).itemsize, dtype, reduction) for dtype, reduction in zip(self.dtypes, self.reductions, strict=True)]
        places, regions, start = [slice(0, 0)] * len(kinds), [], 0
        for kind in sorted(set(kinds)):
            first = start
            for i, spec in enumerate(self.arrays):
                if kinds[i] == kind:
                    places[i] = slice(start, start + math.prod(spec.shape) * spec.dtype.itemsize)
                    start = places[i].stop
            regions.append(Region(slice(first, start), np.dtype(np.uint8 if kind[2] == "shard" else kind[1]), kind[2]))
        return tuple(places), tuple(regions)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions of the vector."""
        return self._laid[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the vector."""
        return self.regions[-1].place.stop if self.regions else 0

    def pack(self, tree: Any) -> Array:
        """The nest as a new vector; each shard gets the value of a state by shard that has no axis of shards."""
        arrays, structure = flatten(tree)
        if structure != self.structure or any(
            np.shape(array) not in (shape, spec.shape) for array, shape, spec in zip(arrays.values(), self.shapes, self.arrays, strict=True)
        ):
            raise ArgumentError("the nest of states differs from the layout in structure or shapes.")
        vector = np.empty(self.nbytes, np.uint8)
        for view, array in zip(self.views(vector), arrays.values(), strict=True):
            view[...] = array
        return vector

    def views(self, vector: Array) -> list[Array]:
        """One view for each state, in the order of the nest."""
        return [vector[place].view(spec.dtype).reshape(spec.shape) for place, spec in zip(self._laid[0], self.arrays, strict=True)]

    def settled_views(self, vector: Array) -> list[Array]:
        """The same of a vector that may begin at any byte of memory; see `settled`."""
        return [settled(view) for view in self.views(vector)]

    def tree(self, vector: Array) -> Any:
        """The nest of views of a vector."""
        return unflatten(self.structure, self.views(vector))

    def parts(self, vector: Array) -> list[Array]:
        """One view for each region."""
        return [vector[region.place].view(region.dtype) for region in self.regions]

    def combine(self, vectors: Sequence[Array | None]) -> Array:
        """What the shards contribute together, by the fixed tree; None is an empty shard."""
        total = np.empty(self.nbytes, np.uint8)
        parts = [None if vector is None else self.parts(vector) for vector in vectors]
        for i, (region, out) in enumerate(zip(self.regions, self.parts(total), strict=True)):
            add_tree([None if part is None else part[i] for part in parts], out, region.rule.combine)
        return total

    def of_shard(self, views: Sequence[Array], shard: int) -> Sequence[Array]:
        """The states that a shard reads, as views: a step may begin before their values arrive."""
        return [view[shard, ...] if i in self.by_shard else view for i, view in enumerate(views)] if self.by_shard else views

    def advance(self, vector: Array, contributed: Array) -> None:
        """Write the state after a step over the one before, from what all shards contribute together."""
        for region, old, total in zip(self.regions, self.parts(vector), self.parts(contributed), strict=True):
            region.rule.becomes(old, total)

    def check_shards(self, shards: int) -> None:
        """Raise ArgumentError where states by shard are those of another number of shards."""
        if self.by_shard and shards != self.shards:
            raise ArgumentError(
                f"the state {self.names[self.by_shard[0]]!r} has a value for each of {self.shards} shards, and these batches {shards}: "
                f"train on with Trainer(shards={self.shards})."
            )

    def is_finite(self, vector: Array) -> bool:
        """Whether no state is NaN or infinite."""
        return all(bool(np.isfinite(view).all()) for view in self.views(vector) if view.dtype.kind == "f")


Layout = VectorLayout | StatisticsLayout


class ShardStatistics:
    """What a shard contributes to the states.

    Attributes
    ----------
    outputs
        Memory for the outputs of the shard's plan, in the order of the nest: in the vector, but for states by shard.
    """

    def __init__(self, layout: StatisticsLayout, vector: Array) -> None:
        self.outputs = layout.views(vector)
        self._rows = []
        for i in layout.by_shard:
            self._rows.append((i, _bytes(self.outputs[i]).reshape(layout.shards, -1)))
            self.outputs[i] = np.empty(layout.shapes[i], layout.dtypes[i])

    def finish(self, before: Sequence[Array], shard: int) -> None:
        """Write what is contributed to states by shard, once the plan has run; `before` are the states that the shard read."""
        for i, rows in self._rows:
            rows.fill(0)
            np.bitwise_xor(_bytes(self.outputs[i]), _bytes(before[i]), out=rows[shard])


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


def in_evaluation(nest: Nest, reductions: Mapping[str, str]) -> Nest:
    """The states that exist in evaluation: those by shard are of steps of training."""
    return nested({tuple(name.split(".")): state for name, state in flatten(nest)[0].items() if reductions.get(name) != "shard"})


def state_leaves(parameters: VectorLayout, statistics: StatisticsLayout, state: State, shard: int = 0) -> list[Array]:
    """The arrays of a state that the plans of a shard take first: parameters, then the states that this shard reads.

    Evaluation reads no states by shard, so any will do there.
    """
    return [*parameters.views(settled(state.parameters)), *statistics.of_shard(statistics.settled_views(state.statistics), shard)]
