"""Metrics of scores, from counts by bins of the scores: they add up, and their error is bounded by what shares a bin.

    logit z ──▶ position in [0, 1]: (1 + z / (8 + |z|)) / 2 ──▶ bin          0.016 logits wide at 0, 0.08 at ±10 (1,024 bins)

A curve over all thresholds depends on the order of the scores alone, so any increasing function may place them. This one spreads logits,
and keeps small and large probabilities apart.
"""

from __future__ import annotations

import math

import numpy as np

from dagtrain.graph import Array, Spec
from dagtrain.nn.activations import log_softmax, sigmoid, softmax
from dagtrain.nn.metrics.classes import tally
from dagtrain.nn.metrics.metric import named
from dagtrain.nn.shapes import aligned, has_one_logit, labels_for, spread_weights
from dagtrain.nn.values import Values

__all__ = ["auc", "average_precision", "expected_calibration_error"]

BINS = 1024


def _columns(outputs: Spec) -> int:
    return 1 if len(outputs.shape) == 1 else outputs.shape[-1]


def _bin(position: Values, bins: int) -> Values:
    """Number of the bin of a position in [0, 1]; NaN is in the first one."""
    return np.minimum(np.floor(np.where(position > 0, position, 0) * bins), bins - 1).astype(np.int64)


def _logits(name: str, outputs: Values, targets: Values, sample_weight: Values | None) -> tuple[Values, Values, Values]:
    """For each class, the logit of "this class", whether it is, and the weight; in two axes. Of two classes only the second counts."""
    if has_one_logit(outputs) or outputs.shape == targets.shape:
        columns = 1 if has_one_logit(outputs) else outputs.shape[-1]
        outputs, targets = aligned(name, outputs, targets)
        weights = spread_weights(sample_weight, outputs.shape)
        return outputs.reshape((-1, columns)), (targets > 0.5).reshape((-1, columns)), weights.reshape((-1, columns))
    labels, classes = labels_for(name, outputs, targets), outputs.shape[-1]
    flat, weights = outputs.reshape((-1, classes)), spread_weights(sample_weight, labels.shape).reshape((-1, 1))
    true = labels.reshape((-1, 1)) == np.arange(classes)
    if classes == 2:
        return flat[:, 1:] - flat[:, :1], true[:, 1:], weights
    # log(p / (1 - p)); a probability that rounds to 1 has the logit of the largest number below.
    logs = log_softmax(flat)
    return logs - np.log(np.maximum(1 - np.exp(logs), float(np.finfo(logs.dtype).epsneg))), true, np.broadcast_to(weights, flat.shape)


def _histograms(name: str, outputs: Values, targets: Values, sample_weight: Values | None, bins: int) -> Values:
    """Weight by positive or not, by class and by bin."""
    logits, true, weights = _logits(name, outputs.astype(np.float64), targets, sample_weight)
    classes = _columns(outputs)
    position = 0.5 + np.where(logits < 0, -0.5, 0.5) * (1 - 8 / (8 + np.abs(logits)))
    index = (true * classes + np.arange(classes - logits.shape[1], classes)) * bins + _bin(position, bins)
    return tally(weights.reshape((-1,)), index.reshape((-1,)), 2 * classes * bins)


def _histograms_size(outputs: Spec, *, bins: int = BINS) -> int:
    return 2 * _columns(outputs) * bins


def _curves(parts: Array, bins: int) -> tuple[Array, Array]:
    """Positive and negative weight by class and bin, the highest scores first."""
    negative, positive = parts.reshape(2, -1, bins)[..., ::-1]
    return positive, negative


def _mean_over_classes(values: Array) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def _auc(parts: Array, *, bins: int = BINS) -> float:
    positive, negative = _curves(parts, bins)
    above = np.cumsum(positive, axis=1) - positive / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _mean_over_classes(np.where(pairs > 0, np.sum(negative * above, axis=1) / np.where(pairs > 0, pairs, 1), math.nan))


@named(_auc, _histograms_size)
def auc(outputs: Values, targets: Values, sample_weight: Values | None = None, *, bins: int = BINS) -> Values:
    """Area under the ROC curve: the chance that a positive sample has a higher score than a negative one, equal ones counting half.

    Scores in one bin count as equal. So the error is at most half the fraction of pairs of a positive and a negative sample that share a
    bin: ``Σ p·n / 2`` over the bins, where `p` and `n` are the fractions of all positive and of all negative samples. Of several classes
    it is the mean of the areas of each against the rest, over those that have both kinds of samples.

    Examples
    --------
    >>> auc(np.array([-1.0, 0.5, 0.4, 2.0]), np.array([0, 0, 1, 1]))
    0.75
    """
    return _histograms("auc", outputs, targets, sample_weight, bins)


def _average_precision(parts: Array, *, bins: int = BINS) -> float:
    positive, negative = _curves(parts, bins)
    hits, said = np.cumsum(positive, axis=1), np.cumsum(positive + negative, axis=1)
    total = positive.sum(axis=1)
    areas = np.sum(positive * hits / np.where(said > 0, said, 1), axis=1)
    return _mean_over_classes(np.where(total > 0, areas / np.where(total > 0, total, 1), math.nan))


@named(_average_precision, _histograms_size)
def average_precision(outputs: Values, targets: Values, sample_weight: Values | None = None, *, bins: int = BINS) -> Values:
    """Mean of the precisions at the thresholds that find each positive sample: the area under the curve of precision and recall.

    Scores in one bin count as equal. Above a bin let there be T positive and F negative samples, in it p and n: then its part of the error
    is at most ``p / P · ((T + p) / (T + p + F) - T / (T + F + n))``, where P are all positive samples. Of several classes it is the mean
    over those that have samples.

    Examples
    --------
    >>> round(average_precision(np.array([-1.0, 0.5, 0.4, 2.0]), np.array([0, 0, 1, 1])), 4)
    0.8333
    """
    return _histograms("average_precision", outputs, targets, sample_weight, bins)


def _calibration_error(parts: Array) -> float:
    weight, confidence, hits = parts.reshape(3, -1)
    return float(np.sum(np.abs(confidence - hits)) / weight.sum()) if weight.any() else math.nan


def _calibration_size(outputs: Spec, *, bins: int = 15) -> int:
    return 3 * bins


@named(_calibration_error, _calibration_size, higher_is_better=False)
def expected_calibration_error(outputs: Values, targets: Values, sample_weight: Values | None = None, *, bins: int = 15) -> Values:
    """Mean distance of confidence and accuracy, over bins of the confidence: the highest probability, which is that of the prediction.

    Source: Guo et al., "On calibration of modern neural networks", arXiv:1706.04599, equation 3.

    Examples
    --------
    >>> round(expected_calibration_error(np.array([1.0, 1.0, 1.0, -1.0]), np.array([1, 1, 0, 1])), 4)
    0.2311
    """
    name = "expected_calibration_error"
    if has_one_logit(outputs) or outputs.shape == targets.shape:
        outputs, targets = aligned(name, outputs, targets)
        confidence, hits = sigmoid(np.abs(outputs)), (outputs > 0) == (targets > 0.5)
    else:
        labels = labels_for(name, outputs, targets)
        confidence, hits = np.max(softmax(outputs), axis=-1), np.argmax(outputs, -1) == labels
    weights = spread_weights(sample_weight, hits.shape)
    # Bins hold their upper end, as in the source.
    place = (bins - 1 - _bin(1 - confidence, bins)).reshape((-1,))
    rows = [tally(row.reshape((-1,)), place, bins) for row in (weights, weights * confidence, weights * hits)]
    return np.concatenate(rows)
