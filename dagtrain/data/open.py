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

from dagtrain.data.check import Labels, Targets, explain, inspect, make_form, read
from dagtrain.data.chunked import check_indexes, lazy_columns, open_chunks
from dagtrain.data.columns import Columns
from dagtrain.data.nests import ROOTS, arrange, is_parts, roots_of, take_apart
from dagtrain.data.parts import Column
from dagtrain.data.source import ArraySource, Source, partition_sizes, row_slices
from dagtrain.data.tables import aligned, header_of, to_array
from dagtrain.errors import DataError
from dagtrain.trace.tree import Structure, flatten, names, unflatten

__all__ = ["is_dask_data", "open_source"]


def open_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    targets: Targets,
    classes: int | None = None,
    dtype: Any = np.float32,
    label_axes: int = 1,
    labels: Callable[[Any], Labels] | None = None,
    expected: Columns | None = None,
    check: bool = True,
) -> Source:
    """Check the user's data and open it for training.

    Parameters
    ----------
    x
        Samples along the first axis: NumPy array, list, pandas DataFrame or Series, dask array, dask DataFrame or Series; or partitions:
        a list of delayed values or of futures, each of an array or a table, of a pair ``(x, y)`` of them, or given in pairs
        ``[(x, y), ...]``. Unknown shapes and dtypes are computed on the workers. Or a tuple or dict of these, nested as you like.
    y
        One target for each sample, in any of these forms, not necessarily that of x; None to predict, or if x holds pairs.
    sample_weight
        One number from 0 up for each sample, or for each position of y; None without weights.
    targets
        What the loss compares the outputs with: "classes" (one whole number a sample), "binary" (0 or 1, or a probability between),
        "signs" (-1 or +1), "distribution" (rows of probabilities), "like_outputs" (any numbers), "any" for a cost function that declares
        no kind, or None: "any", or no targets at all. For losses of several outputs, one for each by the name of its column of y.
    classes
        Number of classes; labels are smaller.
    dtype
        Floating-point dtype of training, float32 or float64.
    label_axes
        Axes of class labels, the sample axis included: those of the model's outputs without the last one.
    labels
        Function from the spec (or specs) of a row of x to `classes` and `label_axes` (or to those of each column of y), if rows are
        unknown before the data is inspected.
    expected
        Columns of a trainer: dicts and tables are put in their order, and refused if they have other names.
    check
        Whether the elements of dask collections are checked now; else the caller calls `ChunkedSource.check`.

    Returns
    -------
    Source
        Integers and booleans in x, and in y of "any" kind, keep their dtype, and floats have ``dtype``. Class labels are int64, all other
        targets and the weights floats of ``dtype``.

    Raises
    ------
    DataError
        If lengths or names differ, data is empty, a dtype or shape cannot be used, labels are not whole numbers from 0 to below
        ``classes``, or an element is NaN, infinite or masked; the message names the first such row, counted over all partitions.

    Examples
    --------
    >>> source = open_source([[1, 2], [3, 4], [5, 6]], [0, 1, 1], targets="classes", classes=2)
    >>> source.samples, str(source.columns.x), str(source.columns.y)
    (3, 'int64[2]', 'int64[]')
    >>> open_source([[1.0], [float("nan")]], [0, 1], targets="classes")
    Traceback (most recent call last):
    ...
    dagtrain.errors.DataError: x holds nan: row 1, column 0, counted from 0. Missing values are not guessed: ...
    """
    labels_of = labels if labels is not None else lambda row: (classes, label_axes)
    columns, structure = open_columns(roots_of(x, y, sample_weight), expected)
    headers = {name: column.header for name, column in columns.items()}
    arrays = {name: column.array for name, column in columns.items()}
    try:
        form = make_form(arrays, structure, headers, targets=targets, labels=labels_of, dtype=dtype, expected=expected)
    except DataError as error:
        if isinstance(x, list) and x and all(isinstance(part, np.ndarray) for part in x):
            raise DataError(f"{error} x is a list, so its arrays are samples: give several inputs as a tuple or a dict.") from None
        raise
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        return open_chunks(form, list(arrays.values()), check)
    flat = list(arrays.values())
    sizes = partition_sizes(len(flat[0]), form.columns.row_bytes)
    for i, rows in enumerate(row_slices(sizes)):
        finding = inspect(form, rows.stop - rows.start, *(column[rows] for column in flat))
        if finding is not None:
            raise explain(form, finding, rows.start, i)
    return ArraySource(form, sizes, read(form, *flat))


def open_columns(roots: dict[str, Any], expected: Columns | None) -> tuple[dict[str, Column], dict[str, Structure]]:
    """The columns of these nests by name, and the nests' structure, in the order of the expected ones.

    Arrays are NumPy arrays, or dask arrays of known chunk sizes.
    """
    order = {} if expected is None else dict(zip(ROOTS, expected.structure, strict=True))
    headers = {} if expected is None else dict(zip(expected.names, expected.headers, strict=True))
    values, structure = take_apart({root: arrange(root, nest, order.get(root)) for root, nest in roots.items()})
    values = aligned(values)
    if any(map(is_dask_data, values.values())):
        nests = lazy_columns(values, headers)
        filled = {root: unflatten(part, [nests.pop(name) for name in names(part, root)]) for root, part in structure.items()} | nests
        columns, structure = flatten({root: arrange(root, filled[root], order.get(root)) for root in ROOTS if root in filled})
        check_indexes(columns)
        return columns, structure
    local = {
        name: Column(to_array(name, value, headers.get(name, ())), headers.get(name) or header_of(value)) for name, value in values.items()
    }
    return local, structure


def is_dask_data(value: Any) -> bool:
    """Whether this is a dask collection, or a list of delayed values or futures."""
    if is_parts(value):
        return True
    if not hasattr(value, "__dask_graph__"):
        return False
    import dask

    return bool(dask.is_dask_collection(value))
