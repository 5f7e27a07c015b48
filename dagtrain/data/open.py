"""The user's data, checked and opened: `open_source` turns arrays, tables and dask collections into a `Source`.

    NumPy, lists, pandas ──────▶ ArraySource    rows in this process, cut into partitions
    dask arrays, dataframes ───▶ ChunkedSource  one partition for each block of rows
    lists of delayed, futures ─▶ ChunkedSource  one partition for each element

Unfit data is an error here, before training begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.data.check import explain, inspect, make_form, read
from dagtrain.data.chunked import open_chunks
from dagtrain.data.parts import is_parts
from dagtrain.data.source import ArraySource, Source, partition_sizes, row_slices
from dagtrain.data.tables import to_array
from dagtrain.graph import Spec

__all__ = ["is_dask_data", "open_source"]


def open_source(
    x: Any,
    y: Any = None,
    *,
    targets: str | None,
    classes: int | None = None,
    dtype: Any = np.float32,
    keep_integers: bool = False,
    label_axes: int = 1,
    labels: Callable[[Spec], tuple[int | None, int]] | None = None,
) -> Source:
    """Check the user's data and open it for training.

    Parameters
    ----------
    x
        Samples along the first axis: NumPy array, list, pandas DataFrame or Series, dask array, dask DataFrame or Series; or partitions:
        a list of delayed values or of futures, each of an array or a table, of a pair ``(x, y)`` of them, or given in pairs
        ``[(x, y), ...]``. Unknown shapes and dtypes are computed on the workers.
    y
        One target for each sample, in any of these forms, not necessarily that of x; None to predict, or if x holds pairs.
    targets
        What the loss compares the outputs with: "classes" (one whole number a sample), "binary" (0 or 1, or a probability between),
        "signs" (-1 or +1), "distribution" (rows of probabilities), "like_outputs" (any numbers), "any" for a cost function that declares
        no kind, or None: "any", or no targets at all.
    classes
        Number of classes; labels are smaller.
    dtype
        Floating-point dtype of training, float32 or float64.
    keep_integers
        Keep integer features (for embeddings) instead of converting them to floats.
    label_axes
        Axes of class labels, the sample axis included: those of the model's outputs without the last one.
    labels
        Function from the spec of a row of x to `classes` and `label_axes`, if rows are unknown before the data is inspected.

    Returns
    -------
    Source
        Features are floats of ``dtype``. Class labels are int64, all other targets floats of ``dtype``, except that "any"
        keeps integer targets as int64.

    Raises
    ------
    DataError
        If lengths differ, data is empty, a dtype or shape cannot be used, labels are not whole numbers from 0 to below ``classes``, or an
        element is NaN or infinite; the message names the first such row, counted over all partitions.

    Examples
    --------
    >>> source = open_source([[1, 2], [3, 4], [5, 6]], [0, 1, 1], targets="classes", classes=2)
    >>> source.samples, str(source.columns.x), str(source.columns.y)
    (3, 'float32[2]', 'int64[]')
    >>> open_source([[1.0], [float("nan")]], [0, 1], targets="classes")
    Traceback (most recent call last):
    ...
    dagtrain.errors.DataError: x holds nan: row 1, column 0, counted from 0. Missing values are not guessed: ...
    """
    labels_of = labels if labels is not None else lambda row: (classes, label_axes)
    if is_dask_data(x) or is_dask_data(y):
        return open_chunks(x, y, targets=targets, labels=labels_of, dtype=dtype, keep_integers=keep_integers)
    (x, x_columns), (y, y_columns) = to_array("x", x), (None, ()) if y is None else to_array("y", y)
    headers = {"x": x_columns, "y": y_columns}
    form = make_form(x, y, headers, targets=targets, labels=labels_of, dtype=dtype, keep_integers=keep_integers)
    arrays = (x,) if y is None else (x, y)
    sizes = partition_sizes(len(x), form.columns.row_bytes)
    for i, rows in enumerate(row_slices(sizes)):
        finding = inspect(form, rows.stop - rows.start, *(column[rows] for column in arrays))
        if finding is not None:
            raise explain(form, finding, rows.start, i)
    return ArraySource(form, sizes, read(form, *arrays))


def is_dask_data(value: Any) -> bool:
    """Whether this is a dask collection, or a list of delayed values or futures."""
    if is_parts(value):
        return True
    if not hasattr(value, "__dask_graph__"):
        return False
    import dask

    return bool(dask.is_dask_collection(value))
