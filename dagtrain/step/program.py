"""One training step as compiled parts for any engine: shards, the fixed sum tree, the update.

    contribution[s] = [ gradient of the sum | part · statistics ]  and  sums: (loss sum, loss weight, metric parts …)    s = 0 … S-1
    total           = ((c0 + c1) + (c2 + c3)) + …                                                        a tree of S alone
    state           = update(state, total gradient / total weight), by fixed blocks

A `Program` holds the compiled parts. It is picklable and independent of threads, workers and Dask.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from dagtrain.data.columns import Columns, Rows
from dagtrain.graph import Array, Graph, Spec, spec_of
from dagtrain.ops.random import derive, key
from dagtrain.optim.groups import groups_of
from dagtrain.plan import Bound, Plan, plan
from dagtrain.step.heads import Figure, scales_of
from dagtrain.step.layout import VectorLayout, settled
from dagtrain.step.objective import LOSS_PARTS, Objective
from dagtrain.step.state import State
from dagtrain.step.tracking import Followed, Following, followed
from dagtrain.step.update import Update
from dagtrain.trace import trace_nested

__all__ = ["Contribution", "Program", "Scores", "ShardRunner", "join_scores", "weight_of"]

EVALUATED = 1024
"""Most rows evaluated at once."""
_NO_KEY = key(0)


class Contribution(NamedTuple):
    """The addend of one shard, or of a sum of shards: gradient and statistics in one vector, and the parts of loss and metrics."""

    vector: Array
    sums: Array


class Scores(NamedTuple):
    """The evaluation of rows.

    Attributes
    ----------
    sums
        The parts of loss and metrics.
    rows
        For each metric that has rows, those rows.
    """

    sums: Array
    rows: Sequence[Array] = ()


def join_scores(pieces: Sequence[Scores]) -> Scores:
    """The scores of all pieces, from the first to the last: sums are added in this order, rows kept in it."""
    total = pieces[0].sums
    for piece in pieces[1:]:
        total = total + piece.sums
    return Scores(total, tuple(np.concatenate(rows) for rows in zip(*(piece.rows for piece in pieces), strict=True)))


def weight_of(sums: Array) -> float:
    """The total weight of the loss, from the summed parts."""
    return float(sums[1])


class Program:
    """The compiled parts of a training step for given data.

    Parameters
    ----------
    objective
        Model and loss, or cost function.
    optimizer
        See `dagtrain.optim`.
    columns
        Of the rows.
    seed
        Seed of initial parameters and of random ops.
    block
        Most parameters of a block of the update; see `dagtrain.step.update`.
    """

    def __init__(self, objective: Objective, optimizer: Any, columns: Columns, seed: int, block: int | None = None) -> None:
        self.objective, self.columns, self.seed = objective, columns, seed
        first, statistics = objective.initial(seed, columns.x)
        layout, self.statistics_layout = (VectorLayout.of(nest, objective.dtype) for nest in (first, statistics))
        self.groups = groups_of(optimizer, layout.names, objective.frozen(columns.x))
        trained, fixed = ([group for group in self.groups if group.optimizer.trains is trains] for trains in (True, False))
        self.fixed = frozenset(name for g in fixed for name in g.parameters)
        """Names of the parameters that are not trained."""
        self.layout = layout.grouped([g.parameters for g in trained], [name for g in fixed for name in g.parameters])
        self._first = State(self.layout.pack(first), self.statistics_layout.pack(statistics), order=self.layout.order)
        sizes = dict(zip(layout.names, layout.sizes, strict=True))
        self.followed = followed(fixed, self.layout)
        self.update = Update.of_groups([(g, [sizes[name] for name in g.parameters]) for g in trained], layout.dtype, block)
        self.optimizer_name = str(getattr(optimizer, "name", "update"))
        self._graphs: dict[tuple[Any, ...], Graph] = {}
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def first_state(self) -> State:
        """The state before the first step."""
        state = self._first.copy()
        state.slots = {name: np.zeros(part.stop - part.start, self.layout.dtype) for name, part in self.update.slots.items()}
        return state

    @cached_property
    def reported(self) -> tuple[Figure, ...]:
        """The figures that training reports, the loss first."""
        return self.objective.figures(self.columns.x)

    @cached_property
    def sums(self) -> int:
        """Number of parts of losses and metrics."""
        return max([LOSS_PARTS, *(int(figure.parts.stop) for figure in self.reported)])

    @cached_property
    def weight_count(self) -> int:
        """Number of weights of losses that shards need of the whole batch, since they differ; 0 where the losses have one weight."""
        return self.objective.weight_count(self.columns)

    def values(self, sums: Array | Sequence[float]) -> dict[str, Any]:
        """The value of each figure in training, from its summed parts; NaN without any weight."""
        sums = np.asarray(sums, np.float64)
        return {figure.name: figure.value(sums[figure.parts], None) for figure in self.reported}

    def evaluated(self, sums: Array, rows: Sequence[Array] = ()) -> dict[str, Any]:
        """The value of each figure in evaluation, from its summed parts, or from all rows where it keeps them."""
        return {
            figure.name: figure.value(sums[figure.parts], None if figure.rows is None or not rows else rows[figure.rows])
            for figure in self.reported
            if not figure.training_only
        }

    @cached_property
    def quantities(self) -> dict[str, bool]:
        """The figures that are one number, which the history holds → whether higher is better."""
        empty = self.values(np.zeros(self.sums))
        return {figure.name: figure.higher_is_better for figure in self.reported if not np.ndim(empty[figure.name])}

    @property
    def evaluated_quantities(self) -> dict[str, bool]:
        """Those of evaluation."""
        only = {figure.name for figure in self.reported if figure.training_only}
        return {name: better for name, better in self.quantities.items() if name not in only}

    def numbers(self, values: Mapping[str, Any]) -> dict[str, float]:
        """The values that are one number."""
        return {name: float(value) for name, value in values.items() if name in self.quantities}

    def shard_graph(self, rows: int) -> Graph:
        """The graph of a shard of this many rows."""
        return self._graph(self.objective.contribution, rows)

    def shard_plan(self, rows: int) -> Plan:
        """The plan of a shard of this many rows."""
        return self._plan(self.objective.contribution, rows, yield_points=True)

    def weights_plan(self, rows: int) -> Plan:
        """The plan of the weights of the losses in a shard of this many rows, from the columns alone."""
        cache_key = "weights", rows, self.columns.specs
        if cache_key not in self._plans:
            graph = self._graph(self.objective.weights, rows)
            self._plans[cache_key] = plan(Graph({name: graph.inputs[name] for name in self.columns.names}, graph.outputs))
        return self._plans[cache_key]

    def output_plan(self, rows: int, probabilities: bool = False) -> Plan:
        """The plan of the model's outputs for this many rows, or of the probabilities that they stand for."""
        return self._plan(self.objective.probabilities if probabilities else self.objective.outputs, rows)

    @property
    def compiled(self) -> tuple[int, ...]:
        """Numbers of rows that shards have plans for."""
        return tuple(sorted(rows for name, rows, _ in self._plans if name == "contribution"))

    def _graph(self, function: Callable[..., Any], rows: int, columns: Columns | None = None) -> Graph:
        """The graph of one of the objective's functions for this many rows, by default of the program's own columns."""
        columns = self.columns if columns is None else columns
        cache_key = function.__name__, rows, (columns.names, columns.specs)
        if cache_key not in self._graphs:
            x, y, sample_weight = columns.of_rows(rows)
            names = inspect.signature(function).parameters
            scaled = "scales" in names and self.weight_count
            specs = {
                "parameters": self.layout.specs,
                "statistics": self.statistics_layout.specs,
                "x": x,
                "y": y,
                "sample_weight": sample_weight,
                "part": Spec((), np.dtype(self.layout.dtype)),
                "key": spec_of(_NO_KEY),
                "scales": Spec((self.weight_count,), np.dtype("f8")) if scaled else None,
            }
            call = partial(function, fixed=self.fixed) if "fixed" in names else function
            self._graphs[cache_key] = trace_nested(call, *(specs[name] for name in names if name in specs)).graph
        return self._graphs[cache_key]

    def _plan(self, function: Callable[..., Any], rows: int, columns: Columns | None = None, yield_points: bool = False) -> Plan:
        columns = self.columns if columns is None else columns
        cache_key = function.__name__, rows, (columns.names, columns.specs)
        if cache_key not in self._plans:
            self._plans[cache_key] = plan(self._graph(function, rows, columns), yield_points=yield_points)
        return self._plans[cache_key]

    def scorer(self, rows: Iterable[int], columns: Columns | None = None) -> Scorer:
        """The scorer for rows in these numbers, on any machine; `columns` may be with weights or without, unlike the program's own."""
        plans = {n: self._plan(self.objective.scores, n, columns) for n in sorted(set(rows))}
        return Scorer(plans, self.layout, self.statistics_layout)

    def for_evaluation(self, samples: int, columns: Columns | None = None) -> Scorer:
        """The scorer for the pieces of this many samples."""
        return self.scorer((len(piece) for piece in evaluation_pieces(samples)), columns)

    def for_workers(self, rows: Iterable[int]) -> StepParts:
        """The parts that a worker needs for shards of these sizes; empty shards need none."""
        plans = {n: self.shard_plan(n) for n in sorted({n for n in rows if n})}
        keyed = any(s.op == "input" and s.name == "key" for n in plans for node in self.shard_graph(n).nodes for s in node.inputs)
        weights = {n: self.weights_plan(n) for n in plans} if self.weight_count else {}
        return StepParts(plans, self.update, self.layout, self.statistics_layout, self.seed, self.sums, keyed, self.followed, weights)


class StepParts:
    """The parts that run shards and updates on any machine: plans, layouts and the seed; small when pickled."""

    def __init__(
        self,
        plans: dict[int, Plan],
        update: Update,
        layout: VectorLayout,
        statistics: VectorLayout,
        seed: int,
        sums: int,
        keyed: bool,
        followed: tuple[Followed, ...] = (),
        weight_plans: Mapping[int, Plan] | None = None,
    ) -> None:
        self.plans, self.update, self.layout, self.statistics_layout = plans, update, layout, statistics
        self.seed, self.sums, self.keyed, self.followed = seed, sums, keyed, followed
        self.weight_plans = dict(weight_plans or {})
        self.weight_count = next((int(p.outputs["weights"].shape[0]) for p in self.weight_plans.values()), 0)
        names = [(rows, p.key) for rows, p in sorted(plans.items())]
        blocks = [p.key for p in update.plans]
        groups = (layout.order, layout.fixed, update.arrangement, *map(str, followed)) if update.arrangement or layout.fixed else ()
        weights = tuple(p.key for _, p in sorted(self.weight_plans.items()))
        self.key = hashlib.sha256(pickle.dumps((names, blocks, seed, layout.shapes, statistics.shapes, *groups, *weights))).hexdigest()[:32]

    def __sizeof__(self) -> int:
        return sum(p.nbytes for p in (*self.plans.values(), *self.weight_plans.values(), *self.update.plans))  # what Dask counts

    @property
    def width(self) -> int:
        """Elements of a contribution's vector."""
        return self.layout.trained + self.statistics_layout.size

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
        return derive(derive(derive(key(self.seed), 1), step), shard) if self.keyed else _NO_KEY


def evaluation_pieces(samples: int) -> list[range]:
    """The fixed ranges of samples that are evaluated at once, independent of partitions.

    Examples
    --------
    >>> evaluation_pieces(1500)
    [range(0, 1024), range(1024, 1500)]
    """
    return [range(start, min(start + EVALUATED, samples)) for start in range(0, samples, EVALUATED)]


class Scorer:
    """Evaluates rows with plans; small when pickled."""

    def __init__(self, plans: dict[int, Plan], layout: VectorLayout, statistics: VectorLayout) -> None:
        self.plans, self.layout, self.statistics_layout = plans, layout, statistics

    def score(self, state: State, columns: Rows) -> Scores:
        """The scores of the rows of a piece."""
        leaves = [*self.layout.views(settled(state.parameters)), *self.statistics_layout.views(settled(state.statistics))]
        sums, *rows = self.plans[len(columns[0])](*leaves, *map(settled, columns))
        return Scores(sums, tuple(rows))


class ShardRunner:
    """Runs shards and writes each contribution to one buffer; one runner for each thread and buffer.

    Parameters
    ----------
    parts
        Compiled plans.
    out
        Vector that the gradient and the statistics are written to.
    spaces
        Work space by number of rows, shared with runners that never run at the same time.
    """

    def __init__(self, parts: StepParts, out: Array, spaces: dict[int, list[Array]] | None = None) -> None:
        self.parts, self.out = parts, out
        self.sums = np.zeros(parts.sums)
        self._bound: dict[int, Bound] = {}
        self._spaces = {} if spaces is None else spaces
        self._views = [*parts.layout.gradient_views(out), *parts.statistics_layout.views(out[parts.layout.trained :])]

    def run(
        self,
        parameters: Sequence[Array],
        statistics: Sequence[Array],
        columns: Rows,
        part: float,
        step: int,
        shard: int,
        scales: Array | None = None,
    ) -> Contribution:
        """One shard's contribution; parameters and statistics are views by name."""
        bound, inputs = self._prepared(parameters, statistics, columns, part, step, shard, scales)
        self.parts.plans[len(columns[0])].run(bound, inputs)
        return Contribution(self.out, self.sums)

    def steps(
        self,
        parameters: Sequence[Array],
        statistics: Sequence[Array],
        columns: Rows,
        part: float,
        step: int,
        shard: int,
        scales: Array | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Run as an iterator that pauses at yield points; see `dagtrain.plan.Bound.steps`.

        The plan's inputs are the parameters, then statistics, columns, part, key and scales; its outputs the gradients of the trained
        parameters, then statistics and sums.
        """
        bound, inputs = self._prepared(parameters, statistics, columns, part, step, shard, scales)
        assert bound.steps is not None, "plans of shards have yield_points"
        try:
            yield from bound.steps(*inputs)
        except Exception as error:
            raise self.parts.plans[len(columns[0])].explain(error) from error

    def _prepared(
        self,
        parameters: Sequence[Array],
        statistics: Sequence[Array],
        columns: Rows,
        part: float,
        step: int,
        shard: int,
        scales: Array | None,
    ) -> tuple[Bound, tuple[Any, ...]]:
        rows = len(columns[0])
        bound = self._bound.get(rows)
        if bound is None:
            bound = self._bound[rows] = self.parts.plans[rows].bind([*self._views, self.sums], self._spaces.get(rows))
            self._spaces[rows] = bound.buffers
        part_array = np.asarray(part, self.parts.layout.dtype)
        last = () if scales is None else (scales,)
        return bound, (*parameters, *statistics, *columns, part_array, self.parts.shard_key(step, shard), *last)


def next_state(parts: StepParts, state: State, total: Contribution) -> State:
    """The state after an update by the total of all shards; `state` does not change."""
    after = state.copy()
    size = parts.layout.trained
    gradient, weight = total.vector[:size], weight_of(total.sums)
    if weight:
        norms = parts.update.norms(after, gradient, weight)
        scalars = parts.update.scalar_values(after, weight, norms)
        bound = parts.update.bind(after, gradient)
        for i in range(len(parts.update.blocks)):
            bound.block(i, scalars)
    Following(parts.followed, after.parameters).move(after.step)
    after.statistics[...] = total.vector[size:]
    after.step += 1
    return after
