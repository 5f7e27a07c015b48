"""The user's data, checked and opened: `open_source` takes arrays, tables and dask collections and gives a `Source`.

    NumPy, lists, pandas ──────▶ ArraySource    rows in this process, cut into partitions of at most 4 MB
    dask arrays, dataframes ───▶ ChunkedSource  one partition for each block of rows, wherever it is computed
    lists of delayed, futures ─▶ ChunkedSource  one partition for each of them

Both have the same face. Whatever is wrong with the data is an error here, before anything is trained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from dagtrain.data.check import Form, check_dtype, explain, inspect, make_form, read
from dagtrain.data.pick import Partition
from dagtrain.errors import DataError
from dagtrain.graph import Array, Spec

__all__ = ["PARTITION_BYTES", "ArraySource", "Source", "lies_elsewhere", "open_source"]

PARTITION_BYTES = 4 << 20
"""Rows of arrays in this process are handed out in partitions of at most so many bytes (or of one row, where a row is larger)."""


@dataclass(frozen=True, eq=False)
class Source(ABC):
    """Data that passed every check, cut into partitions of rows.

    Attributes
    ----------
    form
        Specs of the rows and what was checked.
    sizes
        Rows of each partition; partitions without rows are left out.
    """

    form: Form
    sizes: tuple[int, ...]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(self.sizes)

    @property
    def x_spec(self) -> Spec:
        """Shape (without the sample axis) and dtype of a row of x as used in training."""
        return self.form.x

    @property
    def y_spec(self) -> Spec | None:
        """The same for y; None where there is no y."""
        return self.form.y

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of x and y in training."""
        return self.form.row_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of all rows in training."""
        return self.samples * self.row_bytes

    @property
    @abstractmethod
    def in_memory(self) -> bool:
        """Whether the whole is in this process, so that `local` costs nothing."""

    @property
    @abstractmethod
    def resident(self) -> bool:
        """Whether every partition already lies on a cluster, persisted or as a future, so that nothing is computed to get it."""

    @property
    @abstractmethod
    def origins(self) -> tuple[tuple[Any, ...], ...]:
        """For each partition, the keys of the futures that it is computed from; where these lie, it costs least."""

    @abstractmethod
    def local(self) -> Partition:
        """The whole of x and y in this process; computed once."""

    @abstractmethod
    def tasks(self) -> tuple[dict[Any, Any], list[tuple[str, int]]]:
        """A Dask graph, and the keys in it that compute to the (x, y) of each partition."""


@dataclass(frozen=True, eq=False)
class ArraySource(Source):
    """Arrays in this process, in the dtypes of training."""

    x: Array
    y: Array | None

    @property
    def in_memory(self) -> bool:
        """True."""
        return True

    @property
    def resident(self) -> bool:
        """False: the rows are in this process."""
        return False

    @property
    def origins(self) -> tuple[tuple[Any, ...], ...]:
        """No futures for any partition."""
        return ((),) * len(self.sizes)

    def local(self) -> Partition:
        """The arrays themselves."""
        return self.x, self.y

    def tasks(self) -> tuple[dict[Any, Any], list[tuple[str, int]]]:
        """A data node for each partition: the graph holds the rows, so a partition lost with its worker comes back from it."""
        from dask.task_spec import DataNode
        from dask.tokenize import tokenize

        name = f"data-{tokenize(self.x, self.y)}"
        graph = {}
        for i, rows in enumerate(row_slices(self.sizes)):
            graph[name, i] = DataNode((name, i), (self.x[rows], None if self.y is None else self.y[rows]))
        return graph, list(graph)


def partition_sizes(samples: int, row_bytes: int) -> tuple[int, ...]:
    """Rows of each partition, as many as fit, the last one what is left.

    Examples
    --------
    >>> partition_sizes(5, row_bytes=PARTITION_BYTES // 2)
    (2, 2, 1)
    """
    most = max(1, PARTITION_BYTES // row_bytes)
    full, left = divmod(samples, most)
    return (most,) * full + ((left,) if left else ())


def row_slices(sizes: tuple[int, ...]) -> Iterator[slice]:
    """The rows of each partition in the whole."""
    ends = list(accumulate(sizes, initial=0))
    return (slice(a, b) for a, b in pairwise(ends))


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
        ``[(x, y), ...]``. What is not known of partitions is computed, where they lie.
    y
        One target for each sample, in any of these forms and not necessarily in the same one as x; None to predict, or where x holds pairs.
    targets
        What the loss compares the outputs with: "classes" (one whole number a sample), "binary" (0 or 1, or a probability between),
        "signs" (-1 or +1), "distribution" (rows of probabilities), "like_outputs" (any numbers), "any" where nothing is known of the cost
        function, or None, which is "any" or no targets at all.
    classes
        Number of classes; labels lie below it.
    dtype
        Floating-point dtype of training, float32 or float64.
    keep_integers
        Keep integer features as they are (for embeddings) instead of making floats of them.
    label_axes
        Axes of class labels, the sample axis included: those of the model's outputs without the last one.
    labels
        Gives `classes` and `label_axes` from the spec of a row of x, which may be known only once the data is looked at.

    Returns
    -------
    Source
        Features are floats of ``dtype``. Class labels are int64, all other targets floats of ``dtype``; with nothing known,
        integer targets are int64.

    Raises
    ------
    DataError
        Lengths differ, data is empty, a dtype or shape cannot be used, labels are not whole numbers from 0 to below ``classes``, or
        there is NaN or infinity; the message names the first such row, counted over all partitions.

    Examples
    --------
    >>> source = open_source([[1, 2], [3, 4], [5, 6]], [0, 1, 1], targets="classes", classes=2)
    >>> source.samples, str(source.x_spec), str(source.y_spec)
    (3, 'float32[2]', 'int64[]')
    >>> open_source([[1.0], [float("nan")]], [0, 1], targets="classes")
    Traceback (most recent call last):
    ...
    dagtrain.errors.DataError: x holds nan: row 1, column 0, counted from 0. Missing values are not guessed: ...
    """
    told = labels if labels is not None else lambda row: (classes, label_axes)
    if lies_elsewhere(x) or lies_elsewhere(y):
        from dagtrain.data.chunked import open_chunks

        return open_chunks(x, y, targets=targets, labels=told, dtype=dtype, keep_integers=keep_integers)
    (x, x_columns), (y, y_columns) = to_array("x", x), (None, ()) if y is None else to_array("y", y)
    form = make_form(x, y, (x_columns, y_columns), targets=targets, labels=told, dtype=dtype, keep_integers=keep_integers)
    sizes = partition_sizes(len(x), form.row_bytes)
    for i, rows in enumerate(row_slices(sizes)):
        finding = inspect(form, x[rows], None if y is None else y[rows], rows.stop - rows.start)
        if finding is not None:
            raise explain(form, finding, rows.start, i)
    return ArraySource(form, sizes, *read(form, x, y))


def lies_elsewhere(value: Any) -> bool:
    """Whether this is a dask collection, or partitions as delayed values or futures."""
    from dagtrain.data.parts import is_parts

    if is_parts(value):
        return True
    if not hasattr(value, "__dask_graph__"):
        return False
    import dask

    return bool(dask.is_dask_collection(value))


def to_array(name: str, value: Any) -> tuple[Array, tuple[str, ...]]:
    """The array of what the user gave, and the names of its columns where it is a table."""
    pandas = type(value).__module__.partition(".")[0] == "pandas"
    if pandas and hasattr(value, "columns"):
        common = check_table(name, value)
        return value.to_numpy(dtype=common, na_value=np.nan), tuple(map(str, value.columns))
    if pandas:
        common = numpy_dtype(name, value.dtype)
        return value.to_numpy(dtype=common, na_value=np.nan if common.kind == "f" else None), ()
    if isinstance(value, dict | set | str | bytes) or hasattr(value, "toarray"):
        advice = " Make it dense with .toarray()." if hasattr(value, "toarray") else ""
        raise DataError(f"{name} is a {type(value).__name__}, not an array or a table of numbers.{advice}")
    if isinstance(value, list | tuple) and any(hasattr(part, "__dask_graph__") for part in value):
        raise DataError(f"{name} is a list of dask arrays or the like, which would be computed here. Join them: dask.array.concatenate.")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DataError(
            f"{name} is a masked array with masked elements. Missing values are not guessed: fill them with .filled(...) or drop such rows."
        )
    try:
        return np.asarray(value), ()
    except (TypeError, ValueError) as error:
        cure = " Give every sample the same length, by padding or cutting." if "inhomogeneous" in str(error) else ""
        raise DataError(f"{name} ({type(value).__name__}) cannot be made an array: {error}{cure}") from error


def check_table(name: str, table: Any) -> np.dtype[Any]:
    """The dtype that all columns of a table (pandas or dask) fit in; a column without numbers is an error that names it."""
    if not len(table.columns):
        raise DataError(f"{name} is empty: the table has no columns.")
    return np.result_type(
        *(numpy_dtype(f"column {str(column)!r} of {name}", kind) for column, kind in zip(table.columns, table.dtypes, strict=True))
    )


def numpy_dtype(name: str, dtype: Any) -> np.dtype[Any]:
    """NumPy's dtype for that of a pandas column; nullable columns become floats, in which a missing value is NaN."""
    if isinstance(dtype, np.dtype):
        check_dtype(name, dtype)
        return dtype
    kind = getattr(dtype, "kind", "O")
    if type(dtype).__name__ == "CategoricalDtype" or kind not in "biuf":
        raise DataError(
            f"{name} has dtype {dtype}, but training computes with real numbers. Number its values, for example with .cat.codes "
            "(in dask, .cat.as_known().cat.codes)."
        )
    return np.dtype(np.float64)
