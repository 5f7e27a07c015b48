"""Layers that normalise features to mean 0 and variance 1: over the samples of a batch, or over the features of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, positive
from dagtrain.errors import ShapeError
from dagtrain.graph import Spec
from dagtrain.nn.layer import Nest, parameter_dtype
from dagtrain.nn.values import Values

__all__ = ["BatchNorm", "LayerNorm"]


@dataclass(frozen=True)
class BatchNorm:
    """``scale * (x - mean) / sqrt(variance + epsilon) + offset`` for each feature (last axis).

    In training, mean and variance are those of the batch (all axes but the last), and the state follows them:
    ``running = momentum * running + (1 - momentum) * batch``. Otherwise the running statistics are used. Both use the mean squared
    distance from the mean as variance.

    Source: Ioffe and Szegedy, "Batch normalization", arXiv:1502.03167, algorithm 1.

    Raises
    ------
    ArgumentError
        If `momentum` is not in [0, 1) or `epsilon` is not above 0.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> layer = BatchNorm(momentum=0.5)
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]], "f4")
    >>> params, state = layer.init(dt.key(0), dt.Spec((2, 2), np.dtype("f4")))
    >>> y, state = layer.apply(params, state, x, training=True)
    >>> state["mean"]
    array([ 1., 10.], dtype=float32)
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    name: str | None = None

    def __post_init__(self) -> None:
        fraction(f"{self.name or 'BatchNorm'}: momentum", self.momentum)
        positive(f"{self.name or 'BatchNorm'}: epsilon", self.epsilon)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "batch norm"

    def init(self, key: Any, spec: Spec) -> tuple[Nest, Nest]:
        """Scale 1 and offset 0; running mean 0 and variance 1."""
        shape, dtype = _features("BatchNorm", spec), parameter_dtype(spec)
        params = {"scale": np.ones(shape, dtype), "offset": np.zeros(shape, dtype)}
        return params, {"mean": np.zeros(shape, dtype), "variance": np.ones(shape, dtype)}

    def apply(self, params: Nest, state: Nest, x: Values, *, key: Any = None, training: bool = False) -> tuple[Values, Nest]:
        """The normalised batch, and in training the running statistics after it."""
        scale, offset = params["scale"], params["offset"]
        _check("BatchNorm", scale, x)
        x = x if x.dtype == scale.dtype else x.astype(scale.dtype)
        if not training:
            factor = scale / np.sqrt(state["variance"] + self.epsilon)
            return x * factor + (offset - state["mean"] * factor), state
        axes = tuple(range(x.ndim - 1))
        mean = np.mean(x, axis=axes)
        centred = x - mean
        variance = np.mean(np.square(centred), axis=axes)
        y = centred * (scale / np.sqrt(variance + self.epsilon)) + offset
        rest = 1 - self.momentum
        after = {
            "mean": self.momentum * state["mean"] + rest * mean,
            "variance": self.momentum * state["variance"] + rest * variance,
        }
        return y, after


@dataclass(frozen=True)
class LayerNorm:
    """``scale * (x - mean) / sqrt(variance + epsilon) + offset`` with mean and variance over the features (last axis) of each sample.

    Source: Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450, section 3.

    Raises
    ------
    ArgumentError
        If `epsilon` is not above 0.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> layer = LayerNorm()
    >>> params, state = layer.init(dt.key(0), dt.Spec((1, 4), np.dtype("f4")))
    >>> layer.apply(params, state, np.array([[1.0, 1.0, 3.0, 3.0]], "f4"))[0].round(3)
    array([[-1., -1.,  1.,  1.]], dtype=float32)
    """

    epsilon: float = 1e-5
    name: str | None = None

    def __post_init__(self) -> None:
        positive(f"{self.name or 'LayerNorm'}: epsilon", self.epsilon)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "layer norm"

    def init(self, key: Any, spec: Spec) -> tuple[Nest, Nest]:
        """Scale 1 and offset 0."""
        shape, dtype = _features("LayerNorm", spec), parameter_dtype(spec)
        return {"scale": np.ones(shape, dtype), "offset": np.zeros(shape, dtype)}, {}

    def apply(self, params: Nest, state: Nest, x: Values, *, key: Any = None, training: bool = False) -> tuple[Values, Nest]:
        """The normalised samples."""
        scale = params["scale"]
        _check("LayerNorm", scale, x)
        x = x if x.dtype == scale.dtype else x.astype(scale.dtype)
        centred = x - np.mean(x, axis=-1, keepdims=True)
        variance = np.mean(np.square(centred), axis=-1, keepdims=True)
        return centred / np.sqrt(variance + self.epsilon) * scale + params["offset"], {}


def _features(kind: str, spec: Spec) -> tuple[int, ...]:
    if spec.ndim < 2:
        raise ShapeError(f"{kind} needs samples and features, shape (batch, features), got {spec}.")
    return spec.shape[-1:]


def _check(kind: str, scale: Values, x: Values) -> None:
    if not x.ndim or x.shape[-1:] != scale.shape:
        raise ShapeError(f"{kind} has parameters for {scale.shape[0]} features, got x of shape {x.shape}.")
