"""Layers without state: Dense, Activation, Flatten, Dropout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Spec
from dagtrain.nn import activations, initializers
from dagtrain.nn.activations import ActivationFunction
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layer import Nest, parameter_dtype
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op
from dagtrain.ops.random import derive

__all__ = ["Activation", "Dense", "Dropout", "Flatten"]


def _title(activation: str | ActivationFunction | None) -> str:
    return "" if activation is None else activation if isinstance(activation, str) else getattr(activation, "__name__", "activation")


@dataclass(frozen=True)
class Dense:
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
    kernel_init, bias_init
        Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
    name
        Name in parameters, errors and pictures; by default ``dense_1``, ``dense_2`` and so on.

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
    >>> params, state = layer.init(dt.key(0), dt.Spec((8, 2), np.dtype("f4")))
    >>> {name: array.shape for name, array in params.items()}
    {'kernel': (2, 3), 'bias': (3,)}
    >>> layer.apply(params, state, np.ones((8, 2), "f4"))[0].shape
    (8, 3)
    """

    units: int
    activation: str | ActivationFunction | None = None
    use_bias: bool = True
    kernel_init: str | Initializer = "glorot_uniform"
    bias_init: str | Initializer = "zeros"
    name: str | None = None

    def __post_init__(self) -> None:
        whole(f"{self.name or 'Dense'}: units", self.units)
        activations.find(self.activation)
        initializers.find(self.kernel_init)
        initializers.find(self.bias_init)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return _title(self.activation)

    def init(self, key: Any, spec: Spec) -> tuple[Nest, Nest]:
        """Kernel of shape (features, units) and bias of shape (units,)."""
        if spec.ndim < 2:
            raise ShapeError(
                f"Dense needs samples and features, shape (batch, features), got {spec}. Reshape x to (-1, 1) for one feature."
            )
        dtype = parameter_dtype(spec)
        shape = (spec.shape[-1], int(self.units))
        params = {"kernel": np.asarray(initializers.find(self.kernel_init)(derive(key, 0), shape, dtype), dtype)}
        if self.use_bias:
            params["bias"] = np.asarray(initializers.find(self.bias_init)(derive(key, 1), shape[1:], dtype), dtype)
        return params, {}

    def apply(self, params: Nest, state: Nest, x: Values, *, key: Any = None, training: bool = False) -> tuple[Values, Nest]:
        """Output of shape (..., units)."""
        kernel = params["kernel"]
        if not x.ndim or x.shape[-1] != kernel.shape[0]:
            raise ShapeError(f"Dense has a kernel of shape {kernel.shape} and takes {kernel.shape[0]} features, got x of shape {x.shape}.")
        # Without the cast, integer or float64 data would make every later layer compute in float64.
        y = (x if x.dtype == kernel.dtype else x.astype(kernel.dtype)) @ kernel
        if self.use_bias:
            y = y + params["bias"]
        return activations.find(self.activation)(y), {}


@dataclass(frozen=True)
class Activation:
    """An activation as a layer of its own.

    Examples
    --------
    >>> import numpy as np
    >>> Activation("relu").apply({}, {}, np.array([[-1.0, 2.0]]))[0]
    array([[0., 2.]])
    """

    function: str | ActivationFunction
    name: str | None = None

    def __post_init__(self) -> None:
        activations.find(self.function)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return _title(self.function)

    def init(self, key: Any, spec: Spec) -> tuple[Nest, Nest]:
        """No parameters and no state."""
        return {}, {}

    def apply(self, params: Nest, state: Nest, x: Values, *, key: Any = None, training: bool = False) -> tuple[Values, Nest]:
        """The activation of each element (for softmax: along the last axis)."""
        return activations.find(self.function)(x), {}


@dataclass(frozen=True)
class Flatten:
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

    def init(self, key: Any, spec: Spec) -> tuple[Nest, Nest]:
        """No parameters and no state."""
        return {}, {}

    def apply(self, params: Nest, state: Nest, x: Values, *, key: Any = None, training: bool = False) -> tuple[Values, Nest]:
        """Shape (samples, product of the other axes)."""
        return x.reshape((x.shape[0], math.prod(x.shape[1:]))), {}


@dataclass(frozen=True)
class Dropout:
    """In training, set each element to 0 with probability `rate` and divide the others by ``1 - rate``; otherwise do nothing.

    The mask is a function of the key alone. The model gives each of its dropouts a key of its own.

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

    def __post_init__(self) -> None:
        fraction(f"{self.name or 'Dropout'}: rate", self.rate)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"drops {100 * self.rate:g} %"

    def init(self, key: Any, spec: Spec) -> tuple[Nest, Nest]:
        """No parameters and no state."""
        return {}, {}

    def apply(self, params: Nest, state: Nest, x: Values, *, key: Any = None, training: bool = False) -> tuple[Values, Nest]:
        """`x`, in training with elements set to 0."""
        if not training or self.rate == 0:
            return x, {}
        if key is None:
            raise ArgumentError("Dropout needs a key in training: apply(..., key=dagtrain.key(seed), training=True).")
        keep = 1 - self.rate
        x = x if x.dtype.kind == "f" else x.astype(np.float32)
        uniform = apply_op(find_op("random_uniform"), key, shape=tuple(x.shape), dtype=np.dtype(np.float32).str)
        # A NumPy number of x's dtype: a Python number would turn the boolean mask into float64.
        return x * ((uniform < np.float32(keep)) * x.dtype.type(1 / keep)), {}
