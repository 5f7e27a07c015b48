"""Rows of different lengths as one array, and their lengths and masks as columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array
from dagtrain.hinting import hinted

__all__ = ["mask_of", "pad"]


@hinted
def pad(sequences: Sequence[Any], length: int | None = None, value: float = 0, *, cut: bool = False) -> tuple[Array, Array]:
    """Sequences of different lengths as rows of one array, filled up at their ends, and their lengths.

    Parameters
    ----------
    sequences
        Arrays of shape (time, ...), which differ in `time` alone.
    length
        Positions in a row; by default those of the longest sequence.
    value
        What stands behind the end of a sequence.
    cut
        Whether what is longer is cut off at the end; else it is an error.

    Returns
    -------
    rows, lengths
        The array of shape (sequences, length, ...) and dtype of the sequences, and int32 of shape (sequences,).

    Raises
    ------
    DataError
        If a sequence is longer than `length`, or the sequences differ in shape or dtype.

    Examples
    --------
    >>> rows, lengths = pad([[5, 6], [7], [8, 9, 4]])
    >>> rows, lengths
    (array([[5, 6, 0],
           [7, 0, 0],
           [8, 9, 4]]), array([2, 1, 3], dtype=int32))
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise DataError("pad: there are no sequences.")
    kinds = {(a.shape[1:], a.dtype if a.size else None) if a.ndim else None for a in arrays}
    shapes = {kind[0] for kind in kinds if kind is not None}
    dtypes = {kind[1] for kind in kinds if kind is not None} - {None}
    if None in kinds or len(shapes) > 1 or len(dtypes) > 1:
        forms = sorted({f"{a.dtype} of shape {a.shape}" for a in arrays})
        raise DataError(f"pad: sequences have the shape (time, ...) and differ in time alone, got {', '.join(forms[:4])}.")
    lengths = np.array([len(a) for a in arrays], np.int32)
    most = int(lengths.max()) if length is None else whole("pad: length", length)
    if not cut and (lengths > most).any():
        row = int(np.argmax(lengths))
        raise DataError(f"pad: sequence {row} has {lengths[row]} positions, more than length={most}. Set a larger length, or cut=True.")
    dtype: Any = next(iter(dtypes), arrays[0].dtype)
    if dtype.kind in "biu" and (not math.isfinite(value) or int(value) != value or np.asarray(int(value)).astype(dtype) != value):
        raise DataError(f"pad: value={value!r} is no number of the sequences' dtype {dtype}: convert them with .astype(np.float32).")
    rows = np.full((len(arrays), most, *shapes.pop()), value, dtype)
    for row, array in zip(rows, arrays, strict=True):
        row[: len(array)] = array[:most]
    return rows, np.minimum(lengths, most, dtype=np.int32)


def mask_of(lengths: Any, length: int) -> Array:
    """Which positions of rows are within their lengths, as a column of truth values of shape (rows, length).

    Examples
    --------
    >>> mask_of([2, 0, 3], 3)
    array([[ True,  True, False],
           [False, False, False],
           [ True,  True,  True]])
    """
    whole("mask_of: length", length)
    positions = np.asarray(lengths)
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        raise ArgumentError(f"mask_of takes whole numbers, one for each row, got {positions.dtype} of shape {positions.shape}.")
    if positions.size and not 0 <= positions.min() <= positions.max() <= length:
        raise ArgumentError(f"mask_of: lengths are from 0 to length={length}, got {positions.min()} to {positions.max()}.")
    mask: Array = np.arange(length) < positions[:, None]
    return mask
