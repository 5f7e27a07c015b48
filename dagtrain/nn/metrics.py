"""Metrics: figures of a model's quality. Each is a mean over samples, so the values of shards add up to that of the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError
from dagtrain.nn import hints, losses
from dagtrain.nn.losses import Loss, aligned, labels_for
from dagtrain.nn.values import Values
from dagtrain.registry import Registry

__all__ = ["METRICS", "Metric", "accuracy", "binary_accuracy", "find", "top_k_accuracy"]


@dataclass(frozen=True)
class Metric:
    """A named figure of a model's quality.

    Attributes
    ----------
    name
        Its name in tables and in the history.
    function
        ``function(outputs, targets)`` → one number, the mean over the samples.
    higher_is_better
        Whether a higher value is better; the best epoch depends on it.

    Examples
    --------
    >>> find("accuracy").higher_is_better
    True
    """

    name: str
    function: Callable[..., Values]
    higher_is_better: bool

    def __call__(self, outputs: Values, targets: Values) -> Values:
        """The mean over the samples."""
        return self.function(outputs, targets)


def accuracy(outputs: Values, targets: Values) -> Values:
    """Fraction of samples whose highest output is that of their label; of equal outputs the first counts.

    Examples
    --------
    >>> float(accuracy(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([1, 1])))
    0.5
    """
    labels = labels_for("accuracy", outputs, targets)
    return np.mean((np.argmax(outputs, -1) == labels).astype(outputs.dtype))


def binary_accuracy(outputs: Values, targets: Values) -> Values:
    """Fraction of elements whose logit is above 0 exactly where the target is 1 (the other target is 0 or -1).

    Examples
    --------
    >>> float(binary_accuracy(np.array([3.0, -1.0, 1.0, 2.0]), np.array([1, 0, 0, 1])))
    0.75
    """
    outputs, targets = aligned("binary_accuracy", outputs, targets)
    return np.mean(((outputs > 0) == (targets > 0.5)).astype(outputs.dtype))


def top_k_accuracy(outputs: Values, targets: Values, *, k: int = 5) -> Values:
    """Fraction of samples whose label's output is among the `k` highest; equal outputs count as hits, NaN does not.

    Examples
    --------
    >>> float(top_k_accuracy(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), np.array([1, 2]), k=2))
    0.5
    """
    labels = labels_for("top_k_accuracy", outputs, targets)
    classes = outputs.shape[-1]
    if not 1 <= k <= classes:
        raise ArgumentError(f"top_k_accuracy: k must be from 1 to the number of classes ({classes}), got {k}.")
    scores = np.take_along_axis(outputs, labels.reshape((*labels.shape, 1)), -1)
    # A hit has fewer than k higher outputs. Count those that are not higher: every comparison with NaN is false.
    not_higher = np.sum(outputs <= scores, axis=-1)
    return np.mean((not_higher > classes - k).astype(outputs.dtype))


METRICS: Registry[Metric] = Registry("metric", hints.METRICS)
for _function in (accuracy, binary_accuracy, top_k_accuracy):
    METRICS.add(Metric(_function.__name__, _function, True))
for _loss in losses.LOSSES.values():
    METRICS.add(Metric(_loss.name, _loss.function, False))


def find(metric: str | Metric | Loss | Callable[..., Values], **options: Any) -> Metric:
    """The metric of this name; every loss is one too. A function ``(outputs, targets) -> number`` counts as better when higher.

    Raises
    ------
    UnknownNameError
        If there is no metric of this name.

    Examples
    --------
    >>> find("mean_squared_error").higher_is_better
    False
    >>> find("top_k_accuracy", k=3).name
    'top_3_accuracy'
    """
    if isinstance(metric, Loss):
        return Metric(metric.name, metric.function, False)
    if isinstance(metric, Metric):
        result = metric
    elif isinstance(metric, str):
        result = METRICS.find(metric)
    elif callable(metric):
        name, entry = METRICS.entry_of(metric)
        return Metric(name, metric, True if entry is None else entry.higher_is_better)
    else:
        raise ArgumentError(f"a metric is a name, a Metric, or a function (outputs, targets) -> number, got {metric!r}.")
    if not options:
        return result
    if result.name in losses.LOSSES:
        return find(losses.find(result.name, **options))
    if result.name != "top_k_accuracy" or set(options) != {"k"}:
        wrong = next(iter(set(options) - {"k"}), "k")
        raise ArgumentError(f"{result.name} has no option {wrong!r}; the metric with an option is top_k_accuracy(k=...).")
    k = whole("top_k_accuracy: k", options["k"])
    return Metric(f"top_{k}_accuracy", partial(result.function, k=k), True)
