"""The columns of one partition of a table with text and gaps: what is seen in them, where the partition lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import is_number
from dagtrain.data.check import check_dtype, refuse_masked
from dagtrain.data.compute import block_key, compute, shared_graph
from dagtrain.data.exact import Sums, exact_sums
from dagtrain.data.nests import is_parts
from dagtrain.data.parts import Parts
from dagtrain.data.tables import is_table
from dagtrain.errors import DataError
from dagtrain.graph import Array

__all__ = ["Seen", "as_category", "as_numbers", "columns_of", "factorized", "over_partitions", "seen"]


class Seen(NamedTuple):
    """What is in a column of a partition.

    Attributes
    ----------
    rows, gaps
        How many rows there are, and how many have no value.
    unfit
        The first row with an infinite number, or one without a logarithm where that is asked for.
    sums
        Of the numbers; None for categories.
    counts
        Of the categories; None for numbers. Both are None for a column of objects that has gaps alone.
    """

    rows: int
    gaps: int
    unfit: int | None = None
    sums: Sums | None = None
    counts: dict[str | int, int] | None = None


def over_partitions(table: Any, function: Callable[[Any], Any]) -> list[Any]:
    """The values of a function of each partition, computed where they lie; a table in this process is one partition."""
    if not is_parts(table) and not hasattr(table, "__dask_graph__"):
        return [function(table)]
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    if is_parts(table) or is_table(table):
        parts = Parts.listed("the table", table) if is_parts(table) else Parts.of_frame("the table", table)
        graph, keys = parts.graph, parts.keys
    else:
        if getattr(table, "ndim", 0) != 2:
            raise DataError(f"the table is a {type(table).__name__} without columns: give a DataFrame, or an array (rows, columns).")
        blocks = table.rechunk({1: -1})
        graph, keys = shared_graph([blocks]), tuple(block_key(blocks, (i, 0)) for i in range(blocks.numblocks[0]))
    name = f"features-{tokenize(keys, function)}"
    tasks = {(name, i): Task((name, i), function, TaskRef(key)) for i, key in enumerate(keys)}
    return compute({**graph, **tasks}, list(tasks))


def columns_of(table: Any) -> dict[str, Any]:
    """The columns of a table or array in this process, by name."""
    if is_table(table):
        names = [str(name) for name in table.columns]
        if len(set(names)) < len(names):
            raise DataError("the table has two columns of one name: give each a name of its own.")
        return {name: table.iloc[:, i] for i, name in enumerate(names)}
    refuse_masked("the table", table)
    if isinstance(table, Mapping) or getattr(table, "ndim", 2) != 2 or not hasattr(table, "__len__") or np.ndim(table) != 2:
        raise DataError(f"the table is a {type(table).__name__} without columns: give a DataFrame, or an array (rows, columns).")
    return {str(i): column for i, column in enumerate(np.asarray(table).T)}


def seen(categories: tuple[str, ...], log: tuple[str, ...], table: Any) -> dict[str, Seen]:
    """What is in each column of a partition, or of the first one of a pair ``(table, y)``."""
    columns = columns_of(table[0] if isinstance(table, tuple) else table)
    return {name: _seen(name, column, name in categories, name in log) for name, column in columns.items()}


def _seen(name: str, column: Any, is_category: bool, log: bool) -> Seen:
    if is_category or (column.dtype.kind in "OUT" and _of_objects(column) is None):  # pandas' categories and text are objects too
        numbers, values = factorized(name, column)
        counts: dict[str | int, int] = {}
        for value, count in zip(values, np.bincount(numbers[numbers >= 0], minlength=len(values)).tolist(), strict=True):
            category = as_category(name, value)
            counts[category] = counts.get(category, 0) + count
        return Seen(len(numbers), int((numbers < 0).sum()), counts=counts or None)
    array = as_numbers(name, column)
    if column.dtype.kind == "O" and np.isnan(array).all():
        return Seen(len(array), len(array))
    unfit = np.flatnonzero(np.isinf(array) | (array <= -1) & log)
    if len(unfit):
        return Seen(len(array), 0, int(unfit[0]))
    there = array[~np.isnan(array)]
    there = np.log1p(there) if log else there
    return Seen(len(array), len(array) - len(there), sums=exact_sums(there[:, None]))


def as_numbers(name: str, column: Any) -> Array:
    """A column of numbers as float64, gaps as NaN."""
    title = f"column {name!r} of the table"
    kind = column.dtype.kind
    if (objects := _of_objects(column)) is not None:
        return objects
    if kind not in "biuf":
        if isinstance(column.dtype, np.dtype) and kind in "cmMV":
            check_dtype(title, column.dtype)
        if kind in "mM":
            check_dtype(title, np.dtype(f"{kind}8[ns]"), str(column.dtype))
        raise DataError(f"{title} has dtype {column.dtype}, and held numbers where the features were learnt.")
    if isinstance(column, np.ndarray):
        return column.astype(np.float64)
    numbers: Array = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def _of_objects(column: Any) -> Array | None:
    """A column of objects that are numbers, truth values or gaps, as one row of a table has them; None for any other column."""
    if column.dtype != np.dtype(object):
        return None
    import pandas as pd

    values = np.asarray(column)
    is_gap = pd.isna(values)
    if not all(is_number(value) or isinstance(value, bool | np.bool_) for value in values[~is_gap]):
        return None
    return np.where(is_gap, np.nan, values).astype(np.float64)


def factorized(name: str, column: Any) -> tuple[Array, list[Any]]:
    """The number of the value of each row, -1 for a gap; and the different values."""
    kind = column.dtype.kind
    if kind in "cmM":
        as_numbers(name, column)  # refuses it
    if isinstance(column, np.ndarray) and kind != "O":
        is_gap = np.isnan(column) if kind == "f" else np.zeros(len(column), bool)
        values, within = np.unique(column[~is_gap], return_inverse=True)
        numbers = np.full(len(column), -1)
        numbers[~is_gap] = within
        return numbers, values.tolist()
    import pandas as pd

    numbers, values = pd.factorize(column)
    return numbers, list(values)


def as_category(name: str, value: Any) -> str | int:
    """A value of a column of categories: text, or a whole number, as which truth values and floats without a fraction count too."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | int | np.bool_ | np.integer) or (isinstance(value, float | np.floating) and float(value).is_integer()):
        return int(value)
    kinds = "categories are text or whole numbers. .astype(str) makes text of it, .astype(float) numbers."
    raise DataError(f"column {name!r} of the table holds {value!r}: {kinds}")
