"""Metrics of scores: in training from counts by bins, which add up, in evaluation areas under curves from all scores.

    logit z ──▶ position in [0, 1]: (1 + z / (8 + |z|)) / 2 ──▶ bin          0.016 logits wide at 0, 0.08 at ±10 (1,024 bins)

A curve over all thresholds depends on the order of the scores alone, so any increasing function may place them. This one spreads logits,
and keeps small and large probabilities apart. What shares a bin bounds the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

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


def _scores(
    name: str, outputs: Values, targets: Values, sample_weight: Values | None, logits: bool = False
) -> tuple[Values, Values, Values]:
    """For each class, the score of "this class", whether it is, and the weight; in two axes. Of two classes only the second counts.

    The score of one class of several is the logarithm of its probability, or its logit.
    """
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
    scores = log_softmax(flat)
    if logits:  # log(p / (1 - p)); a probability that rounds to 1 has the logit of the largest number below.
        scores = scores - np.log(np.maximum(1 - np.exp(scores), float(np.finfo(scores.dtype).epsneg)))
    return scores, true, np.broadcast_to(weights, flat.shape)


def _histograms(name: str, outputs: Values, targets: Values, sample_weight: Values | None, bins: int) -> Values:
    """Weight by positive or not, by class and by bin."""
    logits, true, weights = _scores(name, outputs.astype(np.float64), targets, sample_weight, logits=True)
    classes = _columns(outputs)
    position = 0.5 + np.where(logits < 0, -0.5, 0.5) * (1 - 8 / (8 + np.abs(logits)))
    index = (true * classes + np.arange(classes - logits.shape[1], classes)) * bins + _bin(position, bins)
    return tally(weights.reshape((-1,)), index.reshape((-1,)), 2 * classes * bins)


def _histograms_size(outputs: Spec, *, bins: int = BINS) -> int:
    return 2 * _columns(outputs) * bins


def _rows(outputs: Values, targets: Values, sample_weight: Values | None = None, *, name: str) -> Values:
    """For each row or position and class, the score, and the weight: negative for a negative sample."""
    scores, true, weights = _scores(name, outputs.astype(np.float64), targets, sample_weight)
    return np.stack([scores, np.where(true, weights, -weights)], axis=-1)


Curve = tuple[Array, Array]
"""Positive and negative weight at each threshold, the highest first."""


def _curves_of_bins(parts: Array, bins: int) -> list[Curve]:
    """The curve of each class whose thresholds are between bins."""
    negative, positive = parts.reshape(2, -1, bins)[..., ::-1]
    return list(zip(positive, negative, strict=True))


def _curve_of_rows(scores: Array, weights: Array) -> Curve:
    """The curve whose thresholds are all scores; a missing one is the lowest."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-scores, kind="stable")
    scores, weights = scores[order], weights[order]
    first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    return np.add.reduceat(np.maximum(weights, 0), first), np.add.reduceat(np.maximum(-weights, 0), first)


def _mean_area(area: Callable[[Array, Array], float], curves: Iterable[Curve]) -> float:
    """Mean over the classes that have an area."""
    areas = [area(*curve) for curve in curves]
    return float(np.nanmean(areas)) if not np.isnan(areas).all() else math.nan


def _area_of_bins(parts: Array, *, area: Callable[[Array, Array], float], bins: int = BINS) -> float:
    return _mean_area(area, _curves_of_bins(parts, bins))


def _area_of_rows(rows: Array, *, area: Callable[[Array, Array], float]) -> float:
    return _mean_area(area, (_curve_of_rows(*rows[:, c].T) for c in range(rows.shape[1])))


def _roc_area(positive: Array, negative: Array) -> float:
    above, pairs = np.cumsum(positive) - positive / 2, positive.sum() * negative.sum()
    return float(np.sum(negative * above) / pairs) if pairs else math.nan


def _precision_area(positive: Array, negative: Array) -> float:
    hits, said, total = np.cumsum(positive), np.cumsum(positive + negative), positive.sum()
    return float(np.sum(positive * hits / np.where(said > 0, said, 1)) / total) if total else math.nan


def _of_curve(area: Callable[[Array, Array], float], name: str) -> Callable[[Callable[..., Values]], Callable[..., Any]]:
    """Enter a function of histograms as the metric that is this area."""
    value, of_rows = partial(_area_of_bins, area=area), partial(_area_of_rows, area=area)
    return named(value, _histograms_size, most=1, rows=partial(_rows, name=name), value_of_rows=of_rows)


@_of_curve(_roc_area, "auc")
def auc(outputs: Values, targets: Values, sample_weight: Values | None = None, *, bins: int = BINS) -> Values:
    """Area under the ROC curve: the chance that a positive sample has a higher score than a negative one, equal ones counting half.

    Of several classes it is the mean of the areas of each against the rest, over those that have both kinds of samples; NaN if none has.
    Evaluation is exact, by the sorted scores of all rows. In training, scores in one bin count as equal. So the error is at most half the
    fraction of pairs of a positive and a negative sample that share a bin: ``Σ p·n / 2`` over the bins, where `p` and `n` are the fractions
    of all positive and of all negative samples.

    Examples
    --------
    >>> auc(np.array([-1.0, 0.5, 0.4, 2.0]), np.array([0, 0, 1, 1]))
    0.75
    """
    return _histograms("auc", outputs, targets, sample_weight, bins)


@_of_curve(_precision_area, "average_precision")
def average_precision(outputs: Values, targets: Values, sample_weight: Values | None = None, *, bins: int = BINS) -> Values:
    """Mean of the precisions at the thresholds that find each positive sample: the area under the curve of precision and recall.

    Of several classes it is the mean over those that have samples; NaN if none has. Evaluation is exact, by the sorted scores of all rows.
    In training, scores in one bin count as equal. Above a bin let there be T positive and F negative samples, in it p and n: then its part
    of the error is at most ``p / P · ((T + p) / (T + p + F) - T / (T + F + n))``, where P are all positive samples.

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
