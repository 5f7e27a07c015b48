"""Activations: elementwise nonlinear functions by name, on tensors and on plain arrays.

Python numbers keep the dtype of `x`. Derivatives at kinks: `relu` 0 at 0, `leaky_relu` its slope at 0, `elu` `alpha` at 0; 0 where `relu6`
and the hard ones become constant.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.errors import ArgumentError
from dagtrain.nn import hints
from dagtrain.nn.values import Values, apply_op, apply_parts
from dagtrain.ops import find as find_op
from dagtrain.registry import Registry

__all__ = [
    "ACTIVATIONS",
    "ActivationFunction",
    "elu",
    "exponential",
    "find",
    "gelu",
    "gelu_tanh",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
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
def selu(x: Values) -> Values:
    """`elu` with alpha 1.6733, times 1.0507, which keep mean 0 and variance 1 (Klambauer et al., arXiv:1706.02515, equation 2)."""
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


@ACTIVATIONS.add
def relu6(x: Values) -> Values:
    """`relu`, at most 6 (Howard et al., "MobileNets", arXiv:1704.04861)."""
    return np.where(x >= 6, 6, relu(x))


@ACTIVATIONS.add
def hard_sigmoid(x: Values) -> Values:
    """A line from 0 at -3 to 1 at 3 in place of `sigmoid` (Howard et al., "Searching for MobileNetV3", arXiv:1905.02244, section 5.2)."""
    return hard_tanh(x * (1 / 3)) * 0.5 + 0.5


@ACTIVATIONS.add
def hard_silu(x: Values) -> Values:
    """``x * hard_sigmoid(x)`` (Howard et al., "Searching for MobileNetV3", arXiv:1905.02244, section 5.2)."""
    return x * hard_sigmoid(x)


@ACTIVATIONS.add
def hard_tanh(x: Values) -> Values:
    """`x` between -1 and 1, and these beyond."""
    return np.where(np.abs(x) < 1, x, np.sign(x))


@ACTIVATIONS.add
def mish(x: Values) -> Values:
    """``x * tanh(softplus(x))`` (Misra, arXiv:1908.08681, equation 1)."""
    return x * np.tanh(softplus(x))


@ACTIVATIONS.add
def softsign(x: Values) -> Values:
    """``x / (1 + |x|)``."""
    return x / (1 + np.abs(x))


@ACTIVATIONS.add
def log_sigmoid(x: Values) -> Values:
    """``log(sigmoid(x))``, without overflow or cancellation."""
    return -softplus(-x)


@ACTIVATIONS.add
def gelu(x: Values) -> Values:
    """``x * Phi(x)`` with the normal distribution function, by erf (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    return _gelu(x, approximate=False)


@ACTIVATIONS.add
def gelu_tanh(x: Values) -> Values:
    """`gelu` by its tanh approximation, within 0.0005 of it (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    return _gelu(x, approximate=True)


def _gelu(x: Values, approximate: bool) -> Values:
    x = x.astype(np.float64) if x.dtype.kind in "biu" else x
    return apply_parts(find_op("gelu"), x, approximate=approximate)[0]


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
def exponential(x: Values) -> Values:
    """``exp(x)``."""
    return np.exp(x)


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
    if is_whole(activation):
        raise ArgumentError(
            f"an activation is a name, a function or None, got {activation!r}: layers take the number of features from their input."
        )
    return activation if callable(activation) else ACTIVATIONS.find(activation)
