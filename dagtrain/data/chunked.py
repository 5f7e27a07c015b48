"""Data in dask collections: blocks of rows that stay where they are computed.

    x  ┌──┬──┐ blocks         ┌─────┐ one block of rows   ('data-<token>', 0) = read(form, x block, y block)
       ├──┼──┤  ──rechunk──▶  ├─────┤      + y cut alike   ('data-<token>', 1) = ...
       └──┴──┘                └─────┘

The check is one small task for each partition; the scheduler in use (a Client's, if there is one) runs them, and only findings come back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from dagtrain.data.check import Form, check_dtype, check_size, explain, inspect, make_form, read
from dagtrain.data.source import check_table, numpy_dtype, row_slices, to_array
from dagtrain.errors import DataError
from dagtrain.graph import Spec

__all__ = ["ChunkedSource", "open_chunks"]

Array = np.ndarray[Any, np.dtype[Any]]
Key = Any


@dataclass(frozen=True, eq=False)
class ChunkedSource:
    """Partitions as tasks.

    Attributes
    ----------
    form
        Specs of the rows and what was checked.
    sizes
        Rows of each partition; partitions without rows are left out.
    graph
        The user's graph, as task nodes.
    blocks
        Keys in it of the raw x and y of each partition.
    held
        The collections as they came; their graphs hold the futures of blocks persisted on a cluster, which live as long as these do.
    """

    form: Form
    sizes: tuple[int, ...]
    graph: dict[Key, Any]
    blocks: tuple[tuple[Key, Key | None], ...]
    held: tuple[Any, ...]
    _whole: list[tuple[Array, Array | None]] = field(default_factory=list, init=False, repr=False)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(self.sizes)

    @property
    def x_spec(self) -> Spec:
        """Row spec of x."""
        return self.form.x

    @property
    def y_spec(self) -> Spec | None:
        """Row spec of y."""
        return self.form.y

    def local(self) -> tuple[Array, Array | None]:
        """All partitions, computed by the scheduler in use and joined in this process; the second call gives the same arrays."""
        if not self._whole:
            graph, keys = self.tasks()
            parts = _gather(graph, keys)
            x = np.empty((self.samples, *self.form.x.shape), self.form.x.dtype)
            y = None if self.form.y is None else np.empty((self.samples, *self.form.y.shape), self.form.y.dtype)
            for rows, (x_part, y_part) in zip(row_slices(self.sizes), parts, strict=True):
                x[rows] = x_part
                if y is not None:
                    y[rows] = y_part
            self._whole.append((x, y))
        return self._whole[0]

    def tasks(self) -> tuple[dict[Key, Any], list[tuple[str, int]]]:
        """The user's graph with a task on top for each partition, which makes training's dtypes of it."""
        graph, keys = self._over("data", read)
        return graph, keys

    def check(self) -> None:
        """Look at every element where it lies, and raise for the first that breaks a rule."""
        graph, keys = self._over("check", inspect, self.sizes)
        starts = accumulate(self.sizes, initial=0)
        for i, (start, finding) in enumerate(zip(starts, _gather(graph, keys), strict=False)):
            if finding is not None:
                raise explain(self.form, finding, start, i)

    def _over(self, verb: str, function: Any, sizes: tuple[int, ...] | None = None) -> tuple[dict[Key, Any], list[tuple[str, int]]]:
        """The graph with ``function(form, x, y[, rows])`` over every partition."""
        from dask.task_spec import Task, TaskRef
        from dask.tokenize import tokenize

        form = self.form
        name = f"{verb}-{tokenize([self.blocks, self.sizes, str(form.x), str(form.y), form.rules, form.classes])}"
        graph = dict(self.graph)
        for i, (x, y) in enumerate(self.blocks):
            rows = () if sizes is None else (sizes[i],)
            graph[name, i] = Task((name, i), function, form, TaskRef(x), None if y is None else TaskRef(y), *rows)
        return graph, [(name, i) for i in range(len(self.blocks))]


def open_chunks(
    x: Any, y: Any, *, targets: str | None, classes: int | None, dtype: Any, keep_integers: bool, label_axes: int
) -> ChunkedSource:
    """`open_source` where x or y is a dask collection; the other one is cut like it."""
    import dask
    from dask.core import flatten

    (x, x_columns), (y, y_columns) = _lazy("x", x), (None, ()) if y is None else _lazy("y", y)
    form = make_form(
        Spec(x.shape, x.dtype),
        None if y is None else Spec(y.shape, y.dtype),
        targets=targets,
        classes=classes,
        dtype=dtype,
        keep_integers=keep_integers,
        label_axes=label_axes,
        columns=(x_columns, y_columns),
    )
    rows = x.chunks[0] if not isinstance(x, np.ndarray) else y.chunks[0]
    x, y = _cut(x, rows), None if y is None else _cut(y, rows)
    held = (x,) if y is None else (x, y)
    small = dask.optimize(*held)
    graph = _nodes({key: node for part in small for key, node in dict(part.__dask_graph__()).items()})
    x_keys, *y_keys = (list(flatten(part.__dask_keys__())) for part in small)
    blocks = list(zip(x_keys, *y_keys, strict=True) if y_keys else zip(x_keys, [None] * len(x_keys), strict=True))
    full = [i for i, size in enumerate(rows) if size]
    source = ChunkedSource(form, tuple(int(rows[i]) for i in full), graph, tuple(blocks[i] for i in full), held)
    source.check()
    return source


def _lazy(name: str, value: Any) -> tuple[Any, tuple[str, ...]]:
    """A dask array whose chunk sizes are known, or a NumPy array; and the names of the columns of a table."""
    import dask
    import dask.array as da
    from dask.delayed import Delayed

    if not dask.is_dask_collection(value):
        return to_array(name, value)
    columns: tuple[str, ...] = ()
    if not isinstance(value, da.Array):
        # A Delayed claims to have every attribute.
        if isinstance(value, Delayed) or not hasattr(value, "to_dask_array"):
            advice = "Make a dask array or DataFrame of it, as dask.array.from_delayed does, or compute it."
            raise DataError(f"{name} is a {type(value).__name__}, not an array or a table of numbers. {advice}")
        common = check_table(name, value) if hasattr(value, "columns") and value.ndim == 2 else numpy_dtype(name, value.dtype)
        if value.ndim == 2:
            columns = tuple(map(str, value.columns))
        value = value.astype(common).to_dask_array(lengths=True)
    check_dtype(name, value.dtype)
    if np.isnan(value.size):
        # compute_chunk_sizes changes the array it is called on; the user's stays as it is.
        value = value.copy().compute_chunk_sizes()
    check_size(name, value.shape)
    return value, columns


def _cut(value: Any, rows: tuple[int, ...]) -> Any:
    import dask.array as da

    chunks = (rows, *((length,) for length in value.shape[1:]))
    return da.from_array(value, chunks=chunks) if isinstance(value, np.ndarray) else value.rechunk(chunks)


def _nodes(graph: dict[Key, Any]) -> dict[Key, Any]:
    """Task nodes for a graph that may still hold tuples of the old form, as collections made outside dask do."""
    from dask._task_spec import convert_legacy_graph

    return dict(convert_legacy_graph(graph))


def _gather(graph: dict[Key, Any], keys: list[tuple[str, int]]) -> list[Any]:
    """The values of these keys, computed by whichever scheduler is in use."""
    import dask
    from dask.delayed import Delayed
    from dask.task_spec import List, Task, TaskRef

    last = f"all-{keys[0][0]}"
    whole = {**graph, last: Task(last, list, List(*map(TaskRef, keys)))}
    (values,) = dask.compute(Delayed(last, whole), traverse=False)
    return list(values)
