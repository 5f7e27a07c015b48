"""Windows over the rows of a series, as samples: views of the rows, which are not copied.

    rows       0 1 2 3 4 │ 5 6 7 8 9          two blocks, windows of 3 rows
    samples    [0 1 2]   │ [5 6 7]            views within a block, where it lies
                 [1 2 3] │   [6 7 8]
                   [2 3 4]     [7 8 9]
                     [3 4 │ 5]                the windows across a seam: a partition of their own, of 2 · (3 - 1) copied rows
                       [4 │ 5 6]

A row that a view shows several times has one place in memory, also where windows are cast, joined or sent; a step copies the windows of its
batch alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import whole
from dagtrain.data.columns import Rows
from dagtrain.data.nests import is_nest, is_parts
from dagtrain.errors import DataError
from dagtrain.graph import Array

__all__ = [
    "WINDOWS",
    "SharedRows",
    "WindowRows",
    "bytes_of",
    "cast_rows",
    "cut_rows",
    "cut_windows",
    "joined",
    "partition_of",
    "shared_rows",
    "take_rows",
    "windows",
]


WINDOWS = "windows-"
"""How the names of tasks of windows begin."""


def windows(series: Any, width: int, step: int = 1) -> Any:
    """Each `width` rows of a series as one sample, without a copy of them.

    Parameters
    ----------
    series
        Rows in their order in time, (rows, ...): a NumPy array, or a dask array, whose blocks stay where they are.
    width
        Rows of a window.
    step
        How many rows a window begins after the one before.

    Returns
    -------
    ndarray or dask array
        Of shape (windows, width, ...); window i begins at row ``i * step``. A NumPy array is a view that cannot be written to. A dask array
        has a block for the windows in each block of the series, and one for those across each seam.

    Raises
    ------
    DataError
        If the series is shorter than a window, or a dask array has blocks of unknown length.

    Examples
    --------
    >>> windows(np.arange(5.0), 3)
    array([[0., 1., 2.],
           [1., 2., 3.],
           [2., 3., 4.]])
    >>> np.shares_memory(windows(rows := np.zeros((1000, 4)), 50), rows)
    True
    """
    width, step = whole("windows: width", width), whole("windows: step", step)
    if hasattr(series, "to_dask_array"):
        raise DataError("windows: a series of dask is an array of known length: give series.to_dask_array(lengths=True).")
    if not hasattr(series, "__dask_graph__"):
        if is_parts(series):
            raise DataError("windows: the series is a list of partitions: join them in time, da.concatenate([da.from_delayed(...), ...]).")
        if np.ma.is_masked(series):
            raise DataError("windows: a row of the series is masked: give numbers for it, as by .filled(...).")
        rows = np.asarray(series)
        if is_nest(series) or (rows.dtype == object and not rows.shape):
            raise DataError(f"windows: a series is one array of rows in time, got a {type(series).__name__}: make windows of each array.")
        _check(rows.shape, width)
        view = _view(rows, width, step)
        view.flags.writeable = False  # rows are shared
        return view
    _check(series.shape, width)
    return _lazy(series, width, step)


def _check(shape: tuple[float, ...], width: int) -> None:
    if not shape:
        raise DataError("windows: the series is a single number; its first axis must count rows in time.")
    if np.isnan(shape[0]):
        raise DataError("windows: the blocks of the series have unknown lengths: call .compute_chunk_sizes() first.")
    if shape[0] < width:
        raise DataError(f"windows: a series of {int(shape[0])} rows has no window of {width} rows.")


def _view(rows: Array, width: int, step: int) -> Array:
    count = (len(rows) - width) // step + 1
    strides = (rows.strides[0] * step, *rows.strides)
    return np.lib.stride_tricks.as_strided(rows, (count, width, *rows.shape[1:]), strides)


def _lazy(series: Any, width: int, step: int) -> Any:
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    series = series.rechunk(dict.fromkeys(range(1, series.ndim), -1))
    token, inner = tokenize(series.name, width, step), (0,) * (series.ndim - 1)
    name = f"{WINDOWS}{token}"
    layer: dict[Any, Any] = {}
    sizes: list[int] = []
    for count, parts in _pieces(series.chunks[0], width, step):
        key, refs = (name, len(sizes), 0, *inner), []
        for block, first, last in parts:
            part = (f"rows-{token}", block, first, last)  # cut where the block lies: only these rows travel to the others
            layer[part] = Task(part, cut_rows, TaskRef((series.name, block, *inner)), first, last)
            refs.append(TaskRef(part))
        layer[key] = Task(key, cut_windows, width, step, *refs)
        sizes.append(count)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[series])
    return da.Array(graph, name, (tuple(sizes), (width,), *((n,) for n in series.shape[1:])), dtype=series.dtype)


def cut_rows(block: Any, first: int, last: int) -> Any:
    """The rows of a block from `first` to below `last`."""
    return block[first:last]


def cut_windows(width: int, step: int, *parts: Any) -> Array:
    """The windows over the rows of these parts, one after the other; of one part a view."""
    return _view(np.asarray(parts[0]) if len(parts) == 1 else np.concatenate(parts), width, step)


def _pieces(sizes: Sequence[int], width: int, step: int) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    """For each block of windows their number, and the rows that they need: block of the series, first row in it, end."""
    ends = list(accumulate(sizes))
    begins = 0  # of the next window
    for end in ends:
        for most in (end - width, min(end - 1, ends[-1] - width)):  # within the block, across the seam
            if begins <= most:
                count = (most - begins) // step + 1
                stop = begins + (count - 1) * step + width
                parts = [
                    (i, max(begins, e - size) - (e - size), min(stop, e) - (e - size))
                    for i, (e, size) in enumerate(zip(ends, sizes, strict=True))
                    if max(begins, e - size) < min(stop, e)
                ]
                yield count, parts
                begins += count * step


# ---- window views in partitions


class SharedRows(NamedTuple):
    """The rows under a window view, each once, and how windows lie in them."""

    rows: Array
    width: int
    step: int

    def view(self) -> Array:
        """The windows."""
        return _view(self.rows, self.width, self.step)


def shared_rows(array: Any) -> SharedRows | None:
    """The rows under an array whose samples share rows, as windows do; None for any other array.

    Examples
    --------
    >>> rows, width, step = shared_rows(windows(np.arange(6), 3, step=2))
    >>> rows, width, step
    (array([0, 1, 2, 3, 4]), 3, 2)
    """
    if not isinstance(array, np.ndarray) or array.ndim < 2 or len(array) < 2 or array.size == 0:
        return None
    between, within = array.strides[:2]
    if within <= 0 or between <= 0 or between % within or between // within >= array.shape[1]:
        return None
    step, width = between // within, array.shape[1]
    shape = ((len(array) - 1) * step + width, *array.shape[2:])
    return SharedRows(np.lib.stride_tricks.as_strided(array, shape, array.strides[1:]), width, step)


def cast_rows(array: Any, dtype: Any) -> Array:
    """The array in a dtype, contiguous; a window view stays one, and its rows are cast and contiguous."""
    shared = shared_rows(array)
    if shared is None:
        return np.ascontiguousarray(array, dtype)
    return shared._replace(rows=np.ascontiguousarray(shared.rows, dtype)).view()


def take_rows(column: Array, rows: Array, out: Array) -> None:
    """Copy samples into `out`."""
    if shared_rows(column) is None:  # rows are checked: with mode="clip" NumPy needs no buffer for `out`
        np.take(column, rows, axis=0, out=out, mode="clip")
    else:  # np.take would copy all windows first
        out[...] = column[rows]


class WindowRows(tuple[Array, ...]):
    """Columns of a partition of which some are window views: pickled with each row once."""

    __slots__ = ()

    def __new__(cls, columns: Sequence[Array]) -> WindowRows:
        """The columns of a partition."""
        if "dask.sizeof" in sys.modules:  # workers judge their memory by it
            sys.modules["dask.sizeof"].sizeof.register(cls)(bytes_of)
        return super().__new__(cls, columns)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _unpacked, ([_packed(column) for column in self],)


def partition_of(columns: Sequence[Array]) -> Rows:
    """The columns of a partition, as `WindowRows` if some are window views."""
    return WindowRows(columns) if any(shared_rows(column) is not None for column in columns) else tuple(columns)


def _packed(column: Array) -> Any:
    shared = shared_rows(column)
    return column if shared is None else shared._replace(rows=np.ascontiguousarray(shared.rows))


def _unpacked(columns: Sequence[Any]) -> WindowRows:
    return WindowRows([column.view() if isinstance(column, SharedRows) else column for column in columns])


def bytes_of(columns: Sequence[Array]) -> int:
    """Bytes of columns, rows that windows share once."""
    return sum(column.nbytes if (shared := shared_rows(column)) is None else shared.rows.nbytes for column in columns)


def joined(partitions: Sequence[Rows]) -> Rows | None:
    """The partitions of whole columns one after the other, if all columns are windows that go on from each to the next; else None."""
    columns = [_joined(parts) for parts in zip(*partitions, strict=True)]
    return None if any(column is None for column in columns) else partition_of([c for c in columns if c is not None])


def _joined(parts: Sequence[Array]) -> Array | None:
    shared = [shared_rows(part) for part in parts]
    form = next(((s.width, s.step) for s in shared if s is not None), None)
    if form is None:
        return np.concatenate(parts)
    width, step = form
    again = width - step  # rows that the windows before have, too
    rows: list[Array] = []
    tail: Array | None = None
    for part, own in zip(parts, shared, strict=True):
        if own is None and len(part) == 1 and part.shape[1:2] == (width,):
            own = SharedRows(part[0], width, step)
        if own is None or own[1:] != form or (tail is not None and not np.array_equal(tail, own.rows[:again])):
            return None
        rows.append(own.rows if tail is None else own.rows[again:])
        tail = own.rows[len(own.rows) - again :]
    return SharedRows(np.concatenate(rows), width, step).view()
