"""The outputs of a trained model for rows of data, wherever they lie.

    block of rows 0 ──┐
    block of rows 1 ──┼──▶ outputs of block i          the model is one node of the graph, or a future where there is a cluster
    model ────────────┘

Rows are computed by `batch_size` from the beginning of each partition. How a matrix product rounds depends on how many rows it has, so a
prediction is a function of the batch it is in, and not of anything else: a partition gives the same bits as its rows given as an array.
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
    """Computes outputs for blocks of rows; picklable, so that Dask can call it on partitions."""

    def __init__(self, program: Program, state: State, batch_size: int) -> None:
        self.state, self.batch_size, self.x = state, batch_size, program.x
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
        found = [np.empty((0, *self.outputs.shape[1:]), self.outputs.dtype)]
        with one_blas_thread():
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                found.append(self._program.output_plan(len(part))(*leaves, part)[0])
        return np.concatenate(found)

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
        """A dask array of x, each block of which holds whole rows; what is not known of the sizes of partitions stays unknown.

        Futures are asked, since what they stand for is computed anyway.
        """
        from dagtrain.data.chunked import lazy_array
        from dagtrain.data.parts import Parts, is_parts, look_tasks, part_array, seen_arrays

        found, columns = lazy_array("x", x)
        if isinstance(found, Parts):
            if not is_parts(x):
                check_rows(self._program, (len(columns),) if columns else ())
            if all(is_future(found.graph.get(key)) for key in found.keys):
                asked = look_tasks(found)
                found = seen_arrays(found, compute({**found.graph, **asked}, list(asked)))["x"][0]
            else:
                found = part_array(found, "x", None, (float("nan"),) * len(found.keys), self.x.shape, self.x.dtype)
        check_dtype("x", found.dtype)
        check_rows(self._program, found.shape[1:])
        return found.rechunk(dict.fromkeys(range(1, found.ndim), -1))


def predict_task(model: Predictor, rows: Array) -> Array:
    """The outputs for a block of rows."""
    return model(rows)
