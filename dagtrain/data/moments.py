"""Mean and variance of data where it lies, in the pass that checks it, and to the same bits whatever its partitions and the workers.

A task for each partition returns its exact sums (see `dagtrain.data.exact`), so no row leaves its worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.data.chunked import ChunkedSource
from dagtrain.data.columns import Rows
from dagtrain.data.exact import Sums, exact_sums, joined, mean_and_variance
from dagtrain.data.open import open_source
from dagtrain.data.source import Source, row_slices
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Array
from dagtrain.trace.tree import unflatten

__all__ = ["Moments", "moments"]


class Moments(NamedTuple):
    """Mean and variance.

    Attributes
    ----------
    mean, variance
        Each is rounded to float64 once; the variance is the mean squared distance from the mean.
    size
        Numbers that each is of.
    """

    mean: Array
    variance: Array
    size: int


def moments(x: Any, axis: int | tuple[int, ...] | None = -1, dtype: Any = np.float32) -> Any:
    """Mean and variance of data, for `dagtrain.nn.Normalization`.

    Dask data is read once, or twice where the lengths of its partitions are not known.

    Parameters
    ----------
    x
        Anything that `Trainer.fit` takes as x, but streams: arrays, tables, dask arrays and dataframes, lists of delayed values or futures,
        or tuples and dicts of these.
    axis
        The axis or axes that have moments of their own, as in Keras: the features by default; None for one mean of all numbers. For tuples
        and dicts, those of each.
    dtype
        The floats of training, which the data is read in.

    Returns
    -------
    Moments
        For a tuple or dict of columns a tuple or dict of them.

    Raises
    ------
    DataError
        If the data cannot be used, for example with NaN.
    ArgumentError, ShapeError
        If the axes are not those of the data.

    Examples
    --------
    >>> statistics = moments(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> statistics.mean, statistics.variance, statistics.size
    (array([ 2., 20.]), array([  1., 100.]), 2)
    """
    axes = () if axis is None else axis if isinstance(axis, tuple | list) else (axis,)
    if not all(map(is_whole, axes)):
        raise ArgumentError(f"moments: axis is a whole number, several, or None, got {axis!r}.")
    source = open_source(x, targets=None, dtype=dtype, check=False)
    reduced = [_reduced(name, 1 + len(spec.shape), axes) for name, spec in zip(source.columns.names, source.columns.specs, strict=True)]
    results = []
    for name, spec, axes, *parts in zip(source.columns.names, source.columns.specs, reduced, *_sums(source, reduced), strict=True):
        sums = joined(parts)
        shape = tuple(n for axis, n in enumerate(spec.shape, 1) if axis not in axes)
        mean, variance = (each.reshape(shape) for each in mean_and_variance(name, sums))
        results.append(Moments(mean, variance, sums.rows))
    return unflatten(source.columns.structure[0], results)


def _reduced(name: str, ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    kept = {axis % ndim for axis in axes if -ndim <= axis < ndim}
    if len(kept) < len(axes) or 0 in kept:
        raise ShapeError(f"moments: {name} has the axes 0 (the samples) to {ndim - 1}, and its samples not each of {tuple(axes)} once.")
    return tuple(axis for axis in range(ndim) if axis not in kept)


def _sums(source: Source, reduced: Sequence[tuple[int, ...]]) -> list[list[Sums]]:
    """The sums of each partition, for each column."""
    if not isinstance(source, ChunkedSource):
        columns = source.local()
        return [_of_partition(reduced, tuple(column[rows] for column in columns)) for rows in row_slices(source.sizes)]
    from dask.task_spec import Task, TaskRef

    graph, data = source.tasks()
    tasks = {(f"moments-{name}", i): Task((f"moments-{name}", i), _of_partition, tuple(reduced), TaskRef((name, i))) for name, i in data}
    return source.check({**graph, **tasks}, list(tasks))


def _of_partition(reduced: Sequence[tuple[int, ...]], columns: Rows) -> list[Sums]:
    results = []
    for column, axes in zip(columns, reduced, strict=True):
        kept = [axis for axis in range(column.ndim) if axis not in axes]
        width = int(np.prod([column.shape[axis] for axis in kept]))
        results.append(exact_sums(column.transpose(*axes, *kept).reshape(-1, width)))
    return results
