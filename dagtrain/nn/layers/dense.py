"""Layers of matrix products and activations."""

from __future__ import annotations

from dataclasses import dataclass

from dagtrain.arguments import whole
from dagtrain.errors import ShapeError
from dagtrain.nn import activations, initializers
from dagtrain.nn.activations import ActivationFunction
from dagtrain.nn.context import Context
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values

__all__ = ["Activation", "Dense"]


def title_of(activation: str | ActivationFunction | None) -> str:
    return "" if activation is None else activation if isinstance(activation, str) else getattr(activation, "__name__", "activation")


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer: ``activation(x @ kernel + bias)``.

    Works along the last axis and keeps the axes between samples and features. Computes in the dtype of its parameters.

    Parameters
    ----------
    units
        Length of the output's last axis.
    activation
        Name, function, or None.
    use_bias
        Whether a bias is added.
    kernel_initializer, bias_initializer
        Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
    name
        Name in parameters, errors and pictures; by default ``dense_1``, ``dense_2`` and so on.
    trainable
        Whether training changes kernel and bias.

    Raises
    ------
    ArgumentError
        If `units` is not a whole number above 0.
    UnknownNameError
        If there is no activation or initialiser of that name.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> layer = Dense(3, "relu")
    >>> params, state = layer.init(dt.key(0), (8, 2))
    >>> {name: array.shape for name, array in params.items()}
    {'kernel': (2, 3), 'bias': (3,)}
    >>> layer.apply(params, state, np.ones((8, 2), "f4"))[0].shape
    (8, 3)
    """

    units: int
    activation: str | ActivationFunction | None = None
    use_bias: bool = True
    kernel_initializer: str | Initializer = "glorot_uniform"
    bias_initializer: str | Initializer = "zeros"
    name: str | None = None
    trainable: bool = True
    per_position = True

    def __post_init__(self) -> None:
        whole(f"{self.name or 'Dense'}: units", self.units)
        activations.find(self.activation)
        initializers.find(self.kernel_initializer)
        initializers.find(self.bias_initializer)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return title_of(self.activation)

    def forward(self, c: Context, x: Values) -> Values:
        """Output of shape (..., units)."""
        if x.ndim < 2:
            raise ShapeError(
                f"Dense needs samples and features, shape (batch, features), got {x.shape}. Reshape x to (-1, 1) for one feature."
            )
        kernel = c.parameter("kernel", (x.shape[-1], self.units), self.kernel_initializer)
        # Without the cast, integer or float64 data would make every later layer compute in float64.
        y = (x if x.dtype == kernel.dtype else x.astype(kernel.dtype)) @ kernel
        if self.use_bias:
            y = y + c.parameter("bias", (self.units,), self.bias_initializer)
        return activations.find(self.activation)(y)


@dataclass(frozen=True)
class Activation(Layer):
    """An activation as a layer of its own.

    Examples
    --------
    >>> import numpy as np
    >>> Activation("relu").apply({}, {}, np.array([[-1.0, 2.0]]))[0]
    array([[0., 2.]])
    """

    function: str | ActivationFunction
    name: str | None = None
    per_position = True

    def __post_init__(self) -> None:
        activations.find(self.function)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return title_of(self.function)

    def forward(self, c: Context, x: Values) -> Values:
        """The activation of each element (for softmax: along the last axis)."""
        return activations.find(self.function)(x)
