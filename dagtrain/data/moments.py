"""Mean and variance of data where it lies, in the pass that checks it, and to the same bits whatever its partitions and the workers.

partitions  │ 700 rows │ 700 │ 700 │       pieces of as many rows as fit, from the beginning of the data
pieces      │ 1,000    │ 1,000 │ 100 │     each: size, mean, sum of squared distances from it; joined in order, in float64

The rows of a piece are gathered from the partitions that hold them; no other rows leave their worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.data.chunked import ChunkedSource
from dagtrain.data.columns import Rows
from dagtrain.data.open import open_source
from dagtrain.data.pick import Gathered, assemble, gather_plan
from dagtrain.data.source import PARTITION_BYTES, Source
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Array
from dagtrain.trace.tree import unflatten

__all__ = ["Moments", "moments"]

_MOST = 8192
"""Most rows of a piece."""


class Moments(NamedTuple):
    """Mean and variance.

    Attributes
    ----------
    mean, variance
        In float64; the variance is the mean squared distance from the mean.
    size
        Numbers that each is of.
    """

    mean: Array
    variance: Array
    size: int


class _Part(NamedTuple):
    """Of some rows: how many numbers each is of, the mean and the sum of squared distances from it."""

    size: int
    mean: Array
    squares: Array


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
    pieces = _pieces(source, reduced)
    whole = [reduce(_joined, parts) for parts in zip(*pieces, strict=True)]
    return unflatten(source.columns.structure[0], [Moments(p.mean, p.squares / p.size, p.size) for p in whole])


def _reduced(name: str, ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    kept = {axis % ndim for axis in axes if -ndim <= axis < ndim}
    if len(kept) < len(axes) or 0 in kept:
        raise ShapeError(f"moments: {name} has the axes 0 (the samples) to {ndim - 1}, and its samples not each of {tuple(axes)} once.")
    return tuple(axis for axis in range(ndim) if axis not in kept)


def _pieces(source: Source, reduced: Sequence[tuple[int, ...]]) -> list[list[_Part]]:
    """The parts of each piece, for each column."""
    most = min(max(1, PARTITION_BYTES // source.row_bytes), _MOST)
    pieces = [range(start, min(start + most, source.samples)) for start in range(0, source.samples, most)]
    if not isinstance(source, ChunkedSource):
        columns = source.local()
        return [_of_rows(reduced, tuple(column[p.start : p.stop] for column in columns)) for p in pieces]
    from dask.task_spec import DataNode, Task, TaskRef

    graph, data = source.tasks()
    name = f"moments-{data[0][0]}"
    tasks = {}
    for i, piece in enumerate(pieces):
        picks = gather_plan(piece, source.sizes)
        rows = (TaskRef(data[p.partition]) for p in picks)
        tasks[name, i] = Task((name, i), _of_piece, tuple(reduced), DataNode(None, picks), *rows)
    return source.check({**graph, **tasks}, list(tasks))


def _of_piece(reduced: Sequence[tuple[int, ...]], picks: Sequence[Gathered], *partitions: Rows) -> list[_Part]:
    return _of_rows(reduced, assemble(picks, partitions))


def _of_rows(reduced: Sequence[tuple[int, ...]], columns: Rows) -> list[_Part]:
    return [_part(np.require(column, np.float64, "C"), axes) for column, axes in zip(columns, reduced, strict=True)]


def _part(column: Array, axes: tuple[int, ...]) -> _Part:
    mean = column.mean(axis=axes, keepdims=True)
    squares = np.square(column - mean).sum(axis=axes)
    return _Part(column.size // max(squares.size, 1), mean.reshape(squares.shape), squares)


def _joined(a: _Part, b: _Part) -> _Part:
    """The part of the rows of both: Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (1983), equation 2.1."""
    size, apart = a.size + b.size, b.mean - a.mean
    return _Part(size, a.mean + apart * (b.size / size), a.squares + b.squares + np.square(apart) * (a.size * b.size / size))
