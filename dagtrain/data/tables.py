"""Arrays and tables of any library as NumPy arrays, or an error that says why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dagtrain.data.check import check_dtype, refuse_masked
from dagtrain.data.nests import ROOTS, check_names
from dagtrain.errors import DataError
from dagtrain.graph import Array

__all__ = ["aligned", "check_table", "header_of", "index_digest", "is_table", "joined_digest", "numpy_dtype", "to_array"]

TEXT = "np.unique(labels, return_inverse=True)[1] (in dask, .astype('category').cat.as_known().cat.codes)"
"""How to number labels that are text."""
BASE = np.uint64(0x9E3779B97F4A7C15)
"""Of the polynomial that digests an index; odd, so that no row loses its part."""


def is_pandas(value: Any) -> bool:
    """Whether this is a DataFrame, a Series or an index of pandas."""
    return type(value).__module__.partition(".")[0] == "pandas"


def is_table(value: Any) -> bool:
    """Whether this is a DataFrame of pandas or dask."""
    return hasattr(value, "columns") and getattr(value, "ndim", 0) == 2


def header_of(table: Any) -> tuple[str, ...]:
    """The names of a table's columns; empty for anything else."""
    return tuple(map(str, table.columns)) if is_pandas(table) and is_table(table) else ()


def in_order(name: str, table: Any, header: Sequence[str]) -> Any:
    """A table with its columns in the order of these names; DataError if it has others."""
    here = header_of(table)
    check_names(name, here, header or here)
    if not header or here == tuple(header):
        return table
    return table.iloc[:, [here.index(column) for column in header]]


def to_array(name: str, value: Any, header: Sequence[str] = ()) -> Array:
    """The user's value as an array; a table with its columns in the order of the header, if there is one."""
    if is_pandas(value) and is_table(value):
        table = in_order(name, value, header)
        common = check_table(name, table)
        return table.to_numpy(dtype=common, na_value=np.nan)  # type: ignore[no-any-return]  # pandas is not typed
    if is_pandas(value):
        common = numpy_dtype(name, value.dtype)
        return value.to_numpy(dtype=common, na_value=np.nan if common.kind == "f" else None)  # type: ignore[no-any-return]  # likewise
    if value is None:
        raise DataError(f"{name} is None: give an array or a table of numbers.")
    if isinstance(value, dict | set | str | bytes) or hasattr(value, "toarray") or hasattr(value, "__next__"):
        advice = " Make it dense with .toarray()." if hasattr(value, "toarray") else ""
        if hasattr(value, "__next__"):
            advice = " Give its parts as a list of delayed calls that load them, as in [dask.delayed(load)(path) for path in paths]."
        raise DataError(f"{name} is a {type(value).__name__}, not an array or a table of numbers.{advice}")
    if isinstance(value, list | tuple) and any(hasattr(part, "__dask_graph__") for part in value):
        raise DataError(
            f"{name} is a list of dask arrays or the like, which would be computed here. Join them with dask.array.concatenate."
        )
    refuse_masked(name, value)
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        cure = " Give every sample the same length, by padding or cutting." if "inhomogeneous" in str(error) else ""
        if cure and isinstance(value, list) and any(getattr(part, "ndim", 0) for part in value):
            cure = " A list is one array of samples; give several arrays as a tuple or a dict."
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
    if kind == "M":
        check_dtype(name, np.dtype("M8[ns]"), str(dtype))
    is_category = type(dtype).__name__ == "CategoricalDtype"
    if is_category or kind not in "biuf":
        numbers = ".cat.codes (in dask, .cat.as_known().cat.codes)" if is_category else TEXT
        raise DataError(
            f"{name} has dtype {dtype}, but training computes with real numbers. For a table with categories, begin the model with "
            f"nn.FeatureEmbedding(dt.data.Features.learn(table)); for labels, number them with {numbers}."
        )
    return np.dtype(np.float64)


def aligned(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns with the rows of every table and Series in the order of the first one's index; DataError if the labels differ.

    The first one is that of x, by name: a dict may have its keys in any order.
    """
    tables = {name: value for name, value in columns.items() if is_pandas(value) and hasattr(value, "index")}
    first = min(tables, key=lambda name: (ROOTS.index(name.partition(".")[0]), name), default="")
    without = next((name for name in columns if name not in tables), None)
    moved = {}
    for name, value in tables.items():
        index, expected = value.index, tables[first].index
        if len(index) != len(expected) or index.equals(expected):
            continue  # another length is an error of its own
        if not (index.is_unique and expected.is_unique and len(index.union(expected)) == len(index)):
            raise DataError(index_fault(first, name))
        if without is not None:
            raise DataError(
                f"{first} and {name} have their rows in different orders, and {without} has no index here, so it is not known which order "
                "it follows. Put the tables in one order, as in y.loc[x.index], or give every column an index."
            )
        moved[name] = value.loc[expected]
    return {**columns, **moved}


def index_fault(first: str, second: str) -> str:
    """The message for two tables whose rows have other labels."""
    return (
        f"{first} and {second} have different indexes, so it is not known which rows belong together. If they correspond by position, "
        "give both the same index with .reset_index(drop=True), or arrays with .to_numpy() (in dask, .to_dask_array(lengths=True))."
    )


def index_digest(value: Any) -> int | None:
    """A digest of the index of a table or Series; None for anything else."""
    if not is_pandas(value) or not hasattr(value, "index"):
        return None
    from pandas.util import hash_pandas_object

    labels = hash_pandas_object(value.index, index=False).to_numpy()
    powers = np.multiply.accumulate(np.full(len(labels), BASE, np.uint64))  # modulo 2**64, as all that follows
    return int((labels * powers[::-1]).sum(dtype=np.uint64))


def joined_digest(digests: Sequence[int | None], rows: Sequence[int]) -> int | None:
    """The digest of the index of all partitions, whatever their cuts; None if one has no index."""
    whole = 0
    for digest, count in zip(digests, rows, strict=True):
        if digest is None:
            return None
        whole = (whole * pow(int(BASE), count, 1 << 64) + digest) % (1 << 64)
    return whole
