"""Metrics: figures of a model's quality. Each is a value of parts that add up over shards, batches and partitions.

    accuracy       parts [hits, samples]    ──sum over shards──▶    hits / samples

The functions of this module compute the value of arrays; their ``__wrapped__``, the `Metric.parts`, gives the parts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any

import numpy as np

from dagtrain.arguments import one_of, whole
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array, Spec, Tensor
from dagtrain.nn import hints, losses
from dagtrain.nn.losses import Loss
from dagtrain.nn.shapes import aligned, labels_for
from dagtrain.nn.sums import sum_and_weight
from dagtrain.nn.values import Values
from dagtrain.registry import Registry

__all__ = ["METRICS", "Metric", "accuracy", "binary_accuracy", "find", "mean_of_parts", "top_k_accuracy"]


def mean_of_parts(parts: Array) -> float:
    """The mean, of a sum and a weight; NaN without weight.

    Examples
    --------
    >>> mean_of_parts(np.array([3.0, 4.0]))
    0.75
    """
    total, weight = parts.tolist()
    return total / weight if weight else float("nan")


def _two(outputs: Spec) -> int:
    return 2


@dataclass(frozen=True)
class Metric:
    """A named figure of a model's quality.

    Attributes
    ----------
    name
        Its name in tables and in the history.
    parts
        ``parts(outputs, targets, sample_weight=None)`` → float64 numbers in one axis that add up over rows.
    value
        ``value(parts)`` of the total → the figure: a float, or an array, which is not in the history.
    higher_is_better
        Whether a higher value is better; the best epoch depends on it.
    size
        ``size(outputs)`` → number of parts, from the spec of a batch of outputs.

    Examples
    --------
    >>> metric = find("accuracy")
    >>> metric.parts(np.eye(3), np.array([0, 1, 0]))
    array([2., 3.])
    >>> round(metric(np.eye(3), np.array([0, 1, 0])), 4)
    0.6667
    """

    name: str
    parts: Callable[..., Values]
    value: Callable[[Array], Any] = mean_of_parts
    higher_is_better: bool = True
    size: Callable[[Spec], int] = _two

    def __call__(self, outputs: Array, targets: Array, sample_weight: Array | None = None) -> Any:
        """The value of arrays."""
        return self.value(self.parts(outputs, targets, sample_weight))


METRICS: Registry[Metric] = Registry("metric", hints.METRICS)


def _named(
    value: Callable[..., Any] = mean_of_parts, size: Callable[..., int] = _two, higher_is_better: bool = True
) -> Callable[[Callable[..., Values]], Callable[..., Any]]:
    """Enter a function of parts as a metric; the function of this name gives their value."""

    def register(function: Callable[..., Values]) -> Callable[..., Any]:
        @wraps(function)
        def of_arrays(outputs: Array, targets: Array, sample_weight: Array | None = None, **options: Any) -> Any:
            return find(name, **options)(outputs, targets, sample_weight)

        name = function.__name__
        METRICS.add(Metric(name, function, value, higher_is_better, size))
        function.__qualname__ += ".__wrapped__"  # where pickle finds it
        return of_arrays

    return register


def vector(*parts: Values) -> Values:
    """Numbers as float64 parts."""
    if any(isinstance(part, Tensor) for part in parts):
        return np.stack([part.astype(np.float64) if isinstance(part, Tensor) else np.float64(part) for part in parts])
    return np.array(parts, np.float64)


def mean_parts(result: Any, outputs: Values, sample_weight: Values | None = None, average: bool = False) -> Values:
    """Sum and weight of what a function returned."""
    return vector(*sum_and_weight(result, outputs.shape[0], sample_weight, average=average)[:2])


@_named()
def accuracy(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """Fraction of samples whose highest output is that of their label; of equal outputs the first counts.

    Examples
    --------
    >>> accuracy(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([1, 1]))
    0.5
    """
    labels = labels_for("accuracy", outputs, targets)
    return mean_parts((np.argmax(outputs, -1) == labels).astype(outputs.dtype), outputs, sample_weight)


@_named()
def binary_accuracy(outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
    """Fraction of elements whose logit is above 0 exactly where the target is 1 (the other target is 0 or -1).

    Examples
    --------
    >>> binary_accuracy(np.array([3.0, -1.0, 1.0, 2.0]), np.array([1, 0, 0, 1]))
    0.75
    """
    outputs, targets = aligned("binary_accuracy", outputs, targets)
    return mean_parts(((outputs > 0) == (targets > 0.5)).astype(outputs.dtype), outputs, sample_weight, average=True)


@_named()
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


# ---- losses and functions of the user


def _loss_parts(outputs: Values, targets: Values, sample_weight: Values | None = None, *, loss: Loss) -> Values:
    return vector(*loss.parts(outputs, targets, sample_weight))


def _function_parts(outputs: Values, targets: Values, sample_weight: Values | None = None, *, function: Callable[..., Any]) -> Values:
    return mean_parts(function(outputs, targets), outputs, sample_weight)


def _of_loss(loss: Loss) -> Metric:
    return Metric(loss.name, partial(_loss_parts, loss=loss), higher_is_better=False)


for _loss in losses.LOSSES.values():
    METRICS.add(_of_loss(_loss))


# ---- by name


def _taken(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {name: value for name, value in options.items() if name in names}


def _with(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    taken = _taken(function, options)
    return partial(function, **taken) if taken else function


def find(metric: str | Metric | Loss | Callable[..., Values], **options: Any) -> Metric:
    """The metric of this name, with options; every loss is one too.

    A function ``(outputs, targets)`` counts as better when higher. It returns one value a sample, one number (the mean over the samples),
    or ``(sum, weight)``.

    Raises
    ------
    UnknownNameError
        If there is no metric of this name, or it has no such option.
    ArgumentError
        If an option's value is not allowed.

    Examples
    --------
    >>> find("mean_squared_error").higher_is_better
    False
    >>> find("top_k_accuracy", k=3).name
    'top_3_accuracy'
    """
    if isinstance(metric, Loss):
        result = _of_loss(metric)
    elif isinstance(metric, Metric):
        result = metric
    elif isinstance(metric, str):
        result = METRICS.find(metric)
    elif callable(metric):
        name, entry = METRICS.entry_of(metric, "parts")
        if (entry or losses.LOSSES.entry_of(metric)[1]) is not None:
            return find(name, **{**getattr(metric, "keywords", {}), **options})
        result = Metric(name, partial(_function_parts, function=metric))
    else:
        raise ArgumentError(f"a metric is a name, a Metric, or a function (outputs, targets), got {metric!r}.")
    if not options:
        return result
    if result.name in losses.LOSSES:
        return _of_loss(losses.find(result.name, **options))
    allowed = _taken(result.parts, dict.fromkeys(inspect.signature(result.parts).parameters))
    if not allowed:
        raise ArgumentError(f"{result.name} has no options, got {sorted(options)}.")
    for option in options:
        one_of(f"option of {result.name}", option, allowed)
    name = result.name
    if "k" in options:
        name = f"top_{whole('top_k_accuracy: k', options['k'])}_accuracy"
    return replace(
        result,
        name=name,
        parts=_with(result.parts, options),
        value=_with(result.value, options),
        size=_with(result.size, options),
    )
