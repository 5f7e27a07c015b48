"""`Pictured`: a trainer's step as objects to look at, before a fit too: summary, graph, task graph, placement.

rows of the last fit, else rows that are given, else rows of zeros ──▶ program, state, source, batches ──▶ what is drawn
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import whole
from dagtrain.data import BatchPlan, Columns, open_source
from dagtrain.data.check import Form
from dagtrain.data.compute import computed_by
from dagtrain.data.source import ArraySource, Source, partition_sizes
from dagtrain.data.stream import is_stream
from dagtrain.errors import ArgumentError
from dagtrain.graph import Graph
from dagtrain.step.program import Program
from dagtrain.step.state import State
from dagtrain.train.names import bind_inputs
from dagtrain.train.rows import check_alike, open_rows
from dagtrain.train.trained import Trained

__all__ = ["Pictured"]

BATCH_SIZE = 32
"""As in fit."""


class _Shown(NamedTuple):
    """A program with rows to show it on."""

    program: Program
    state: State
    source: Source
    batches: BatchPlan


class Pictured(Trained):
    """The pictures of a `Trainer`.

    They show the step on the rows of the last fit. Other rows may be given as `x`, `y` and `sample_weight`, as in fit: arrays, tables or
    dask data. Before a fit, a model that knows its input is shown without rows, if its losses say what their targets are.
    """

    def summary(self, *, x: Any = None) -> Any:
        """Table of the model's layers for the rows it is trained on, or for rows like `x`; see `dagtrain.nn.summarize`."""
        if not hasattr(self.model, "summary"):
            raise ArgumentError("only a model made of layers has a summary, not a plain cost function.")
        if x is None:
            columns = self._ready("summarize its model", call="summary(x=x)")[0].columns
        else:
            _refuse_stream(x)
            with computed_by(self._client):
                columns = open_source(bind_inputs(self._objective, x, self._columns), targets=None, dtype=self.dtype).columns
        return self.model.summary(columns.of_rows(1)[0], dtype=self.dtype)

    def graph(self, rows: int | None = None, *, x: Any = None, y: Any = None, sample_weight: Any = None) -> Graph:
        """The computational graph of one shard of this many rows, by default as many as in a full batch's first shard."""
        shown = self._shown("give its graph", "graph", None, x, y, sample_weight)
        return shown.program.shard_graph(len(shown.batches.step(0, 0)[0]) if rows is None else rows)

    def step_graph(self, steps: int = 1, *, batch_size: int | None = None, x: Any = None, y: Any = None, sample_weight: Any = None) -> Any:
        """The next training steps as a Dask graph to draw, inspect and compute.

        It holds the state and the partitions of the data, so any scheduler can compute it: see `dagtrain.engines.scheduler.step_graph`.
        Without a fit and without `x`, the data are zeros: draw it, but learn nothing from its values. `batch_size` is that of the fit, or
        32.
        """
        from dagtrain.engines.scheduler.step_graph import StepGraph

        steps = whole("steps", steps)
        program, state, source, plan = self._shown("give its step graph", "step_graph", batch_size, x, y, sample_weight)
        first = self.progress.epochs * plan.steps_per_epoch + self.progress.place[1]
        batches = [plan.step(*divmod(i, plan.steps_per_epoch)) for i in range(first, first + steps)]
        return StepGraph.of(program, source, state, batches)

    def placement(self, *, batch_size: int | None = None, x: Any = None, y: Any = None, sample_weight: Any = None) -> Any:
        """The placement of a step on workers by the engine lanes: a `dagtrain.engines.ranks.Placement`, which ``visualize()`` draws.

        `batch_size` says how many shards there are, where the trainer does not: that of the fit, or 32.
        """
        from dagtrain.engines.ranks.engine import placement_on

        program, _, _, plan = self._shown("be placed", "placement", batch_size, x, y, sample_weight)
        return placement_on(self.client, program, len(plan.step(0, 0)))

    def _shown(self, purpose: str, method: str, batch_size: int | None, x: Any, y: Any, sample_weight: Any) -> _Shown:
        """The program and state, and the rows to show them on."""
        if x is None and (y is not None or sample_weight is not None):
            raise ArgumentError(f"{method} takes y and sample_weight with the x that they belong to: {method}(x=x, y=y).")
        if x is not None:
            _refuse_stream(x)
            with computed_by(self._client):
                source = open_rows(self._objective, x, y, sample_weight, self._columns)
            plan = self._plan(source, batch_size, shuffle=True)
        else:
            program, state = self._ready(purpose, targets=True, call=f"{method}(x=x, y=y)")
            if self._sample is not None:
                source, plan = self._sample
                if batch_size is not None:
                    plan = replace(plan, batch_size=batch_size, shards=self.shards)
                return _Shown(program, state, source, plan)
            least = self.shards if isinstance(self.shards, int) else 1
            source = _zeros(program.columns, max(BATCH_SIZE, least) if batch_size is None else whole("batch_size", batch_size))
            plan = self._plan(source, source.samples, shuffle=False)
        return _Shown(*self._program_of(source.columns, len(plan.step(0, 0))), source, plan)

    def _plan(self, source: Source, batch_size: int | None, shuffle: bool) -> BatchPlan:
        size = BATCH_SIZE if batch_size is None else batch_size
        return BatchPlan(source.samples, size, self.shards, self.seed, shuffle, source.sizes)

    def _program_of(self, columns: Columns, shards: int) -> tuple[Program, State]:
        """The program for rows of these columns in so many shards, and its state; the trainer's own stays."""
        program, state = self.progress.program, self.progress.state
        if program is None or state is None:
            program = self._compile(columns, shards)
            return program, self._first_state(program)
        check_alike(program.columns, columns)
        program.statistics_layout.check_shards(shards)
        return (program if program.columns == columns else self._compile(columns, shards)), state


def _refuse_stream(x: Any) -> None:
    if is_stream(x):
        raise ArgumentError("a picture takes rows, no stream of batches: give one of them, as in x, y = next(iter(batches)).")


def _zeros(columns: Columns, rows: int) -> ArraySource:
    """Rows of zeros, of weight one."""
    weights = [name.partition(".")[0] == "sample_weight" for name in columns.names]
    arrays = tuple(np.full((rows, *spec.shape), weight, spec.dtype) for spec, weight in zip(columns.specs, weights, strict=True))
    return ArraySource(Form(columns, ((),) * len(arrays)), partition_sizes(rows, columns.row_bytes), arrays)
