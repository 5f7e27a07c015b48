"""Sums without rounding: the same for any partitions, in any order.

    numbers  ──▶  the parts above a coarse grid, whose sum is exact  ──▶  a float  ─┐
      └─ rest ──▶  the parts above a finer grid, …                   ──▶  a float  ─┴─  together they are the sum

The floats of all partitions stand beside each other until the end; then fractions give mean and variance, each rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from dagtrain.errors import DataError
from dagtrain.graph import Array

__all__ = ["Sums", "exact_sums", "joined", "mean_and_variance"]

_LARGEST = 2.0**480
"""Numbers above it have no sum of squares in float64."""
_ROWS, _BYTES = 4096, 1 << 15
"""Most rows of which sums are taken at once, and most bytes: they stay in the processor's cache."""
_SPLIT = 2.0**27 + 1


class Sums(NamedTuple):
    """Of some rows, by columns.

    Attributes
    ----------
    rows
        How many they are.
    largest
        The largest absolute value.
    numbers, squares
        Floats (columns, terms) that together are the sum of the numbers, and of their squares.
    """

    rows: int
    largest: float
    numbers: Array
    squares: Array


def exact_sums(x: Array) -> Sums:
    """The sums of the rows of an array (rows, columns); they are empty if a number is NaN, infinite or too large to be squared."""
    largest = float(np.abs(x).max(initial=0)) if x.dtype.kind == "f" else 0.0
    step = max(1, min(_ROWS, _BYTES // max(8 * x.shape[1], 1)))
    starts = range(0, len(x) if largest < _LARGEST else 0, step)
    nothing = Sums(len(x), largest, *(np.zeros((x.shape[1], 0)),) * 2)
    return joined([nothing, *(_sums(np.array(x[i : i + step].T, np.float64, order="C")) for i in starts)])


def joined(parts: Sequence[Sums]) -> Sums:
    """The sums of the rows of all parts."""
    rows, largest, numbers, squares = zip(*parts, strict=True)
    return Sums(sum(rows), max(largest), _terms(np.concatenate(numbers, axis=1)), _terms(np.concatenate(squares, axis=1)))


def mean_and_variance(name: str, sums: Sums) -> tuple[Array, Array]:
    """Mean and variance of each column, rounded to float64 once.

    Raises
    ------
    DataError
        If a number is too large to be squared.
    """
    if not sums.largest < _LARGEST:
        raise DataError(f"{name} holds a number of absolute value {sums.largest:g}, whose square is none in float64. Scale the numbers.")
    mean, variance = np.zeros((2, len(sums.numbers)))
    for i, (numbers, squares) in enumerate(zip(sums.numbers.tolist(), sums.squares.tolist(), strict=True)):
        first, second = sum(map(Fraction, numbers), Fraction()) / sums.rows, sum(map(Fraction, squares), Fraction()) / sums.rows
        mean[i], variance[i] = float(first), float(max(second - first * first, Fraction()))
    return mean, variance


def _sums(x: Array) -> Sums:
    square, wide = x * x, _SPLIT * x
    high = wide - (wide - x)  # Dekker, "A floating-point technique for extending the available precision" (1971): square + error is exact
    low = x - high
    error = ((high * high - square) + 2 * high * low) + low * low
    return Sums(0, 0.0, _terms(x), np.concatenate([_terms(square), _terms(error)], axis=1))


def _terms(x: Array) -> Array:
    """Floats (columns, terms) whose sum is exactly that of x (columns, numbers).

    Source: Rump, Ogita and Oishi, "Accurate floating-point summation" (2008), algorithm 3.2.
    """
    terms = []
    bits = (x.shape[1] + 1).bit_length()
    while (largest := np.maximum(x.max(axis=1, initial=0.0), -x.min(axis=1, initial=0.0))).any():
        grid = np.ldexp(1.0, np.frexp(largest)[1] + bits)[:, None]
        above = (x + grid) - grid
        terms.append(above.sum(axis=1))
        x = x - above
    return np.stack(terms, axis=1) if terms else np.zeros((len(x), 0))
