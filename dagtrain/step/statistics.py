"""The states of all layers in one vector of bytes: integers stay integers, and states that are reduced alike lie together.

    vector   │ int64, sum        │ float32, mean                             │ row of shard 0 │ row of shard 1 │ …
             │ histogram.counts  │ batch_norm_1.mean   batch_norm_1.variance │ memory.h       │ memory.h       │
             ╰── regions, which the sum tree combines; see `nn.reductions` ──╯ states by shard: each shard has its own

What a shard contributes is such a vector with one row.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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

__all__ = ["Layout", "Region", "StatisticsLayout", "in_evaluation", "state_leaves"]


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
    kept
        The indices of the states that no step changes.

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
    kept: tuple[int, ...] = ()

    @classmethod
    def of(cls, tree: Any, reductions: Mapping[str, str], shards: int = 1) -> StatisticsLayout:
        """Layout of a nest of arrays; a state without a reduction by name is a mean."""
        named, structure = flatten(tree)
        arrays = {name: np.asarray(value) for name, value in named.items()}
        shapes, dtypes = tuple(a.shape for a in arrays.values()), tuple(a.dtype.str for a in arrays.values())
        return cls(tuple(arrays), shapes, dtypes, tuple(reductions.get(name, "mean") for name in arrays), structure, shards)

    def keeping(self, names: Collection[str]) -> StatisticsLayout:
        """The layout of the same states, of which no step changes these."""
        return replace(self, kept=tuple(i for i, name in enumerate(self.names) if name in names))

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
    def _laid(self) -> tuple[tuple[slice, ...], tuple[Region, ...], int, int]:
        """The bytes of each state of the first shard, the regions, their bytes, and those of a row.

        The widest dtypes come first, so every array is aligned.
        """
        keys = zip(self.reductions, self.dtypes, strict=True)
        kinds = [(reduction == "shard", -np.dtype(dtype).itemsize, dtype, reduction) for reduction, dtype in keys]
        places, regions, start = [slice(0, 0)] * len(kinds), [], 0
        reduced = None
        for kind in sorted(set(kinds)):
            is_by_shard, _, dtype, reduction = kind
            if is_by_shard and reduced is None:
                reduced = start = _aligned(start)
            first = start
            for i, shape in enumerate(self.shapes):
                if kinds[i] == kind:
                    places[i] = slice(start, start + math.prod(shape) * np.dtype(dtype).itemsize)
                    start = places[i].stop
            if not is_by_shard:
                regions.append(Region(slice(first, start), np.dtype(dtype), reduction))
        return tuple(places), tuple(regions), start if reduced is None else reduced, 0 if reduced is None else _aligned(start) - reduced

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions of the vector."""
        return self._laid[1]

    @property
    def reduced(self) -> int:
        """Bytes of all regions."""
        return self._laid[2]

    @property
    def row(self) -> int:
        """Bytes of the states by shard of one shard."""
        return self._laid[3]

    @property
    def nbytes(self) -> int:
        """Bytes of the vector."""
        return self.reduced + self.shards * self.row

    def pack(self, tree: Any) -> Array:
        """The nest as a new vector; each shard gets the value of a state by shard that has no axis of shards."""
        arrays, structure = flatten(tree)
        if structure != self.structure or any(
            np.shape(array) not in (shape, spec.shape) for array, shape, spec in zip(arrays.values(), self.shapes, self.arrays, strict=True)
        ):
            raise ArgumentError("the nest of states differs from the layout in structure or shapes.")
        vector = np.zeros(self.nbytes, np.uint8)
        for view, array in zip(self.views(vector), arrays.values(), strict=True):
            view[...] = array
        return vector

    def views(self, vector: Array) -> list[Array]:
        """One view for each state, in the order of the nest; states by shard have an axis of shards."""
        rows, start, views = self.rows(vector), self.reduced, []
        for place, spec, reduction in zip(self._laid[0], self.arrays, self.reductions, strict=True):
            part = rows[:, place.start - start : place.stop - start] if reduction == "shard" else vector[place]
            views.append(part.view(spec.dtype).reshape(spec.shape))
        return views

    def leaves(self, vector: Array, shard: int = 0) -> list[Array]:
        """One view for each state as a shard has it, in the order of the nest; the vector may be one of what a shard contributes."""
        starts = [place.start + (shard * self.row if i in self.by_shard else 0) for i, place in enumerate(self._laid[0])]
        columns = zip(starts, self._laid[0], self.dtypes, self.shapes, strict=True)
        return [vector[a : a + place.stop - place.start].view(dtype).reshape(shape) for a, place, dtype, shape in columns]

    def rows(self, vector: Array) -> Array:
        """The bytes of the states by shard, a row for each shard."""
        return vector[self.reduced :].reshape(self.shards, self.row)

    def tree(self, vector: Array) -> Any:
        """The nest of views of a vector."""
        return unflatten(self.structure, self.views(vector))

    def parts(self, vector: Array) -> list[Array]:
        """One view for each region."""
        return [vector[region.place].view(region.dtype) for region in self.regions]

    def combine(self, vectors: Sequence[Array | None]) -> Array:
        """What the shards contribute to the regions together, by the fixed tree; None is an empty shard."""
        total = np.zeros(self.reduced, np.uint8)
        parts = [None if vector is None else self.parts(vector) for vector in vectors]
        for i, (region, out) in enumerate(zip(self.regions, self.parts(total), strict=True)):
            add_tree([None if part is None else part[i] for part in parts], out, region.rule.combine)
        return total

    def advance(self, vector: Array, contributed: Array, shards: Sequence[int], rows: Iterable[Array]) -> None:
        """Write the state after a step over the one before.

        Parameters
        ----------
        vector
            The state.
        contributed
            To the regions, by all shards together.
        shards, rows
            The shards with samples, and the new row of each.
        """
        views = self.leaves(vector) if self.kept else []
        kept = [(views[i], views[i].copy()) for i in self.kept if i not in self.by_shard]
        for region, old, total in zip(self.regions, self.parts(vector), self.parts(contributed), strict=True):
            region.rule.becomes(old, total)
        for view, value in kept:
            view[...] = value
        if self.row:
            all_rows = self.rows(vector)
            for shard, row in zip(shards, rows, strict=True):
                all_rows[shard] = row

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


def _aligned(nbytes: int) -> int:
    """The next multiple of the widest dtype's bytes."""
    return -(-nbytes // 8) * 8


def in_evaluation(nest: Nest, reductions: Mapping[str, str]) -> Nest:
    """The states that exist in evaluation: those by shard are of steps of training."""
    return nested({tuple(name.split(".")): state for name, state in flatten(nest)[0].items() if reductions.get(name) != "shard"})


def state_leaves(parameters: VectorLayout, statistics: StatisticsLayout, state: State, shard: int = 0) -> list[Array]:
    """The arrays of a state that the plans of a shard take first: parameters, then the states that this shard reads.

    Evaluation reads no states by shard, so any will do there.
    """
    return [*parameters.views(settled(state.parameters)), *map(settled, statistics.leaves(state.statistics, shard))]
