"""The rows of a series: its form, and what must hold of it before anything is learnt or judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.data.check import check_dtype
from dagtrain.data.tables import to_array
from dagtrain.errors import DataError, ShapeError
from dagtrain.graph import Array

__all__ = ["finite", "opened"]


def opened(series: Any, header: Sequence[str] = ()) -> Any:
    """Rows and channels as a NumPy or dask array; the columns of a table in the order of the header."""
    if hasattr(series, "to_dask_array"):
        raise DataError("a series of dask is an array of known length: give series.to_dask_array(lengths=True).")
    array = series if hasattr(series, "__dask_graph__") else to_array("the series", series, header)
    if array.ndim != 2:
        hint = " Of one channel it is series[:, None]." if array.ndim == 1 else ""
        raise ShapeError(f"a series is an array of rows and channels, got the shape {array.shape}.{hint}")
    check_dtype("the series", array.dtype)
    if np.isnan(array.shape[0]):
        raise DataError("the blocks of the series have unknown lengths: call .compute_chunk_sizes() first.")
    return array


def finite(rows: Array, first: int = 0) -> Array:
    """The rows, of which the first has this number in the series; DataError if one is not finite."""
    if not (known := np.isfinite(rows).all(axis=1)).all():
        raise DataError(f"row {first + int(np.argmin(known))} of the series is not finite: fill its gaps, or call the row anomalous.")
    return rows
