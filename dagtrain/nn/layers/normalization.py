"""Layers that normalise features: over the samples of a batch, or over the features or channels of each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagtrain.arguments import fraction, is_whole, positive, whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn import spatial
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.masks import mask_of
from dagtrain.nn.values import Values, apply_parts, floating
from dagtrain.ops import find as find_op

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "LocalResponseNorm", "RMSNorm"]


@dataclass(frozen=True)
class BatchNorm(Layer):
    """``scale * (x - mean) / sqrt(variance + epsilon) + offset`` for each feature (last axis).

    In training, mean and variance are those of the shard (all axes but the last), and the state follows them:
    ``running = momentum * running + (1 - momentum) * batch``, the mean over shards weighted by their rows. Otherwise the running statistics
    are used. Both use the mean squared distance from the mean as variance, as Keras does (PyTorch's running variance is ``n / (n - 1)``
    times it, and its momentum is one minus this one). Where it is not trainable, it uses the running statistics in training too, and leaves
    them.

    Called with a mask of positions, or the length of each sequence, as second input, the positions outside it count in no statistics; a
    shard without any uses the running statistics and leaves them.

    Source: Ioffe and Szegedy, "Batch normalization", arXiv:1502.03167, algorithm 1.

    Parameters
    ----------
    momentum
        Of the running statistics, in [0, 1).
    epsilon
        Added to the variance.
    center, scale
        Whether it has the parameters offset and scale.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

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
    center: bool = True
    scale: bool = True
    name: str | None = None
    trainable: bool = True
    detail = "batch norm"

    def __post_init__(self) -> None:
        fraction(f"{self.name or 'BatchNorm'}: momentum", self.momentum)
        _small(f"{self.name or 'BatchNorm'}: epsilon", self.epsilon)

    def forward(self, c: Context, x: Values, mask: Values | None = None) -> Values:
        """The normalised batch; in training, the running statistics follow it."""
        shape = _features("BatchNorm", x)
        x, scale, offset = _prepared(c, x, shape, self.scale, self.center)
        running_mean, running_variance = c.state("mean", shape, "zeros", dtype=x.dtype), c.state("variance", shape, "ones", dtype=x.dtype)
        if not (c.training and c.trainable):
            factor = scale / np.sqrt(running_variance + self.epsilon)
            return x * factor + (offset - running_mean * factor)
        if mask is None:
            y, mean, variance = apply_parts(find_op("batch_norm"), x, scale, offset, epsilon=self.epsilon)
        else:
            mean, variance = _masked_moments(x, mask, running_mean, running_variance)
            y = (x - mean) * (scale / np.sqrt(variance + self.epsilon)) + offset
        rest = 1 - self.momentum
        c.update("mean", self.momentum * running_mean + rest * mean)
        c.update("variance", self.momentum * running_variance + rest * variance)
        return y


def _prepared(c: Context, x: Values, shape: tuple[int, ...], scale: bool, center: bool) -> tuple[Values, Values, Values]:
    """`x` in the floats of the model, and the parameters, or the numbers that stand for them."""
    if x.dtype.kind != "f" or (x.dtype != c.dtype and (scale or center)):
        x = x.astype(c.dtype)
    one, zero = (np.asarray(number, x.dtype) for number in (1, 0))
    return x, c.parameter("scale", shape, "ones") if scale else one, c.parameter("offset", shape, "zeros") if center else zero


def _masked_moments(x: Values, mask: Values, mean: Values, variance: Values) -> tuple[Values, Values]:
    """Mean and variance over the positions of a mask; these ones where it has none."""
    if tuple(mask.shape) != tuple(x.shape[: mask.ndim]) or not 0 < mask.ndim < x.ndim:
        raise ShapeError(f"BatchNorm: a mask has the first axes of x, of shape {tuple(x.shape)}, got {tuple(mask.shape)}.")
    if mask.ndim == 1 and mask.dtype.kind in "iu" and x.ndim > 2:
        mask = mask_of("BatchNorm", mask, x)
    weights = (mask if mask.dtype == bool else mask > 0).astype(x.dtype).reshape((*mask.shape, *(1,) * (x.ndim - mask.ndim)))
    axes = tuple(range(x.ndim - 1))
    count = np.sum(weights) * math.prod(x.shape[mask.ndim : -1])
    share = 1 / np.maximum(count, 1)
    # What is not in the mask may be any number, also one that is not finite.
    seen = np.sum(np.where(weights > 0, x, 0), axis=axes) * share
    spread = np.sum(np.where(weights > 0, np.square(x - seen), 0), axis=axes) * share
    return np.where(count > 0, seen, mean), np.where(count > 0, spread, variance)


class _SampleNorm(Layer):
    """A norm over some axes of each sample, those that `axis` says."""

    epsilon: float
    axis: int | tuple[int, ...]
    scale: bool
    center = False
    is_centred: ClassVar[bool]
    """Whether the mean is subtracted first."""

    def __post_init__(self) -> None:
        title, axes = self.name or type(self).__name__, self.axes
        _small(f"{title}: epsilon", self.epsilon)
        if not axes or not all(is_whole(a) and a for a in axes):
            raise ArgumentError(f"{title}: axis is a whole number other than 0 (the samples), or several of them, got {self.axis!r}.")

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes, as they are given."""
        return tuple(self.axis) if isinstance(self.axis, tuple | list) else (self.axis,)

    @property
    def per_position(self) -> bool:  # type: ignore[override]  # by its axes
        """Whether it is over the features alone."""
        return self.axes == (-1,)

    def forward(self, c: Context, x: Values) -> Values:
        """The normalised samples."""
        kind = type(self).__name__
        _features(kind, x)
        axes = tuple(sorted({a % x.ndim for a in self.axes if -x.ndim < a < x.ndim}))
        if len(axes) < len(self.axes):
            raise ShapeError(f"{kind}: samples of shape {tuple(x.shape[1:])} have not each of the axes {self.axes} once.")
        shape = tuple(x.shape[i] for i in axes)
        x, scale, offset = _prepared(c, x, shape, self.scale, self.center)
        if axes == tuple(range(axes[0], x.ndim)):  # one op, over the last axis
            flat = x.reshape((*x.shape[: axes[0]], math.prod(shape)))
            scale, offset = (p.reshape(-1) if p.ndim > 1 else p for p in (scale, offset))
            return apply_parts(find_op("layer_norm"), flat, scale, offset, epsilon=self.epsilon, center=self.is_centred)[0].reshape(x.shape)
        wide = tuple(n if i in axes else 1 for i, n in enumerate(x.shape))[axes[0] :]
        scale, offset = (p.reshape(wide) if p.ndim else p for p in (scale, offset))
        centred = x - np.mean(x, axis=axes, keepdims=True) if self.is_centred else x
        # One division for each sample, and a product for each element.
        y = centred * (1 / np.sqrt(np.mean(np.square(centred), axis=axes, keepdims=True) + self.epsilon)) * scale
        return y + offset if self.is_centred else y


@dataclass(frozen=True)
class LayerNorm(_SampleNorm):
    """``scale * (x - mean) / sqrt(variance + epsilon) + offset`` with mean and variance over some axes of each sample.

    Source: Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450, section 3.

    Parameters
    ----------
    epsilon
        Added to the variance.
    axis
        The axis or axes, not that of the samples; the last one, that of the features, by default. Scale and offset have their shape.
    center, scale
        Whether it has the parameters offset and scale.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

    Raises
    ------
    ArgumentError
        If `epsilon` is not above 0, or an axis is no whole number other than 0.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> layer = LayerNorm()
    >>> params, state = layer.init(dt.key(0), (1, 4))
    >>> layer.apply(params, state, np.array([[1.0, 1.0, 3.0, 3.0]], "f4"))[0].round(3)
    array([[-1., -1.,  1.,  1.]], dtype=float32)
    """

    epsilon: float = 1e-5
    axis: int | tuple[int, ...] = -1
    center: bool = True
    scale: bool = True
    name: str | None = None
    trainable: bool = True
    detail, is_centred = "layer norm", True


@dataclass(frozen=True)
class RMSNorm(_SampleNorm):
    """``scale * x / sqrt(mean of squares + epsilon)`` with the mean over some axes of each sample.

    Source: Zhang and Sennrich, "Root mean square layer normalization", arXiv:1910.07467, equation 4.

    Parameters
    ----------
    epsilon
        Added to the mean of squares.
    axis, scale, name, trainable
        As of `LayerNorm`.

    Raises
    ------
    ArgumentError
        If `epsilon` is not above 0, or an axis is no whole number other than 0.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> layer = RMSNorm()
    >>> params, state = layer.init(dt.key(0), (1, 2))
    >>> layer.apply(params, state, np.array([[3.0, 4.0]], "f4"))[0].round(3)
    array([[0.849, 1.131]], dtype=float32)
    """

    epsilon: float = 1e-6
    axis: int | tuple[int, ...] = -1
    scale: bool = True
    name: str | None = None
    trainable: bool = True
    detail, is_centred = "RMS norm", False


@dataclass(frozen=True)
class GroupNorm(Layer):
    """``scale * (x - mean) / sqrt(variance + epsilon) + offset``: mean and variance of each sample and group of channels (last axis).

    Source: Wu and He, "Group normalization", arXiv:1803.08494, section 3.

    Parameters
    ----------
    groups
        Number of groups, into which the channels divide; -1 makes one of each channel (instance normalisation).
    epsilon, center, scale, name, trainable
        As of `BatchNorm`.

    Raises
    ------
    ArgumentError
        If `groups` is no whole number above 0, nor -1; or `epsilon` is not above 0.
    ShapeError
        If the channels do not divide into the groups.

    Examples
    --------
    >>> GroupNorm(4).summary((1, 28, 28, 8)).parameters
    16
    """

    groups: int = 32
    epsilon: float = 1e-5
    center: bool = True
    scale: bool = True
    name: str | None = None
    trainable: bool = True

    def __post_init__(self) -> None:
        if self.groups != -1:
            whole(f"{self.name or 'GroupNorm'}: groups (if not -1)", self.groups)
        _small(f"{self.name or 'GroupNorm'}: epsilon", self.epsilon)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "instance norm" if self.groups == -1 else f"{self.groups} groups"

    def forward(self, c: Context, x: Values) -> Values:
        """The normalised samples."""
        (channels,) = _features("GroupNorm", x)
        groups = channels if self.groups == -1 else self.groups
        if channels % groups:
            raise ShapeError(f"GroupNorm: {channels} channels do not divide into {groups} groups.")
        x, scale, offset = _prepared(c, x, (channels,), self.scale, self.center)
        flat = x.reshape((x.shape[0], math.prod(x.shape[1:-1]), channels))
        centred = flat - _of_groups(flat, groups)
        inverse = 1 / np.sqrt(_of_groups(np.square(centred), groups) + self.epsilon)
        return (centred * (inverse * scale) + offset).reshape(x.shape)


def _of_groups(x: Values, groups: int) -> Values:
    """The mean of each sample and group, for each channel: of x (samples, elements, channels), of shape (samples, 1, channels)."""
    rows, _, channels = x.shape
    means = np.mean(np.mean(x, axis=1).reshape((rows, groups, channels // groups)), axis=2, keepdims=True)
    return np.broadcast_to(means, (rows, groups, channels // groups)).reshape((rows, 1, channels))


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
    detail = "response norm"

    def __post_init__(self) -> None:
        kind = self.name or "LocalResponseNorm"
        whole(f"{kind}: size", self.size)
        for argument, value in (("alpha", self.alpha), ("beta", self.beta), ("k", self.k)):
            positive(f"{kind}: {argument}", value)

    def forward(self, c: Context, x: Values) -> Values:
        """The normalised samples."""
        _features("LocalResponseNorm", x)
        return spatial.local_response_norm(floating(x, c.dtype), self.size, self.alpha, self.beta, self.k)


def _small(name: str, value: Any) -> None:
    """Raise ArgumentError for what is no epsilon, above all a number of features."""
    if is_whole(value) and value > 0:
        raise ArgumentError(f"{name} is a small number such as 1e-5, got {value!r}; the number of features is that of the input.")
    positive(name, value)


def _features(kind: str, x: Values) -> tuple[int, ...]:
    if x.ndim < 2:
        raise ShapeError(f"{kind} needs samples and features, shape (batch, features), got {x.shape}.")
    return tuple(x.shape[-1:])
