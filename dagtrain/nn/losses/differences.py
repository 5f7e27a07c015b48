"""Losses of numbers: of the difference of output and target, or of the likelihood of a count."""

from __future__ import annotations

import math

import numpy as np

from dagtrain.nn.activations import softplus
from dagtrain.nn.losses.loss import named
from dagtrain.nn.shapes import aligned
from dagtrain.nn.values import Values

__all__ = ["huber", "log_cosh", "mean_absolute_error", "mean_squared_error", "poisson", "quantile"]


@named("like_outputs")
def mean_squared_error(outputs: Values, targets: Values) -> Values:
    """Mean of squared differences over all elements.

    Examples
    --------
    >>> float(mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    outputs, targets = aligned("mean_squared_error", outputs, targets)
    return np.square(outputs - targets)


@named("like_outputs")
def mean_absolute_error(outputs: Values, targets: Values) -> Values:
    """Mean of absolute differences over all elements; derivative 0 where they are equal."""
    outputs, targets = aligned("mean_absolute_error", outputs, targets)
    return np.abs(outputs - targets)


@named("like_outputs")
def huber(outputs: Values, targets: Values, *, delta: float = 1.0) -> Values:
    """Mean of ``d**2 / 2`` for differences up to `delta` and ``delta * (|d| - delta / 2)`` beyond.

    Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Examples
    --------
    >>> float(huber(np.array([0.5, 3.0]), np.array([0.0, 0.0])))
    1.3125
    """
    outputs, targets = aligned("huber", outputs, targets)
    difference = outputs - targets
    inner = np.clip(difference, -delta, delta)
    return inner * (difference - 0.5 * inner)


@named("like_outputs")
def log_cosh(outputs: Values, targets: Values) -> Values:
    """Mean of ``log(cosh(d))`` for differences d: about ``d**2 / 2`` for small ones, ``|d| - log(2)`` for large ones; never overflows.

    Examples
    --------
    >>> float(log_cosh(np.array([1000.0]), np.zeros(1)).round(4))
    999.3069
    """
    outputs, targets = aligned("log_cosh", outputs, targets)
    difference = outputs - targets
    # Each formula where it loses no digits; the other one there is finite, since its argument is limited.
    near = np.log1p(2 * np.square(np.sinh(np.clip(difference, -1, 1) * 0.5)))
    size = np.abs(difference)
    return np.where(size < 1, near, size + (softplus(-2 * size) - math.log(2)))


@named("like_outputs")
def quantile(outputs: Values, targets: Values, *, quantile: float = 0.5) -> Values:
    """Mean of ``quantile * d`` where the target is above the output by d, and of ``(1 - quantile) * d`` where it is below: pinball loss.

    Its least value is at that quantile of the targets. Where they are equal, the derivative is ``0.5 - quantile``, the mean of both sides.

    Source: Koenker and Bassett, "Regression quantiles", Econometrica 46 (1978).

    Parameters
    ----------
    outputs, targets
        Numbers.
    quantile
        Between 0 and 1.

    Examples
    --------
    >>> float(quantile(np.array([0.0, 0.0]), np.array([2.0, -2.0]), quantile=0.75))
    1.0
    """
    outputs, targets = aligned("quantile", outputs, targets)
    difference = targets - outputs
    return 0.5 * np.abs(difference) + (quantile - 0.5) * difference


@named("counts", "exponential")
def poisson(outputs: Values, targets: Values) -> Values:
    """Mean of ``exp(output) - target * output``: outputs are logarithms of the rates of counts.

    This is the negative logarithm of the likelihood but for a constant, the mean of ``log(target!)``.

    Parameters
    ----------
    outputs
        Logarithms of rates.
    targets
        Counts, or other numbers from 0 up, in the outputs' shape.

    Examples
    --------
    >>> float(poisson(np.array([0.0, 0.0]), np.array([1, 3])))
    1.0
    """
    outputs, targets = aligned("poisson", outputs, targets)
    return np.exp(outputs) - targets * outputs
