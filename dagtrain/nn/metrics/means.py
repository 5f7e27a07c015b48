"""Metrics that are means over samples, or functions of such means."""

from __future__ import annotations

import math

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Array, Spec
from dagtrain.nn import losses
from dagtrain.nn.metrics.metric import METRICS, mean_of_parts, mean_parts, named, vector
from dagtrain.nn.shapes import aligned, has_one_logit, labels_for, spread_weights
from dagtrain.nn.values import Values

__all__ = [
    "accuracy",
    "binary_accuracy",
    "mean_absolute_percentage_error",
    "perplexity",
    "r2",
    "root_mean_squared_error",
    "top_k_accuracy",
]


@named(most=1)
def accuracy(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """Fraction of samples whose highest output is that of their label (of equal outputs the first); of one logit, see `binary_accuracy`.

    Examples
    --------
    >>> accuracy(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([1, 1]))
    0.5
    """
    if has_one_logit(outputs):
        return METRICS["binary_accuracy"].parts(outputs, targets, sample_weight)
    labels = labels_for("accuracy", outputs, targets)
    return mean_parts((np.argmax(outputs, -1) == labels).astype(outputs.dtype), outputs, sample_weight)


@named(most=1)
def binary_accuracy(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """Fraction of elements whose logit is above 0 exactly where the target is 1 (the other target is 0 or -1).

    Examples
    --------
    >>> binary_accuracy(np.array([3.0, -1.0, 1.0, 2.0]), np.array([1, 0, 0, 1]))
    0.75
    """
    outputs, targets = aligned("binary_accuracy", outputs, targets)
    return mean_parts(((outputs > 0) == (targets > 0.5)).astype(outputs.dtype), outputs, sample_weight, average=True)


@named(most=1)
def top_k_accuracy(outputs: Values, targets: Values, sample_weight: Values | None = None, *, k: int = 5) -> Values:
    """Fraction of samples whose label's output is among the `k` highest; equal outputs count as hits, NaN does not.

    Examples
    --------
    >>> top_k_accuracy(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), np.array([1, 2]), k=2)
    0.5
    """
    labels = labels_for("top_k_accuracy", outputs, targets)
    classes = outputs.shape[-1]
    if not 1 <= k <= classes:
        raise ArgumentError(f"top_k_accuracy: k must be from 1 to the number of classes ({classes}), got {k}.")
    scores = np.take_along_axis(outputs, labels.reshape((*labels.shape, 1)), -1)
    # A hit has fewer than k higher outputs. Count those that are not higher: every comparison with NaN is false.
    not_higher = np.sum(outputs <= scores, axis=-1)
    return mean_parts((not_higher > classes - k).astype(outputs.dtype), outputs, sample_weight)


def _exp_of_mean(parts: Array) -> float:
    mean = mean_of_parts(parts)
    return math.exp(mean) if not mean > 709 else math.inf


@named(_exp_of_mean, higher_is_better=False)
def perplexity(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """``exp`` of the mean cross-entropy over all positions: the number of equally likely classes with the same cross-entropy.

    Examples
    --------
    >>> round(perplexity(np.zeros((2, 3, 8)), np.zeros((2, 3), int)), 6)
    8.0
    """
    return vector(*losses.LOSSES["cross_entropy"].parts(outputs, targets, sample_weight))


def _root_of_mean(parts: Array) -> float:
    return math.sqrt(mean_of_parts(parts))


@named(_root_of_mean, higher_is_better=False)
def root_mean_squared_error(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """Root of the mean squared difference over all elements.

    Examples
    --------
    >>> root_mean_squared_error(np.array([1.0, 2.0]), np.array([4.0, 5.0]))
    3.0
    """
    return vector(*losses.LOSSES["mean_squared_error"].parts(outputs, targets, sample_weight))


@named(higher_is_better=False)
def mean_absolute_percentage_error(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """Mean of ``|output - target| / |target|``: a fraction, as in scikit-learn; Keras gives a hundred times as much.

    A target of 0 counts as 2.2e-16, as in scikit-learn, which gives huge values.

    Examples
    --------
    >>> mean_absolute_percentage_error(np.array([110.0, 180.0]), np.array([100.0, 200.0]))
    0.1
    """
    outputs, targets = aligned("mean_absolute_percentage_error", outputs, targets)
    ratio = np.abs(outputs - targets) / np.maximum(np.abs(targets), float(np.finfo(float).eps))
    return mean_parts(ratio, outputs, sample_weight, average=True)


CONSTANT = 1e-13
"""A variance below this fraction of the mean square is rounding: the targets are constant."""


def _r2_value(parts: Array) -> float:
    weight, first, second, residual = parts.reshape(4, -1)
    if not weight.any():
        return math.nan
    weight, first, second, residual = (row[weight > 0] for row in (weight, first, second, residual))
    total = second - first**2 / weight
    varies = total > CONSTANT * second
    # Constant targets: 1 for exact outputs, otherwise 0, as in scikit-learn.
    return float(np.mean(np.where(varies, 1 - residual / np.where(varies, total, 1), residual == 0)))


def _r2_size(outputs: Spec) -> int:
    return 4 * (outputs.shape[-1] if len(outputs.shape) > 1 else 1)


@named(_r2_value, _r2_size, most=1)
def r2(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """Coefficient of determination: 1 for exact outputs, 0 for the mean of the targets; of several columns the mean.

    Targets are squared in float64: their standard deviation must be above 1e-6 of their mean. Constant targets give 1 for exact outputs,
    otherwise 0, as in scikit-learn; of a single sample, too.

    Examples
    --------
    >>> r2(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    0.5
    """
    columns = outputs.shape[-1] if outputs.ndim > 1 else 1
    outputs, targets = aligned("r2", outputs, targets)
    weights = spread_weights(sample_weight, outputs.shape)
    exact, off = targets.astype(np.float64), (outputs - targets).astype(np.float64)
    rows = [weights, weights * exact, weights * np.square(exact), weights * np.square(off)]
    return np.concatenate([np.sum(row.reshape((-1, columns)), axis=0) for row in rows])
