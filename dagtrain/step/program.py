"""One training step as compiled parts for any engine: shards, the fixed sum tree, the update.

    contribution[s] = gradient of the sum,  sums: (loss sum, loss weight, metric parts …),  states of layers        s = 0 … S-1
    total           = ((c0 + c1) + (c2 + c3)) + …                                             a tree of S alone
    state           = update(state, total gradient / total weight), by fixed blocks

A `Program` holds the compiled parts. It is picklable and independent of threads, workers and Dask.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from dagtrain.data.buckets import Cut
from dagtrain.data.columns import Columns
from dagtrain.graph import Array, Graph, Spec, spec_of
from dagtrain.optim.groups import groups_of
from dagtrain.plan import Plan, plan
from dagtrain.step.figures import LOSS_PARTS, Figure
from dagtrain.step.layout import VectorLayout
from dagtrain.step.objective import Objective
from dagtrain.step.parts import NO_KEY, StepParts
from dagtrain.step.scores import Scorer, evaluation_pieces
from dagtrain.step.state import State
from dagtrain.step.statistics import StatisticsLayout
from dagtrain.step.tracking import followed
from dagtrain.step.update import Update
from dagtrain.trace import trace_nested

__all__ = ["Program"]


@cache
def parameters_of(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters of a function or of a method's function: one of the few that are traced."""
    return list(inspect.signature(function).parameters)


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
    shards
        Number of shards of a batch, for states of which each has its own.
    """

    def __init__(
        self, objective: Objective, optimizer: Any, columns: Columns, seed: int, block: int | None = None, shards: int = 1
    ) -> None:
        self.objective, self.columns, self.seed = objective, columns, seed
        first, statistics = objective.initial(seed, columns.x)
        layout = VectorLayout.of(first, objective.dtype)
        self.statistics_layout = StatisticsLayout.of(statistics, objective.reductions(columns.x), shards)
        self.groups = groups_of(optimizer, layout.names, objective.frozen(columns.x))
        trained, fixed = ([group for group in self.groups if group.optimizer.trains is trains] for trains in (True, False))
        self.fixed = frozenset(name for g in fixed for name in g.parameters)
        """Names of the parameters that are not trained."""
        self.statistics_layout = self.statistics_layout.keeping(objective.kept(columns.x, self.fixed))
        self.layout = layout.grouped([g.parameters for g in trained], [name for g in fixed for name in g.parameters])
        self._first = State(self.layout.pack(first), self.statistics_layout.pack(statistics), order=self.layout.order)
        sizes = dict(zip(layout.names, layout.sizes, strict=True))
        self.followed = followed(fixed, self.layout)
        self.update = Update.of_groups([(g, [sizes[name] for name in g.parameters]) for g in trained], layout.dtype, block)
        self.optimizer_name = str(getattr(optimizer, "name", "update"))
        self.cut: Cut | None = None
        """How far shards are cut to the positions that their rows need."""
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
            names = parameters_of(getattr(function, "__func__", function))
            scaled = "scales" in names and self.weight_count
            specs = {
                "parameters": self.layout.specs,
                "statistics": self.statistics_layout.specs,
                "x": x,
                "y": y,
                "sample_weight": sample_weight,
                "part": Spec((), np.dtype(self.layout.dtype)),
                "key": spec_of(NO_KEY),
                "scales": Spec((self.weight_count,), np.dtype("f8")) if scaled else None,
            }
            call = partial(function, fixed=self.fixed) if "fixed" in names else function
            names = [name for name in names if name in specs]
            self._graphs[cache_key] = trace_nested(call, *map(specs.__getitem__, names), names=names).graph
        return self._graphs[cache_key]

    def _plan(self, function: Callable[..., Any], rows: int, columns: Columns | None = None, yield_points: bool = False) -> Plan:
        columns = self.columns if columns is None else columns
        cache_key = function.__name__, rows, (columns.names, columns.specs)
        if cache_key not in self._plans:
            self._plans[cache_key] = plan(
                self._graph(function, rows, columns), approximate=self.objective.approximate, yield_points=yield_points
            )
        return self._plans[cache_key]

    def scorer(self, rows: Iterable[int], columns: Columns | None = None) -> Scorer:
        """The scorer for rows in these numbers, on any machine; `columns` may be with weights or without, unlike the program's own."""
        return Scorer(lambda n: self._plan(self.objective.scores, n, columns), rows, self.layout, self.statistics_layout)

    def for_evaluation(self, samples: int, columns: Columns | None = None) -> Scorer:
        """The scorer for the pieces of this many samples."""
        return self.scorer((len(piece) for piece in evaluation_pieces(samples)), columns)

    def for_workers(self, rows: Iterable[int]) -> StepParts:
        """The parts that a worker needs for shards of these sizes; empty shards need none."""
        numbers = sorted({n for n in rows if n})
        plans: dict[Any, Plan] = {n: self.shard_plan(n) for n in numbers}
        keyed = any(s.op == "input" and s.name == "key" for n in plans for node in self.shard_graph(n).nodes for s in node.inputs)
        weights = {n: self.weights_plan(n) for n in plans} if self.weight_count else {}
        if self.cut is not None:
            plans = {(n, end): self._shorter(n, end) for n in numbers for end in self.cut.ends}
        shared = self.update, self.layout, self.statistics_layout, self.seed, self.sums, keyed, self.followed, weights
        return StepParts(plans, *shared, self.cut)

    def _shorter(self, rows: int, end: int) -> Plan:
        """The plan of a shard of this many rows that is cut to so many positions."""
        assert self.cut is not None
        return self._plan(self.objective.contribution, rows, self.cut.specs(self.columns, end), yield_points=True)
