"""The outputs of a trained model for rows of data, wherever they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.plan.blas import one_blas_thread
from dagtrain.train.state import State
from dagtrain.train.step import Program
from dagtrain.train.vector import settled

__all__ = ["Predictor"]

Array = np.ndarray[Any, Any]


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
        rows = settled(np.asarray(x, self.x.dtype))
        leaves = [*self.layout.views(settled(self.state.parameters)), *self.statistics_layout.views(settled(self.state.statistics))]
        found = [np.empty((0, *self.outputs.shape[1:]), self.outputs.dtype)]
        with one_blas_thread():
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                found.append(self._program.output_plan(len(part))(*leaves, part)[0])
        return np.concatenate(found)

    def lazily(self, x: Any) -> Any:
        """The outputs for a dask array, as another one."""
        from dask.tokenize import tokenize

        rows = x.rechunk(dict.fromkeys(range(1, x.ndim), -1))
        return rows.map_blocks(
            self,
            name=f"predict-{tokenize(self, x)}",
            dtype=self.outputs.dtype,
            drop_axis=list(range(1, x.ndim)),
            new_axis=list(range(1, self.outputs.ndim)),
            chunks=(rows.chunks[0], *((n,) for n in self.outputs.shape[1:])),
            meta=np.empty((0,) * self.outputs.ndim, self.outputs.dtype),
        )
