"""Metrics of predicted classes: ratios of counts by class. Sample weights are counts, too.

    hits[c]         samples of class c that were predicted to be c
    predicted[c]    samples predicted to be c
    actual[c]       samples of class c

    precision = hits / predicted          recall = hits / actual          f1 = 2 · hits / (predicted + actual)

The outputs are logits, in one of three forms:

    one logit a sample, targets 0 and 1 (or -1 and 1)    shape (n,) or (n, 1): two classes, predicted 1 above 0
    one logit a class, targets are labels                shape (n, classes): the highest is predicted
    one logit a label, targets in the same shape         shape (n, labels): each label is there or not (multilabel)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array, Spec
from dagtrain.nn.metrics.metric import named
from dagtrain.nn.shapes import aligned, has_one_logit, labels_for, spread_weights
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["balanced_accuracy", "confusion_matrix", "f1", "precision", "recall", "tally"]


def tally(weights: Values, index: Values, size: int) -> Values:
    """Sums of the weights by index, both in one axis: NumPy adds several times faster at one index than at several."""
    return apply_op(find_op("scatter_add"), weights, index, shape=(size,))


def _classes(outputs: Any) -> int:
    shape = outputs.shape
    return 2 if len(shape) == 1 or shape[-1] == 1 else int(shape[-1])


def _decided(name: str, outputs: Values, targets: Values, sample_weight: Values | None) -> tuple[Values, Values, Values]:
    """Predicted class, actual class and weight of each sample or position, in one axis."""
    if has_one_logit(outputs):
        outputs, targets = aligned(name, outputs, targets)
        predicted, actual = (outputs > 0).astype(np.int64), (targets > 0.5).astype(np.int64)
    else:
        actual = labels_for(name, outputs, targets)
        if isinstance(actual, np.ndarray) and actual.size and not 0 <= actual.min() <= actual.max() < outputs.shape[-1]:
            raise DataError(f"{name}: labels must be from 0 to {outputs.shape[-1] - 1}, got {actual.min()} to {actual.max()}.")
        predicted = np.argmax(outputs, -1)
    weights = spread_weights(sample_weight, actual.shape)
    return predicted.reshape((-1,)), actual.reshape((-1,)), weights.reshape((-1,))


def _counts(name: str, outputs: Values, targets: Values, sample_weight: Values | None, average: str | None = "auto") -> Values:
    """Hits, predicted and actual by class, then the weight of all samples if they are multilabel, otherwise 0."""
    classes = _classes(outputs)
    multilabel = outputs.shape == targets.shape and not has_one_logit(outputs)
    if average == "binary" and (multilabel or classes != 2):
        raise ArgumentError(f'{name}: average="binary" is for two classes, got outputs of shape {outputs.shape}: use "macro" or "micro".')
    if multilabel:
        outputs, targets = aligned(name, outputs, targets)
        weights = spread_weights(sample_weight, outputs.shape)
        said, true = outputs > 0, targets > 0.5
        counts = [np.sum((weights * what).reshape((-1, classes)), axis=0) for what in (np.logical_and(said, true), said, true)]
        return np.concatenate([*counts, np.sum(weights).reshape((1,))])
    predicted, actual, weights = _decided(name, outputs, targets, sample_weight)
    hits = weights * (predicted == actual)
    tallies = [tally(w, i, classes) for w, i in ((hits, actual), (weights, predicted), (weights, actual))]
    return np.concatenate([*tallies, np.zeros(1)])


def _counts_size(outputs: Spec) -> int:
    return 3 * _classes(outputs) + 1


def _averaged(parts: Array, above: Array, below: Array, average: str | None, zero_division: float) -> Any:
    """Quotients by class, averaged."""
    _, predicted, actual = parts[:-1].reshape(3, -1)
    multilabel = parts[-1] > 0
    if not parts.any():
        return math.nan
    if average == "micro":
        return float(above.sum() / below.sum()) if below.sum() else float(zero_division)
    quotients = np.where(below > 0, above / np.where(below > 0, below, 1), zero_division)
    if average is None:
        return quotients
    if average == "binary" or (average == "auto" and len(quotients) == 2 and not multilabel):
        return float(quotients[1])
    if average == "weighted" and actual.any():
        return float(np.sum(quotients * actual) / actual.sum())
    # Of classes, only those that occur count, as in scikit-learn.
    return float(np.mean(quotients[multilabel | (predicted + actual > 0)]))


def _precision(parts: Array, *, average: str | None = "auto", zero_division: float = 0.0) -> Any:
    hits, predicted, _ = parts[:-1].reshape(3, -1)
    return _averaged(parts, hits, predicted, average, zero_division)


@named(_precision, _counts_size, most=1)
def precision(
    outputs: Values, targets: Values, sample_weight: Values | None = None, *, average: str | None = "auto", zero_division: float = 0.0
) -> Values:
    """Fraction of the samples predicted to be of a class that are of this class.

    Parameters
    ----------
    outputs, targets, sample_weight
        See the top of this file.
    average
        As in scikit-learn: "binary" (class 1 of two), "macro" (mean over the classes that occur), "micro" (of all counts together),
        "weighted" (mean weighted by actual samples), None (an array by class). "auto" is binary for two classes, otherwise macro.
    zero_division
        The value of a class that is never predicted (for recall: that has no samples; for F1: neither).

    Examples
    --------
    >>> precision(np.array([2.0, 1.0, 3.0, -1.0]), np.array([1, 0, 1, 1]))
    0.6666666666666666
    """
    return _counts("precision", outputs, targets, sample_weight, average)


def _recall(parts: Array, *, average: str | None = "auto", zero_division: float = 0.0) -> Any:
    hits, _, actual = parts[:-1].reshape(3, -1)
    return _averaged(parts, hits, actual, average, zero_division)


@named(_recall, _counts_size, most=1)
def recall(
    outputs: Values, targets: Values, sample_weight: Values | None = None, *, average: str | None = "auto", zero_division: float = 0.0
) -> Values:
    """Fraction of the samples of a class that are predicted to be of it; parameters as for `precision`.

    Examples
    --------
    >>> recall(np.array([2.0, 1.0, 3.0, -1.0]), np.array([1, 0, 1, 1]))
    0.6666666666666666
    """
    return _counts("recall", outputs, targets, sample_weight, average)


def _f1(parts: Array, *, average: str | None = "auto", zero_division: float = 0.0) -> Any:
    hits, predicted, actual = parts[:-1].reshape(3, -1)
    return _averaged(parts, 2 * hits, predicted + actual, average, zero_division)


@named(_f1, _counts_size, most=1)
def f1(
    outputs: Values, targets: Values, sample_weight: Values | None = None, *, average: str | None = "auto", zero_division: float = 0.0
) -> Values:
    """Harmonic mean of precision and recall; parameters as for `precision`.

    Examples
    --------
    >>> f1(np.array([2.0, 1.0, 3.0, -1.0]), np.array([1, 0, 1, 1]))
    0.6666666666666666
    """
    return _counts("f1", outputs, targets, sample_weight, average)


def _mean_recall(parts: Array) -> float:
    hits, actual = parts.reshape(2, -1)
    occurs = actual > 0
    return float(np.mean(hits[occurs] / actual[occurs])) if occurs.any() else math.nan


def _recalls_size(outputs: Spec) -> int:
    return 2 * _classes(outputs)


@named(_mean_recall, _recalls_size, most=1)
def balanced_accuracy(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """Mean of the classes' recalls, over the classes that have samples.

    Examples
    --------
    >>> balanced_accuracy(np.array([2.0, 1.0, 3.0, -1.0]), np.array([1, 0, 1, 1]))
    0.3333333333333333
    """
    predicted, actual, weights = _decided("balanced_accuracy", outputs, targets, sample_weight)
    classes = _classes(outputs)
    return np.concatenate([tally(weights * (predicted == actual), actual, classes), tally(weights, actual, classes)])


def _square(parts: Array) -> Array:
    classes = math.isqrt(len(parts))
    return parts.reshape(classes, classes)


def _square_size(outputs: Spec) -> int:
    return _classes(outputs) ** 2


@named(_square, _square_size)
def confusion_matrix(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """Weight of the samples of each class (rows) that are predicted to be of each class (columns).

    Examples
    --------
    >>> confusion_matrix(np.array([2.0, 1.0, 3.0, -1.0]), np.array([1, 0, 1, 1]))
    array([[0., 1.],
           [1., 2.]])
    """
    predicted, actual, weights = _decided("confusion_matrix", outputs, targets, sample_weight)
    classes = _classes(outputs)
    return tally(weights, actual * classes + predicted, classes**2)
