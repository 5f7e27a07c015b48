"""Activations: elementwise nonlinear functions by name, on tensors and on plain arrays.

Python numbers keep the dtype of `x`. Derivatives at kinks: `relu` 0 at 0, `leaky_relu` its slope at 0, `elu` `alpha` at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dagtrain.nn import hints
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op
from dagtrain.registry import Registry

__all__ = [
    "ACTIVATIONS",
    "ActivationFunction",
    "elu",
    "find",
    "gelu",
    "gelu_tanh",
    "leaky_relu",
    "linear",
    "log_softmax",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]

ActivationFunction = Callable[[Values], Values]
ACTIVATIONS: Registry[ActivationFunction] = Registry("activation", hints.ACTIVATIONS)


@ACTIVATIONS.add
def linear(x: Values) -> Values:
    """`x` itself."""
    return x


@ACTIVATIONS.add
def relu(x: Values) -> Values:
    """The larger of `x` and 0.

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return apply_op(find_op("relu"), x)


@ACTIVATIONS.add
def leaky_relu(x: Values, slope: float = 0.01) -> Values:
    """`x` above 0, ``slope * x`` below (Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013)."""
    return np.where(x > 0, x, slope * x)


@ACTIVATIONS.add
def elu(x: Values, alpha: float = 1.0) -> Values:
    """`x` above 0, ``alpha * (exp(x) - 1)`` below (Clevert, Unterthiner and Hochreiter, arXiv:1511.07289, equation 15)."""
    positive = x > 0
    # The inner where keeps exp from overflowing where its result is not used.
    return np.where(positive, x, alpha * np.expm1(np.where(positive, 0, x)))


@ACTIVATIONS.add
def gelu(x: Values) -> Values:
    """``x * Phi(x)`` with the normal distribution function, by erf (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    return x * (0.5 * apply_op(find_op("erf"), x * math.sqrt(0.5)) + 0.5)


@ACTIVATIONS.add
def gelu_tanh(x: Values) -> Values:
    """`gelu` by its tanh approximation, within 0.0005 of it (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    inner = x * (math.sqrt(2 / math.pi) + (math.sqrt(2 / math.pi) * 0.044715) * np.square(x))
    return x * (0.5 * np.tanh(inner) + 0.5)


@ACTIVATIONS.add
def silu(x: Values) -> Values:
    """``x * sigmoid(x)`` (Elfwing, Uchibe and Doya, arXiv:1702.03118, equation 7)."""
    return x * sigmoid(x)


@ACTIVATIONS.add
def sigmoid(x: Values) -> Values:
    """``1 / (1 + exp(-x))``, without overflow."""
    return apply_op(find_op("sigmoid"), x)


@ACTIVATIONS.add
def tanh(x: Values) -> Values:
    """The hyperbolic tangent."""
    return np.tanh(x)


@ACTIVATIONS.add
def softplus(x: Values) -> Values:
    """``log(1 + exp(x))``, without overflow."""
    return apply_op(find_op("softplus"), x)


@ACTIVATIONS.add
def softmax(x: Values) -> Values:
    """``exp(x) / sum(exp(x))`` along the last axis, without overflow.

    Examples
    --------
    >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return apply_op(find_op("softmax"), x, axis=x.ndim - 1)


@ACTIVATIONS.add
def log_softmax(x: Values) -> Values:
    """``log(softmax(x))`` along the last axis, without overflow or cancellation."""
    return apply_op(find_op("log_softmax"), x, axis=x.ndim - 1)


def find(activation: str | ActivationFunction | None) -> ActivationFunction:
    """The activation of this name; a callable is returned unchanged, None means `linear`.

    Raises
    ------
    UnknownNameError
        If there is no activation of this name.

    Examples
    --------
    >>> find("relu") is relu
    True
    """
    if activation is None:
        return linear
    return activation if callable(activation) else ACTIVATIONS.find(activation)
