"""The outputs of a trained model for rows of data, in this process or on a cluster.

    block of rows 0 ──┐
    block of rows 1 ──┼──▶ outputs of block i          the model is one node of the graph, or a future on a cluster
    model ────────────┘

Each partition is computed in batches of `batch_size` rows from its beginning. The rounding of a matrix product depends on its number of
rows, so a prediction is a function of its batch, and of nothing else: a partition gives the same bits as an array of its rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.arguments import is_future
from dagtrain.data.check import check_dtype
from dagtrain.data.compute import compute
from dagtrain.graph import Array
from dagtrain.plan.blas import one_blas_thread
from dagtrain.step.layout import settled
from dagtrain.step.program import Program
from dagtrain.step.state import State
from dagtrain.train.rows import check_rows

__all__ = ["Predictor"]


class Predictor:
    """Computes outputs for blocks of rows; picklable, so Dask can call it on partitions."""

    def __init__(self, program: Program, state: State, batch_size: int) -> None:
        self.state, self.batch_size, self.x = state, batch_size, program.columns.x
        self.layout, self.statistics_layout = program.layout, program.statistics_layout
        self.outputs = program.output_plan(1).outputs["outputs"]
        self._program = program

    def __dask_tokenize__(self) -> Any:
        return type(self).__name__, self._program.output_plan(1).key, self.state.fingerprint, self.batch_size

    def __call__(self, x: Array) -> Array:
        """The outputs for these rows."""
        check_rows(self._program, x.shape[1:])
        rows = settled(np.asarray(x, self.x.dtype))
        leaves = [*self.layout.views(settled(self.state.parameters)), *self.statistics_layout.views(settled(self.state.statistics))]
        outputs = [np.empty((0, *self.outputs.shape[1:]), self.outputs.dtype)]
        with one_blas_thread():
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                outputs.append(self._program.output_plan(len(part))(*leaves, part)[0])
        return np.concatenate(outputs)

    def lazily(self, x: Any) -> Any:
        """The outputs for a dask array, a dask DataFrame, or a list of delayed values or futures, as a dask array of as many blocks."""
        import dask.array as da
        from dask.highlevelgraph import HighLevelGraph
        from dask.task_spec import DataNode, Task, TaskRef
        from dask.tokenize import tokenize

        from dagtrain.engines.cluster.waiting import send_to_cluster

        rows = self._rows(x)
        token = tokenize(self, rows.name)
        model, name = f"model-{tokenize(self)}", f"predict-{token}"
        future = send_to_cluster(model, self)
        row = (0,) * (rows.ndim - 1)
        after = self.outputs.shape[1:]
        layer: dict[Any, Any] = {model: DataNode(model, self) if future is None else future}
        for i in range(rows.numblocks[0]):
            key = (name, i, *(0 for _ in after))
            layer[key] = Task(key, predict_task, TaskRef(model), TaskRef((rows.name, i, *row)))
        graph = HighLevelGraph.from_collections(name, layer, dependencies=[rows])
        chunks = (rows.chunks[0], *((n,) for n in after))
        return da.Array(graph, name, chunks, meta=np.empty((0,) * self.outputs.ndim, self.outputs.dtype))

    def _rows(self, x: Any) -> Any:
        """A dask array of x in blocks of whole rows; unknown sizes of partitions stay unknown.

        A task inspects futures, since their values are computed anyway.
        """
        from dagtrain.data.chunked import lazy_array
        from dagtrain.data.parts import Parts, is_parts, look_tasks, part_array, seen_arrays

        rows, columns = lazy_array("x", x)
        if isinstance(rows, Parts):
            if not is_parts(x):
                check_rows(self._program, (len(columns),) if columns else ())
            if all(is_future(rows.graph.get(key)) for key in rows.keys):
                looks = look_tasks(rows)
                rows = seen_arrays(rows, compute({**rows.graph, **looks}, list(looks)))["x"][0]
            else:
                rows = part_array(rows, "x", None, (float("nan"),) * len(rows.keys), self.x.shape, self.x.dtype)
        check_dtype("x", rows.dtype)
        check_rows(self._program, rows.shape[1:])
        return rows.rechunk(dict.fromkeys(range(1, rows.ndim), -1))


def predict_task(model: Predictor, rows: Array) -> Array:
    """The outputs for a block of rows."""
    return model(rows)
