"""Layers that normalise features to mean 0 and variance 1: over the samples of a batch, or over the features of each sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dagtrain.arguments import fraction, positive, whole
from dagtrain.errors import ShapeError
from dagtrain.nn import spatial
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values

__all__ = ["BatchNorm", "LayerNorm", "LocalResponseNorm"]


@dataclass(frozen=True)
class BatchNorm(Layer):
    """``scale * (x - mean) / sqrt(variance + epsilon) + offset`` for each feature (last axis).

    In training, mean and variance are those of the batch (all axes but the last), and the state follows them:
    ``running = momentum * running + (1 - momentum) * batch``. Otherwise the running statistics are used. Both use the mean squared
    distance from the mean as variance. Where it is not trainable, it uses the running statistics in training too.

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
    >>> params, state = layer.init(dt.key(0), (2, 2))
    >>> y, state = layer.apply(params, state, x, training=True)
    >>> state["mean"]
    array([ 1., 10.], dtype=float32)
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    name: str | None = None
    trainable: bool = True

    def __post_init__(self) -> None:
        fraction(f"{self.name or 'BatchNorm'}: momentum", self.momentum)
        positive(f"{self.name or 'BatchNorm'}: epsilon", self.epsilon)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "batch norm"

    def forward(self, c: Context, x: Values) -> Values:
        """The normalised batch; in training, the running statistics follow it."""
        shape = _features("BatchNorm", x)
        scale, offset = c.parameter("scale", shape, "ones"), c.parameter("offset", shape, "zeros")
        running_mean, running_variance = c.state("mean", shape, "zeros"), c.state("variance", shape, "ones")
        x = x if x.dtype == scale.dtype else x.astype(scale.dtype)
        if not (c.training and c.trainable):
            factor = scale / np.sqrt(running_variance + self.epsilon)
            return x * factor + (offset - running_mean * factor)
        axes = tuple(range(x.ndim - 1))
        mean = np.mean(x, axis=axes)
        centred = x - mean
        variance = np.mean(np.square(centred), axis=axes)
        rest = 1 - self.momentum
        c.update("mean", self.momentum * running_mean + rest * mean)
        c.update("variance", self.momentum * running_variance + rest * variance)
        return centred * (scale / np.sqrt(variance + self.epsilon)) + offset


@dataclass(frozen=True)
class LayerNorm(Layer):
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
    >>> params, state = layer.init(dt.key(0), (1, 4))
    >>> layer.apply(params, state, np.array([[1.0, 1.0, 3.0, 3.0]], "f4"))[0].round(3)
    array([[-1., -1.,  1.,  1.]], dtype=float32)
    """

    epsilon: float = 1e-5
    name: str | None = None
    trainable: bool = True
    per_position = True

    def __post_init__(self) -> None:
        positive(f"{self.name or 'LayerNorm'}: epsilon", self.epsilon)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "layer norm"

    def forward(self, c: Context, x: Values) -> Values:
        """The normalised samples."""
        shape = _features("LayerNorm", x)
        scale, offset = c.parameter("scale", shape, "ones"), c.parameter("offset", shape, "zeros")
        x = x if x.dtype == scale.dtype else x.astype(scale.dtype)
        centred = x - np.mean(x, axis=-1, keepdims=True)
        variance = np.mean(np.square(centred), axis=-1, keepdims=True)
        return centred / np.sqrt(variance + self.epsilon) * scale + offset


@dataclass(frozen=True)
class LocalResponseNorm(Layer):
    """``x / (k + alpha / size * sum of squares) ** beta`` with the sum over `size` neighbouring channels.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012, section 3.3, where
    alpha stands for ``alpha / size`` here.

    Raises
    ------
    ArgumentError
        If `size` is not a whole number above 0, or another number is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> LocalResponseNorm(3, alpha=3.0, beta=1.0).apply({}, {}, np.ones((1, 2, 2, 3)))[0][0, 0, 0].round(3)
    array([0.333, 0.25 , 0.333])
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0
    name: str | None = None
    per_position = True

    def __post_init__(self) -> None:
        kind = self.name or "LocalResponseNorm"
        whole(f"{kind}: size", self.size)
        for argument, value in (("alpha", self.alpha), ("beta", self.beta), ("k", self.k)):
            positive(f"{kind}: {argument}", value)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "response norm"

    def forward(self, c: Context, x: Values) -> Values:
        """The normalised samples."""
        _features("LocalResponseNorm", x)
        return spatial.local_response_norm(x if x.dtype.kind == "f" else x.astype(c.dtype), self.size, self.alpha, self.beta, self.k)


def _features(kind: str, x: Values) -> tuple[int, ...]:
    if x.ndim < 2:
        raise ShapeError(f"{kind} needs samples and features, shape (batch, features), got {x.shape}.")
    return tuple(x.shape[-1:])
