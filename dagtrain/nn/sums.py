"""Sums and weights: what losses, metrics and cost functions return, in the one form that adds up over shards.

one number           the mean over the rows             → (number * rows, rows)
values               one for each row or position       → (Σ w·value, Σ w)             w: sample weights, 1 without them
(values, weights)    values that are weighted already   → (Σ w·value, Σ w·weight)
(sum, weight)        of all rows                        → itself
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, NotScalarError, ShapeError
from dagtrain.graph import Tensor
from dagtrain.graph.walk import ancestors_of, topological
from dagtrain.nn.shapes import fitted_weights, wide
from dagtrain.nn.values import Values

__all__ = ["mean_of", "refuse_outer", "sum_and_weight"]


def mean_of(result: Any) -> Values:
    """The mean of what a loss returned."""
    if isinstance(result, tuple):
        total, weight, _ = sum_and_weight(result, np.shape(result[0])[0] if np.ndim(result[0]) else 1)
        return total / weight
    return np.mean(result)


def sum_and_weight(result: Any, rows: int, sample_weight: Values | None = None, *, average: bool = False) -> tuple[Values, Values, bool]:
    """What a loss, a metric or a cost function returned, as a sum and a weight that add up over shards.

    Parameters
    ----------
    result
        One number: a mean over the rows. Values whose first axis counts the rows. Or a pair: ``(sum, weight)`` of all rows, or
        ``(values, weights)`` of each, where the values are multiplied by the weights already.
    rows
        Number of rows.
    sample_weight
        A weight for each row, or for each position.
    average
        Average values behind the axes of the weights (or of the rows), instead of counting each.

    Returns
    -------
    tuple
        The sum, the weight, and whether the result was one number.

    Raises
    ------
    NotScalarError
        If the result is none of these.
    ArgumentError
        If sample weights are given for a result that is summed already.

    Examples
    --------
    >>> sum_and_weight(np.array([1.0, 4.0]), 2)
    (np.float64(5.0), 2.0, False)
    >>> sum_and_weight(2.5, 2)
    (5.0, 2.0, True)
    >>> sum_and_weight(np.array([1.0, 4.0]), 2, np.array([True, False]))
    (np.float64(1.0), np.int64(1), False)
    """
    pair = isinstance(result, tuple) and len(result) == 2
    values, own = result if pair else (result, None)
    if not all(map(_numeric, result if pair else (result,))) or (pair and np.shape(result[0]) != np.shape(result[1])):
        raise NotScalarError(
            f"a cost is one number for a batch (the mean over its samples), one value a sample, or a pair (sum, weight), got {result!r}."
        )
    shape = np.shape(values)
    if not shape:
        if sample_weight is not None:
            way = "multiply by the weights in the function, and return (sum, sum of the weights)" if pair else "return one value a sample"
            raise ArgumentError(
                f"sample_weight or class_weight cannot weigh what is {'summed' if pair else 'one number for the batch'} already: {way}."
            )
        return (values, own, False) if pair else (values * rows, float(rows), True)
    if shape[0] != rows:
        raise NotScalarError(
            f"the cost must be one number for a batch, or one value for each of its {rows} samples, got shape {shape}. "
            "Reduce it over the samples with np.mean."
        )
    values = wide(values)
    if sample_weight is None:
        count = math.prod(shape[1:]) if average and own is None else 1
        total = np.sum(values)
        return total / count if count > 1 else total, float(math.prod(shape) // count) if own is None else np.sum(own), False
    weights = fitted_weights(sample_weight, shape)
    spread = weights.reshape((*weights.shape, *(1,) * (len(shape) - weights.ndim)))
    total = np.sum(values * (spread if values.dtype.kind != "f" or spread.dtype == values.dtype else spread.astype(values.dtype)))
    behind = math.prod(shape[weights.ndim :])
    if own is not None:
        return total, np.sum(own * (spread.astype(own.dtype) if own.dtype.kind == "f" else spread)), False
    weight = np.sum(weights)
    if behind == 1:
        return total, weight, False
    return (total / behind, weight, False) if average else (total, weight * behind, False)


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float | np.generic | np.ndarray | Tensor)


def refuse_outer(result: Any, rows: int, columns: Sequence[Any]) -> None:
    """Refuse ``(n, 1)`` against ``(n,)``, which NumPy broadcasts to ``(n, n)``: each sample against every other.

    Parameters
    ----------
    result
        What a function of the user returned: a tensor, or a tuple of tensors.
    rows
        Number of rows.
    columns
        Tensors that hold the rows, such as outputs and targets; only what depends on them counts.

    Raises
    ------
    ShapeError
        If an op combines such a pair; names the user's line.
    """
    if rows == 1:
        return
    order = topological(t for t in (result if isinstance(result, tuple) else (result,)) if isinstance(t, Tensor))
    dependent = ancestors_of((c for c in columns if isinstance(c, Tensor)), order)
    for node in order:
        if node.shape == (rows, rows) and {(rows, 1), (rows,)} <= {source.shape for source in node.inputs if source in dependent}:
            raise ShapeError(
                f"shapes ({rows}, 1) and ({rows},) of {rows} samples broadcast to ({rows}, {rows}), each sample against every other "
                f"({node.origin}). Take the only column first, as in outputs[:, 0]."
            )
