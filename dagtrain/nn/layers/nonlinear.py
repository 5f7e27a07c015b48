"""Activations with settings or parameters of their own, as layers; others are ``Activation("gelu")``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dagtrain.arguments import is_whole, not_negative
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn import activations, initializers
from dagtrain.nn.context import Context
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values, apply_op, floating
from dagtrain.ops import find as find_op

__all__ = ["ELU", "LeakyReLU", "PReLU", "Softmax"]


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """`x` above 0 and ``negative_slope * x`` below; see `dagtrain.nn.activations.leaky_relu`.

    Raises
    ------
    ArgumentError
        If the slope is negative.

    Examples
    --------
    >>> import numpy as np
    >>> LeakyReLU().apply({}, {}, np.array([[-1.0, 2.0]]))[0]
    array([[-0.3,  2. ]])
    """

    negative_slope: float = 0.3
    name: str | None = None
    per_position = True

    def __post_init__(self) -> None:
        not_negative(f"{self.name or 'LeakyReLU'}: negative_slope", self.negative_slope)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"slope {self.negative_slope:g} below 0"

    def forward(self, c: Context, x: Values) -> Values:
        """The activation of each element."""
        return activations.leaky_relu(floating(x, c.dtype), self.negative_slope)


@dataclass(frozen=True)
class ELU(Layer):
    """`x` above 0 and ``alpha * (exp(x) - 1)`` below; see `dagtrain.nn.activations.elu`.

    Raises
    ------
    ArgumentError
        If `alpha` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> ELU(2.0).apply({}, {}, np.array([[-100.0, 2.0]]))[0]
    array([[-2.,  2.]])
    """

    alpha: float = 1.0
    name: str | None = None
    per_position = True

    def __post_init__(self) -> None:
        not_negative(f"{self.name or 'ELU'}: alpha", self.alpha)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"alpha {self.alpha:g}"

    def forward(self, c: Context, x: Values) -> Values:
        """The activation of each element."""
        return activations.elu(floating(x, c.dtype), self.alpha)


@dataclass(frozen=True)
class PReLU(Layer):
    """`x` above 0 and ``alpha * x`` below, where `alpha` is trained.

    Source: He et al., "Delving deep into rectifiers", arXiv:1502.01852, section 2.1.

    Parameters
    ----------
    alpha_initializer
        Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
    shared_axes
        Axes, counted from 1, along which elements share one alpha: (1, 2) for one for each channel of a picture. Without them each element
        of a sample has its own.

    Raises
    ------
    ArgumentError
        If the axes are no whole numbers from 1 up.
    ShapeError
        If the samples lack such an axis.

    Examples
    --------
    >>> PReLU(shared_axes=(1, 2)).summary((1, 28, 28, 8)).parameters
    8
    """

    alpha_initializer: str | Initializer = "zeros"
    shared_axes: tuple[int, ...] | None = None
    name: str | None = None
    trainable: bool = True
    per_position = True
    detail = "trained slope below 0"

    def __post_init__(self) -> None:
        initializers.find(self.alpha_initializer)
        axes = self.shared_axes
        if axes is not None and not (isinstance(axes, tuple | list) and all(is_whole(axis) and axis > 0 for axis in axes)):
            raise ArgumentError(f"{self.name or 'PReLU'}: shared_axes are axes of a sample counted from 1, as in (1, 2), got {axes!r}.")

    def forward(self, c: Context, x: Values) -> Values:
        """The activation of each element."""
        shared = self.shared_axes or ()
        if any(axis >= x.ndim for axis in shared):
            raise ShapeError(f"PReLU: shared_axes {tuple(shared)} are not all axes of samples of shape {tuple(x.shape[1:])}.")
        shape = tuple(1 if axis in shared else n for axis, n in enumerate(x.shape) if axis)
        alpha = c.parameter("alpha", shape, self.alpha_initializer)
        x = x if x.dtype == alpha.dtype else x.astype(alpha.dtype)
        return np.where(x > 0, x, alpha * x)


@dataclass(frozen=True)
class Softmax(Layer):
    """``exp(x) / sum(exp(x))`` along an axis, without overflow.

    Losses of class labels take logits, so a model that is trained ends without it.

    Raises
    ------
    ArgumentError
        If the axis is no whole number other than 0, that of the samples.

    Examples
    --------
    >>> import numpy as np
    >>> Softmax().apply({}, {}, np.array([[1000.0, 1000.0]]))[0]
    array([[0.5, 0.5]])
    """

    axis: int = -1
    name: str | None = None
    detail = "softmax"

    def __post_init__(self) -> None:
        if not is_whole(self.axis) or self.axis == 0:
            raise ArgumentError(f"{self.name or 'Softmax'}: axis is a whole number other than 0 (the samples), got {self.axis!r}.")

    def forward(self, c: Context, x: Values) -> Values:
        """The softmax."""
        if not -x.ndim < self.axis < x.ndim:
            raise ShapeError(f"Softmax: samples of shape {tuple(x.shape[1:])} have no axis {self.axis}.")
        return apply_op(find_op("softmax"), floating(x, c.dtype), axis=self.axis % x.ndim)
