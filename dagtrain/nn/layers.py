"""Layers without state: Dense, Activation, Flatten, Dropout, and those that merge several inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from dagtrain.arguments import fraction, is_whole, whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn import activations, initializers
from dagtrain.nn.activations import ActivationFunction
from dagtrain.nn.context import Context
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layer import Layer
from dagtrain.nn.symbolic import OPERATORS
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["Activation", "Add", "Concatenate", "Dense", "Dropout", "Flatten", "Multiply"]


def _title(activation: str | ActivationFunction | None) -> str:
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
        return _title(self.activation)

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
        return _title(self.function)

    def forward(self, c: Context, x: Values) -> Values:
        """The activation of each element (for softmax: along the last axis)."""
        return activations.find(self.function)(x)


@dataclass(frozen=True)
class Flatten(Layer):
    """Join all axes but the first.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten().apply({}, {}, np.zeros((5, 8, 8)))[0].shape
    (5, 64)
    """

    name: str | None = None

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "flatten"

    def forward(self, c: Context, x: Values) -> Values:
        """Shape (samples, product of the other axes)."""
        return x.reshape((x.shape[0], math.prod(x.shape[1:])))


@dataclass(frozen=True)
class Dropout(Layer):
    """In training, set each element to 0 with probability `rate` and divide the others by ``1 - rate``; otherwise do nothing.

    The mask is a function of the key alone. In a model each call has a key of its own, by the layer's name: a Dropout with a name keeps its
    noise when others are added before it.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014); scaled in training as in
    its section 10.

    Raises
    ------
    ArgumentError
        If `rate` is not in [0, 1), or `training` is set without a key.

    Examples
    --------
    >>> import numpy as np
    >>> import dagtrain as dt
    >>> y, _ = Dropout(0.5).apply({}, {}, np.ones((1000, 10), "f4"), key=dt.key(0), training=True)
    >>> sorted(set(y.ravel().tolist()))
    [0.0, 2.0]
    """

    rate: float
    name: str | None = None
    per_position = True

    def __post_init__(self) -> None:
        fraction(f"{self.name or 'Dropout'}: rate", self.rate)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"drops {100 * self.rate:g} %"

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training with elements set to 0."""
        if not c.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        x = x if x.dtype.kind == "f" else x.astype(c.dtype)
        uniform = apply_op(find_op("random_uniform"), c.key(), shape=tuple(x.shape), dtype=np.dtype(np.float32).str)
        # A NumPy number of x's dtype: a Python number would turn the boolean mask into float64.
        return x * ((uniform < np.float32(keep)) * x.dtype.type(1 / keep))


# ---- several inputs


def _merged(kind: str, inputs: tuple[Values, ...], combine: Callable[[Values, Values], Values]) -> Values:
    if len(inputs) < 2:
        raise ArgumentError(f"{kind} takes two inputs or more, as in {kind}()([a, b]), got {len(inputs)}.")
    if len({x.shape for x in inputs}) > 1:
        raise ShapeError(f"{kind} takes inputs of one shape, got {', '.join(str(x.shape) for x in inputs)}.")
    return reduce(combine, inputs)


@dataclass(frozen=True)
class Add(Layer):
    """The sum of its inputs, which have one shape.

    Examples
    --------
    >>> import numpy as np
    >>> Add().apply({}, {}, np.ones((2, 3)), np.ones((2, 3)))[0][0]
    array([2., 2., 2.])
    """

    name: str | None = None

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "sum"

    def forward(self, c: Context, *inputs: Values) -> Values:
        """The sum."""
        return _merged("Add", inputs, lambda a, b: a + b)


@dataclass(frozen=True)
class Multiply(Layer):
    """The product of its inputs, which have one shape, element by element.

    Examples
    --------
    >>> import numpy as np
    >>> Multiply().apply({}, {}, np.full((2, 3), 2.0), np.full((2, 3), 3.0))[0][0]
    array([6., 6., 6.])
    """

    name: str | None = None

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "product"

    def forward(self, c: Context, *inputs: Values) -> Values:
        """The product."""
        return _merged("Multiply", inputs, lambda a, b: a * b)


@dataclass(frozen=True)
class Concatenate(Layer):
    """Its inputs joined along an axis.

    Parameters
    ----------
    axis
        The axis to join along; 0 is that of the samples and cannot be joined.

    Examples
    --------
    >>> import numpy as np
    >>> Concatenate().apply({}, {}, np.zeros((5, 2)), np.zeros((5, 3)))[0].shape
    (5, 5)
    """

    axis: int = -1
    name: str | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.axis) or self.axis == 0:
            raise ArgumentError(f"{self.name or 'Concatenate'}: axis is a whole number other than 0 (the samples), got {self.axis!r}.")

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "joined"

    def forward(self, c: Context, *inputs: Values) -> Values:
        """The joined inputs."""
        ndim = inputs[0].ndim if inputs else 0
        if len(inputs) < 2 or not -ndim < self.axis < ndim:
            raise ShapeError(
                f"Concatenate takes two inputs or more with an axis {self.axis} that is not the samples', "
                f"got {', '.join(str(x.shape) for x in inputs)}."
            )
        axis = self.axis % ndim
        if len({(*x.shape[:axis], *x.shape[axis + 1 :]) for x in inputs}) > 1:
            raise ShapeError(
                f"Concatenate takes inputs that differ in axis {self.axis} alone, got {', '.join(str(x.shape) for x in inputs)}."
            )
        return np.concatenate(inputs, axis=axis)


OPERATORS.fill({"+": Add, "*": Multiply})
