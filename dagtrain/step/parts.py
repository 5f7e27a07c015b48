"""The parts of a step that any machine runs: shards, each to its contribution; and the next state from the total."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dagtrain.data.buckets import Cut
from dagtrain.data.columns import Rows
from dagtrain.graph import Array
from dagtrain.ops.random import derive, key
from dagtrain.plan import Bound, Plan
from dagtrain.step.heads import scales_of
from dagtrain.step.layout import VectorLayout
from dagtrain.step.state import State
from dagtrain.step.statistics import StatisticsLayout
from dagtrain.step.tracking import Followed, Following
from dagtrain.step.update import Update

__all__ = ["NO_KEY", "ShardInputs", "ShardOutputs", "ShardRunner", "StepParts", "next_state", "weight_of"]

NO_KEY = key(0)
"""The key of shards without random ops."""


class ShardOutputs(NamedTuple):
    """What one shard contributes to a step, or several together.

    Attributes
    ----------
    gradient
        Of the sum of the loss, as a vector.
    sums
        The parts of loss and metrics.
    statistics
        To the states of layers, in bytes; see `StatisticsLayout`.
    rows
        The rows of states by shard.
    """

    gradient: Array
    sums: Array
    statistics: Array
    rows: Array


class ShardInputs(NamedTuple):
    """What a shard is computed from.

    Attributes
    ----------
    parameters, statistics
        Views by name, of the states as the shard has them.
    columns
        The rows.
    part
        Their fraction of the batch's rows.
    step, shard
        Numbers of the step and of the shard.
    scales
        Where losses have different weights; see `StepParts.scales`.
    """

    parameters: Sequence[Array]
    statistics: Sequence[Array]
    columns: Rows
    part: float
    step: int
    shard: int
    scales: Array | None = None


def weight_of(sums: Array) -> float:
    """The total weight of the loss, from the summed parts."""
    return float(sums[1])


class StepParts:
    """The parts that run shards and updates on any machine: plans, layouts and the seed; small when pickled."""

    def __init__(
        self,
        plans: dict[Any, Plan],
        update: Update,
        layout: VectorLayout,
        statistics: StatisticsLayout,
        seed: int,
        sums: int,
        keyed: bool,
        followed: tuple[Followed, ...] = (),
        weight_plans: Mapping[int, Plan] | None = None,
        cut: Cut | None = None,
    ) -> None:
        self.plans, self.update, self.layout, self.statistics_layout = plans, update, layout, statistics
        self.seed, self.sums, self.keyed, self.followed, self.cut = seed, sums, keyed, followed, cut
        self.weight_plans = dict(weight_plans or {})
        self.weight_count = next((int(p.outputs["weights"].shape[0]) for p in self.weight_plans.values()), 0)
        names = [(rows, p.key) for rows, p in sorted(plans.items())]
        blocks = [p.key for p in update.plans]
        groups = (layout.order, layout.fixed, update.arrangement, *map(str, followed)) if update.arrangement or layout.fixed else ()
        weights = tuple(p.key for _, p in sorted(self.weight_plans.items()))
        states = statistics.shapes, statistics.dtypes, statistics.reductions, statistics.shards, statistics.kept
        cuts = () if cut is None else (cut,)
        self.key = hashlib.sha256(pickle.dumps((names, blocks, seed, layout.shapes, states, *groups, *weights, *cuts))).hexdigest()[:32]

    def __sizeof__(self) -> int:
        return sum(p.nbytes for p in (*self.plans.values(), *self.weight_plans.values(), *self.update.plans))  # what Dask counts

    @property
    def rows(self) -> set[int]:
        """Numbers of rows that it has plans for."""
        return set(self.plans) if self.cut is None else {rows for rows, _ in self.plans}

    def size(self, columns: Rows) -> Any:
        """The size of a shard, by which its plan is known: its number of rows, and where they are cut their positions."""
        rows = len(columns[0])
        return rows if self.cut is None else (rows, self.cut.end(columns))

    def outputs(self, rows: Array | None = None) -> ShardOutputs:
        """Memory for a contribution, with the given memory for the rows of all shards."""
        states = self.statistics_layout
        rows = np.zeros((states.shards, states.row), np.uint8) if rows is None else rows
        vector = np.zeros(states.reduced + states.row, np.uint8)
        return ShardOutputs(np.empty(self.layout.trained, self.layout.dtype), np.zeros(self.sums), vector, rows)

    def weights(self, columns: Rows) -> Array:
        """The weights of the losses in the rows of a shard."""
        return self.weight_plans[len(columns[0])](*columns)[0]

    def scales(self, batch: Sequence[Rows | None]) -> Array | None:
        """The scales of a batch from the rows of all its shards; None where the losses have one weight."""
        if not self.weight_plans:
            return None
        weights = [None if rows is None else self.weights(rows) for rows in batch]
        return scales_of(weights, sum(len(rows[0]) for rows in batch if rows is not None))

    def shard_key(self, step: int, shard: int) -> Array:
        """The key of a shard's random ops: a function of seed, step and shard (a constant without such ops)."""
        return derive(derive(derive(key(self.seed), 1), step), shard) if self.keyed else NO_KEY


class ShardRunner:
    """Runs shards and writes their contributions to one place; one runner for each thread and place.

    Parameters
    ----------
    parts
        Compiled plans.
    out
        Memory that contributions are written to.
    spaces
        Work space by size, shared with runners that never run at the same time.
    together
        Whether runners with the same `out` run together: then what is not the gradient is written to it when the plan has run.
    """

    def __init__(self, parts: StepParts, out: ShardOutputs, spaces: dict[Any, list[Array]] | None = None, together: bool = False) -> None:
        self.parts, self.out = parts, out
        self._bound: dict[Any, Bound] = {}
        self._spaces = {} if spaces is None else spaces
        self._own = parts.outputs(out.rows)._replace(gradient=out.gradient) if together else out
        self._states = parts.statistics_layout.leaves(self._own.statistics)

    @property
    def is_finite(self) -> bool:
        """Whether the last shard contributed numbers alone."""
        arrays = [self._own.gradient, self._own.sums, *(array for array in self._states if array.dtype.kind == "f")]
        return all(bool(np.isfinite(array).all()) for array in arrays)

    def run(self, inputs: ShardInputs) -> ShardOutputs:
        """One shard's contribution."""
        bound, values = self._prepared(inputs)
        self.parts.plans[self.parts.size(inputs.columns)].run(bound, values)
        self._finish(inputs.shard)
        return self.out

    def steps(self, inputs: ShardInputs) -> Iterator[tuple[Any, ...]]:
        """Run as an iterator that pauses at yield points; see `dagtrain.plan.Bound.steps`.

        The plan's inputs are the parameters, then statistics, columns, part, key and scales; its outputs the gradients of the trained
        parameters, then statistics and sums. Sums and statistics are final at the end.
        """
        bound, values = self._prepared(inputs)
        assert bound.steps is not None, "plans of shards have yield_points"
        try:
            yield from bound.steps(*values)
        except Exception as error:
            raise self.parts.plans[self.parts.size(inputs.columns)].explain(error) from error
        self._finish(inputs.shard)

    def _finish(self, shard: int) -> None:
        if self._own is not self.out:
            np.copyto(self.out.sums, self._own.sums)
            np.copyto(self.out.statistics, self._own.statistics)
        if self.parts.statistics_layout.row:
            self.out.rows[shard] = self._own.statistics[self.parts.statistics_layout.reduced :]

    def _prepared(self, inputs: ShardInputs) -> tuple[Bound, tuple[Any, ...]]:
        parts, size = self.parts, self.parts.size(inputs.columns)
        bound = self._bound.get(size)
        if bound is None:
            outputs = [*parts.layout.gradient_views(self.out.gradient), *self._states, self._own.sums]
            bound = self._bound[size] = parts.plans[size].bind(outputs, self._spaces.get(size))
            self._spaces[size] = bound.buffers
        part, key = np.asarray(inputs.part, parts.layout.dtype), parts.shard_key(inputs.step, inputs.shard)
        last = () if inputs.scales is None else (inputs.scales,)
        columns = inputs.columns if parts.cut is None else parts.cut.rows(inputs.columns)
        return bound, (*inputs.parameters, *inputs.statistics, *columns, part, key, *last)


def next_state(parts: StepParts, state: State, total: ShardOutputs, shards: Sequence[int]) -> State:
    """The state after an update by the total of all shards, with the rows of these; `state` does not change."""
    after = state.copy()
    if weight := weight_of(total.sums):
        norms = parts.update.norms(after, total.gradient, weight)
        scalars = parts.update.scalar_values(after, weight, norms)
        bound = parts.update.bind(after, total.gradient)
        for i in range(len(parts.update.blocks)):
            bound.block(i, scalars)
    Following(parts.followed, after.parameters).move(after.step)
    parts.statistics_layout.advance(after.statistics, total.statistics, shards, total.rows)
    after.step += 1
    return after
