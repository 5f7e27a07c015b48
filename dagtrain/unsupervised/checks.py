"""Checks that machines and autoencoders share: rows that are computed in this process, and arguments of a further fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.data.check import check_dtype
from dagtrain.data.tables import to_array
from dagtrain.errors import ArgumentError, DataError, ShapeError
from dagtrain.graph import Array

__all__ = ["refuse_changes", "rows_of"]


def rows_of(x: Any, shape: tuple[int, ...] | None = None) -> Array:
    """Rows in this process as an array of finite numbers; of this shape, if one is given."""
    rows = to_array("x", x)
    check_dtype("x", rows.dtype)
    if rows.ndim == 0 or (shape is not None and rows.shape[1:] != shape):
        alone = " One row alone is x[None]." if rows.shape == shape else ""
        raise ShapeError(f"rows have the shape {shape}, as in training, got x of shape {rows.shape}.{alone}")
    if not len(rows):
        raise DataError(f"x is empty: its shape is {rows.shape}.")
    if not (finite := np.isfinite(rows).reshape(len(rows), -1).all(axis=1)).all():
        raise DataError(f"x is not finite: row {int(np.argmin(finite))}, counted from 0.")
    return rows


def refuse_changes(first: dict[str, Any], **later: tuple[Any, Any]) -> None:
    """ArgumentError for an argument of a later fit that is neither that of the first one nor the default."""
    for name, (value, default) in later.items():
        if value not in (first[name], default):
            raise ArgumentError(f"a further fit goes on with {name}={first[name]!r}, and {value!r} comes too late: begin anew for that.")
