"""The record of a metric, the table of metrics by name, and what metrics are made of."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, one_of, whole
from dagtrain.errors import ArgumentError, ShapeError, UnknownNameError
from dagtrain.graph import Array, Spec, Tensor, refuse_masked, spec_of
from dagtrain.nn import hints, losses
from dagtrain.nn.calls import naming
from dagtrain.nn.losses import Loss
from dagtrain.nn.sums import refuse_outer, sum_and_weight
from dagtrain.nn.values import Values
from dagtrain.registry import Registry

__all__ = ["AVERAGES", "METRICS", "Metric", "find", "mean_of_parts", "mean_parts", "named", "vector"]

MOST_BINS = 2**16
AVERAGES = ("auto", "binary", "macro", "micro", "weighted")


def mean_of_parts(parts: Array) -> float:
    """The mean, of a sum and a weight; NaN without weight.

    Examples
    --------
    >>> mean_of_parts(np.array([3.0, 4.0]))
    0.75
    """
    total, weight = parts.tolist()
    return float(total / weight) if weight else float("nan")


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
        ``value(parts)`` of the total → the figure: a float, or an array, which is not in the history. NaN where it is not defined.
    higher_is_better
        Whether a higher value is better; the best epoch depends on it.
    size
        ``size(outputs)`` → number of parts, from the spec of a batch of outputs.
    most
        A value that no model exceeds.
    rows
        ``rows(outputs, targets, sample_weight=None)`` → an array whose first axis counts rows or positions. Evaluation keeps it for all
        rows, in their order; None where parts say it all.
    value_of_rows
        ``value_of_rows(rows)`` of all rows → the figure in evaluation, instead of that of the parts.

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
    most: float = math.inf
    rows: Callable[..., Values] | None = None
    value_of_rows: Callable[[Array], Any] | None = None

    def __post_init__(self) -> None:
        try:
            inspect.signature(self.parts).bind(None, None, None)
        except TypeError as error:
            raise ArgumentError(f"the metric {self.name!r}: parts is a function (outputs, targets, sample_weight=None): {error}.") from None
        except ValueError:
            pass  # a function of C has no signature

    def parts_of(self, outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
        """The parts, which are checked; errors name the metric."""
        with naming(f"the metric {self.name!r}"):
            parts = self.parts(*map(refuse_masked, (outputs, targets, sample_weight)))
            size = self.size(spec_of(outputs))
            if np.shape(parts) != (size,):
                raise ShapeError(
                    f"the parts of {self.name!r} must be {size} numbers in one axis, by its size, got shape {np.shape(parts)}. "
                    "Set the size, as in Metric(..., size=lambda outputs: 3)."
                )
            return parts

    def rows_of(self, outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
        """The rows, which are checked; errors name the metric."""
        assert self.rows is not None, "the caller checks it"
        with naming(f"the metric {self.name!r}"):
            rows = self.rows(outputs, targets, sample_weight)
            if not np.ndim(rows) or np.shape(rows)[0] % outputs.shape[0]:
                raise ShapeError(f"rows of {self.name!r} must have {outputs.shape[0]} rows, got shape {np.shape(rows)}.")
            return rows

    def figure(self, parts: Array, rows: Array | None = None) -> Any:
        """The value of all rows or of summed parts; NaN where that divides by zero, and where nothing counts and it is not defined."""
        with naming(f"the metric {self.name!r}"), np.errstate(divide="ignore", invalid="ignore"):
            try:
                value = self.value(parts) if rows is None or self.value_of_rows is None else self.value_of_rows(rows)
            except (ArithmeticError, ValueError) as error:
                if isinstance(error, ZeroDivisionError) or not np.any(parts):
                    return float("nan")
                raise
            if not np.issubdtype(np.asarray(value).dtype, np.number):
                raise ArgumentError(f"the value of {self.name!r} must be a number or an array of numbers, got {value!r}.")
            return value

    def __call__(self, outputs: Array, targets: Array, sample_weight: Array | None = None) -> Any:
        """The value of arrays."""
        rows = None if self.rows is None else self.rows_of(outputs, targets, sample_weight)
        return self.figure(self.parts_of(outputs, targets, sample_weight), rows)


METRICS: Registry[Metric] = Registry("metric", hints.METRICS)


def named(
    value: Callable[..., Any] = mean_of_parts,
    size: Callable[..., int] = _two,
    higher_is_better: bool = True,
    most: float = math.inf,
    rows: Callable[..., Values] | None = None,
    value_of_rows: Callable[[Array], Any] | None = None,
) -> Callable[[Callable[..., Values]], Callable[..., Any]]:
    """Enter a function of parts as a metric; the function of this name gives their value."""

    def register(function: Callable[..., Values]) -> Callable[..., Any]:
        @wraps(function)
        def of_arrays(outputs: Array, targets: Array, sample_weight: Array | None = None, **options: Any) -> Any:
            return find(name, **options)(outputs, targets, sample_weight)

        name = function.__name__
        METRICS.add(Metric(name, function, value, higher_is_better, size, most, rows, value_of_rows))
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


# ---- losses and functions of the user


def _loss_parts(outputs: Values, targets: Values, sample_weight: Values | None = None, *, loss: Loss) -> Values:
    return vector(*loss.parts(outputs, targets, sample_weight))


def _function_parts(outputs: Values, targets: Values, sample_weight: Values | None = None, *, function: Callable[..., Any]) -> Values:
    result = function(outputs, targets)
    refuse_outer(result, outputs.shape[0], (outputs, targets))
    return mean_parts(result, outputs, sample_weight)


def _of_loss(loss: Loss) -> Metric:
    return Metric(loss.name, partial(_loss_parts, loss=loss), higher_is_better=False)


for _loss in losses.LOSSES.values():
    METRICS.add(_of_loss(_loss))


# ---- by name


def _average(name: str, value: Any) -> None:
    if value is not None:
        one_of(f"{name}:", value, AVERAGES)


def _bins(name: str, value: Any) -> None:
    if whole(name, value) > MOST_BINS:
        raise ArgumentError(f"{name} must be a whole number up to {MOST_BINS:,}, got {value!r}.")


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "k": whole,
    "bins": _bins,
    "average": _average,
    "zero_division": partial(fraction, one=True),
}


def _names(function: Callable[..., Any]) -> list[str]:
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _with(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    names = _names(function)
    taken = {name: value for name, value in options.items() if name in names}
    return partial(function, **taken) if taken else function


def _with_options(metric: Metric, options: dict[str, Any]) -> Metric:
    known, name = _names(metric.parts), metric.name
    if not known:
        raise ArgumentError(f"{name} has no options, got {sorted(options)}.")
    for option, value in options.items():
        if option not in known:
            raise UnknownNameError.of(f"option of {name}", option, known, hints.OPTIONS)
        _CHECKS[option](f"{name}: {option}", value)
    if "k" in options:
        name = f"top_{options['k']}_accuracy"
    elif options.get("average", "auto") != "auto":
        name = f"{name}_{options['average'] or 'by_class'}"
    return replace(
        metric, name=name, parts=_with(metric.parts, options), value=_with(metric.value, options), size=_with(metric.size, options)
    )


def find(metric: str | Metric | Loss | Callable[..., Values], *, name: str | None = None, **options: Any) -> Metric:
    """The metric of this name, with options; every loss is one too.

    A function ``(outputs, targets)`` counts as better when higher. It returns one value a sample, one number (the mean over the samples),
    or ``(sum, weight)``.

    Parameters
    ----------
    metric
        A name (also one of Keras or scikit-learn that means the same), a function, a `Metric` or a `Loss`.
    name
        Another name for tables and the history.
    **options
        Keyword arguments of the function of that name.

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
    >>> find("f1", average="macro").name
    'f1_macro'
    >>> find(lambda outputs, targets: abs(outputs - targets) < 0.5, name="close").name
    'close'
    """
    if name is not None:
        return replace(find(metric, **options), name=name)
    if isinstance(metric, Loss):
        result = _of_loss(metric)
    elif isinstance(metric, Metric):
        result = metric
    elif isinstance(metric, str):
        stem, _, average = metric.rpartition("_")  # "f1_macro", as scikit-learn names scorers
        if stem and average in AVERAGES and "average" in _names(METRICS.find(stem).parts):
            return find(stem, average=average, **options)
        result = METRICS.find(metric)
    elif callable(metric):
        known, entry = METRICS.entry_of(metric, "parts")
        if (entry or losses.LOSSES.entry_of(metric)[1]) is not None:
            return find(known, **{**getattr(metric, "keywords", {}), **options})
        result = Metric(known, partial(_function_parts, function=metric))
    else:
        raise ArgumentError(f"a metric is a name, a Metric, or a function (outputs, targets), got {metric!r}.")
    if not options:
        return result
    if result.name in losses.LOSSES:
        return _of_loss(losses.find(result.name, **options))
    return _with_options(result, options)
