"""The outputs of a trained model for rows of data, in this process or on a cluster.

    block of rows 0 ──┐
    block of rows 1 ──┼──▶ outputs of block i          the model is one node of the graph, or a future on a cluster
    model ────────────┘

Each partition is computed in batches of `batch_size` rows from its beginning; by default of 1,024 rows, which are cut further where their
plan needs much memory (see `dagtrain.step.scores`). The rounding of a matrix product depends on its number of rows, so a prediction is a
function of its batch, and of nothing else: a partition gives the same bits as an array of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np

from dagtrain.arguments import is_future
from dagtrain.backends.blas import one_blas_thread
from dagtrain.data.check import Form, cast_dtype, check_dtype, check_lengths, explain, inspect
from dagtrain.data.chunked import check_indexes, lazy_column
from dagtrain.data.compute import Graph, compute
from dagtrain.data.nests import arrange, take_apart
from dagtrain.data.parts import Column, Look, Parts, fit_together, look_tasks, part_array, places_of, seen_columns
from dagtrain.data.tables import aligned, check_table
from dagtrain.data.windows import cast_rows
from dagtrain.errors import DataError
from dagtrain.graph import Array, Spec
from dagtrain.plan import Plan
from dagtrain.step.layout import settled
from dagtrain.step.program import Program
from dagtrain.step.scores import EVALUATED, rows_at_once
from dagtrain.step.state import State
from dagtrain.step.statistics import state_leaves
from dagtrain.trace.tree import flatten, leaves, map_leaves, unflatten
from dagtrain.train.rows import check_alike

__all__ = ["Predictor"]


class Predictor:
    """Computes outputs for blocks of rows; picklable, so Dask can call it on partitions."""

    def __init__(self, program: Program, state: State, batch_size: int | None, probabilities: bool = False) -> None:
        self.state, self.batch_size, self.columns, self.probabilities = state, batch_size, program.columns.of_x, probabilities
        self.layout, self.statistics_layout = program.layout, program.statistics_layout
        self.outputs = list(program.output_plan(1, probabilities).outputs.values())
        self.structure = flatten(program.objective.outputs_spec(program.columns.x))[1]
        self._program = program

    def __dask_tokenize__(self) -> Any:
        return type(self).__name__, self._program.output_plan(1, self.probabilities).key, self.state.fingerprint, self.batch_size

    def __call__(self, *columns: Array) -> Any:
        """The outputs for these rows, which are checked."""
        self._check(columns)
        check_lengths(dict(zip(self.columns.names, columns, strict=True)))
        form = Form(self.columns, tuple(("finite", "fits") if spec.dtype == np.float32 else ("finite",) for spec in self.columns.specs))
        finding = inspect(form, len(columns[0]), *columns)
        if finding is not None:
            raise explain(form, finding, 0, 0)
        return self.compute(*columns)

    def compute(self, *columns: Array) -> Any:
        """The outputs for rows that passed all checks: an array, or a nest of arrays."""
        rows = [cast_rows(column, spec.dtype) for column, spec in zip(columns, self.columns.specs, strict=True)]
        state = state_leaves(self.layout, self.statistics_layout, self.state)
        outputs: list[Sequence[Array]] = [[np.empty((0, *spec.shape[1:]), spec.dtype) for spec in self.outputs]]
        with one_blas_thread():
            for start, stop in self._batches(len(rows[0])):
                part = [settled(column[start:stop]) for column in rows]
                outputs.append(self._plan(len(part[0]))(*state, *part))
        return unflatten(self.structure, [np.concatenate(parts) for parts in zip(*outputs, strict=True)])

    def _plan(self, rows: int) -> Plan:
        return self._program.output_plan(rows, self.probabilities)

    def _batches(self, rows: int) -> Iterator[tuple[int, int]]:
        """Where the batches of so many rows begin and end."""
        most = self.batch_size or EVALUATED
        for start in range(0, rows, most):
            stop = min(start + most, rows)
            length = self.batch_size or rows_at_once(self._plan, stop - start)
            yield from ((first, min(first + length, stop)) for first in range(start, stop, length))

    def _check(self, arrays: Sequence[Any]) -> None:
        """Raise DataError for arrays that are not rows of the program's columns."""
        specs = [
            Spec(tuple(array.shape[1:]), cast_dtype(array.dtype, spec.dtype))
            for array, spec in zip(arrays, self.columns.specs, strict=True)
        ]
        check_alike(self.columns, replace(self.columns, specs=tuple(specs)), ["x"])

    def lazily(self, x: Any) -> Any:
        """The outputs for a dask array, a dask DataFrame, or a list of delayed values or futures, as dask arrays of as many blocks."""
        import dask.array as da
        from dask.highlevelgraph import HighLevelGraph
        from dask.task_spec import DataNode, List, Task, TaskRef
        from dask.tokenize import tokenize

        from dagtrain.engines.cluster.waiting import send_to_cluster

        rows, looks = self._rows(x)
        token = tokenize(self, [array.name for array in rows])
        model, name = f"model-{tokenize(self)}", f"predict-{token}"
        future = send_to_cluster(model, self)
        layer: dict[Any, Any] = {
            model: DataNode(model, self) if future is None else future,
            **{k: v for tasks in looks for k, v in tasks.items()},
        }
        partitions, several = range(rows[0].numblocks[0]), len(self.outputs) > 1
        arrays = []

        def operands(i: int) -> list[Any]:
            blocks = [TaskRef((array.name, i, *(0,) * (array.ndim - 1))) for array in rows]
            return [TaskRef(model), i, List(*(TaskRef(list(tasks)[i]) for tasks in looks)), *blocks]

        for i in partitions if several else ():
            layer[name, i] = Task((name, i), predict_task, *operands(i))
        for number, spec in enumerate(self.outputs):
            after, output = spec.shape[1:], f"{name}-{number}" if several else name
            for i in partitions:
                key = (output, i, *(0 for _ in after))
                layer[key] = Task(key, itemgetter(number), TaskRef((name, i))) if several else Task(key, predict_only, *operands(i))
            arrays.append((output, (rows[0].chunks[0], *((n,) for n in after)), np.empty((0,) * spec.ndim, spec.dtype)))
        # One layer for all outputs: they share the tasks of the model.
        graphs = [HighLevelGraph.from_collections(output, layer, dependencies=rows) for output, _, _ in arrays]
        made = [da.Array(graph, output, chunks, meta=meta) for graph, (output, chunks, meta) in zip(graphs, arrays, strict=True)]
        return unflatten(self.structure, made)

    def _rows(self, x: Any) -> tuple[list[Any], list[Graph]]:
        """The columns of x as dask arrays in blocks of whole rows; unknown sizes of partitions stay unknown.

        A task inspects futures, since their values are computed anyway. Where rows must fit together, the second value has the tasks, one a
        partition, that will inspect other partitions.
        """
        import dask.array as da

        headers = dict(zip(self.columns.names, self.columns.headers, strict=True))
        values, structure = take_apart({"x": arrange("x", x, self.columns.structure[0])})
        nests: dict[str, Any] = {}
        known: dict[str, Column] = {}
        unknown: list[Graph] = []
        for name, value in aligned(values).items():
            column = lazy_column(name, value, headers.get(name, ()))
            if not isinstance(column.array, Parts):
                nests[name], known[name] = column.array, column
            elif all(is_future(column.array.graph.get(key)) for key in column.array.keys):
                looks = look_tasks(column.array)
                results = compute({**column.array.graph, **looks}, list(looks))
                seen = seen_columns(column.array, results, headers)[name]
                nests[name] = map_leaves(lambda seen: seen.array, seen)
                known |= flatten(seen, name)[0]
            else:
                nests[name] = self._unknown(name, column, check_table(name, value) if column.header else None)
                unknown.append(look_tasks(column.array))
        check_indexes(known)
        nest = unflatten(structure["x"], nests.values())
        arrays, structure = flatten({"x": arrange("x", nest, self.columns.structure[0])})
        check_alike(self.columns, replace(self.columns, structure=(structure["x"], None, None)), ["x"])
        for name, array in arrays.items():
            check_dtype(name, array.dtype)
        self._check(list(arrays.values()))
        check_lengths({name: array for name, array in arrays.items() if not np.isnan(array.shape[0])})
        lazy = [array for array in arrays.values() if not isinstance(array, np.ndarray)]
        _check_cuts({name: array for name, array in arrays.items() if not isinstance(array, np.ndarray)}, len(lazy) < len(arrays))
        whole = [array.rechunk(dict.fromkeys(range(1, array.ndim), -1)) for array in lazy]
        rows = whole[0].chunks[0]
        cut = iter(whole)
        blocks = [
            da.from_array(array, chunks=(rows, *array.shape[1:])) if isinstance(array, np.ndarray) else next(cut)
            for array in arrays.values()
        ]
        checks = unknown if len(arrays) > 1 and len({len(tasks) for tasks in unknown} | {len(rows)}) == 1 else []
        return [array if len(array.chunks[0]) == len(rows) else array.rechunk({0: rows}) for array in blocks], checks

    def _unknown(self, name: str, column: Column, dtype: np.dtype[Any] | None) -> Any:
        """The dask arrays of partitions that were not inspected: they must hold what the trainer was fitted on.

        A dask DataFrame tells its dtype.
        """
        parts, unknown = column.array, (float("nan"),) * len(column.array.keys)
        expected = {n: (spec, header) for n, spec, header in zip(self.columns.names, self.columns.specs, self.columns.headers, strict=True)}
        if dtype is not None:
            return part_array(parts, name, (), unknown, (len(column.header),), dtype, column.header)
        if name in expected:
            spec, header = expected[name]
            return part_array(parts, name, (), unknown, spec.shape, spec.dtype, header)
        places = places_of(self.columns.structure[0], ())
        arrays = [
            part_array(parts, n, place, unknown, spec.shape, spec.dtype, header)
            for place, (n, (spec, header)) in zip(places, expected.items(), strict=True)
        ]
        return unflatten(self.columns.structure[0], arrays)


def _check_cuts(arrays: Mapping[str, Any], counted: bool) -> None:
    """Raise DataError unless columns with partitions of unknown sizes have the same number of them, and no other column is cut by rows."""
    cuts = {name: len(array.chunks[0]) for name, array in arrays.items()}
    unknown = next((name for name, array in arrays.items() if np.isnan(array.shape[0])), None)
    if unknown is not None and (counted or len(set(cuts.values())) > 1):
        others = "a column that is no dask collection" if counted else f"columns of other numbers of partitions, {cuts}"
        raise DataError(
            f"the rows in the partitions of {unknown} are not counted yet, so it does not go with {others}. "
            "Count them with .to_dask_array(lengths=True), or use .repartition."
        )


def predict_task(model: Predictor, partition: int, looks: Sequence[Look], *rows: Array) -> list[Array]:
    """The outputs in order for a block of rows, whose tables must have the same index."""
    try:
        fit_together(looks)
        return leaves(model(*rows))
    except DataError as error:
        raise DataError(f"partition {partition}: {error}") from error


def predict_only(model: Predictor, partition: int, looks: Sequence[Look], *rows: Array) -> Array:
    """The only output for a block of rows."""
    return predict_task(model, partition, looks, *rows)[0]
