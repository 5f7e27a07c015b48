"""Arrays and tables of any library as NumPy arrays, or an error that says why not."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.data.check import check_dtype
from dagtrain.errors import DataError
from dagtrain.graph import Array

__all__ = ["check_table", "numpy_dtype", "to_array"]


def to_array(name: str, value: Any) -> tuple[Array, tuple[str, ...]]:
    """The user's value as an array, and the names of its columns if it is a table."""
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
        raise DataError(
            f"{name} is a list of dask arrays or the like, which would be computed here. Join them with dask.array.concatenate."
        )
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DataError(
            f"{name} is a masked array with masked elements. Missing values are not guessed: fill them with .filled(...) or drop such rows."
        )
    try:
        return np.asarray(value), ()
    except (TypeError, ValueError) as error:
        cure = " Give every sample the same length, by padding or cutting." if "inhomogeneous" in str(error) else ""
        raise DataError(f"{name} ({type(value).__name__}) cannot become an array: {error}{cure}") from error


def check_table(name: str, table: Any) -> np.dtype[Any]:
    """The common dtype of the columns of a table (pandas or dask); a column without numbers is an error that names it."""
    if not len(table.columns):
        raise DataError(f"{name} is empty: the table has no columns.")
    return np.result_type(
        *(numpy_dtype(f"column {str(column)!r} of {name}", kind) for column, kind in zip(table.columns, table.dtypes, strict=True))
    )


def numpy_dtype(name: str, dtype: Any) -> np.dtype[Any]:
    """NumPy's dtype for a pandas column; nullable columns become floats, with NaN for missing values."""
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
