"""Layers that are random in training and do nothing otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagtrain.arguments import fraction, not_negative
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers.by_lengths import ByLengths
from dagtrain.nn.values import Values, apply_op, floating
from dagtrain.ops import find as find_op

__all__ = ["Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"]


def kept(c: Context, rate: float, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Values:
    """What dropout multiplies with: 0 with probability `rate`, else ``1 / (1 - rate)``."""
    keep = 1 - rate
    uniform = apply_op(find_op("random_uniform"), c.key(), shape=shape, dtype=np.dtype(np.float32).str)
    # A NumPy number of this dtype: a Python number would turn the boolean mask into float64.
    return (uniform < np.float32(keep)) * dtype.type(1 / keep)


@dataclass(frozen=True)
class _Dropping(Layer):
    """In training, elements are multiplied with random factors; `rate` says how far these are from 1."""

    rate: float
    name: str | None = None
    per_position = True
    word: ClassVar[str]

    def __post_init__(self) -> None:
        fraction(f"{self.name or type(self).__name__}: rate", self.rate)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return self.word.format(100 * self.rate)

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training times the factors."""
        if not c.training or self.rate == 0:
            return x
        x = floating(x, c.dtype)
        return x * self.factors(c, x)

    def factors(self, c: Context, x: Values) -> Values:
        """The factors, of a shape that broadcasts to x."""
        raise NotImplementedError


class Dropout(_Dropping):
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

    word = "drops {:g} %"

    def factors(self, c: Context, x: Values) -> Values:
        """A factor for each element."""
        return kept(c, self.rate, tuple(x.shape), x.dtype)


class _SpatialDropout(ByLengths, _Dropping):
    word = "drops {:g} % of the channels"

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training with channels set to 0."""
        return super().forward(c, self.checked(x))

    def factors(self, c: Context, x: Values) -> Values:
        """A factor for each channel of a sample."""
        return kept(c, self.rate, (x.shape[0], *(1,) * self.lengths, x.shape[-1]), x.dtype)


class SpatialDropout1D(_SpatialDropout):
    """`Dropout` of whole channels of a line; arguments as of `SpatialDropout2D`.

    Examples
    --------
    >>> SpatialDropout1D(0.5).output_spec((2, 9, 4)).shape
    (2, 9, 4)
    """

    lengths = 1


class SpatialDropout2D(_SpatialDropout):
    """`Dropout` of whole channels of a picture: neighbouring elements of one channel say much the same, so they drop together.

    Source: Tompson et al., "Efficient object localization using convolutional networks", arXiv:1411.4280, section 3.2.

    Raises
    ------
    ArgumentError
        If `rate` is not in [0, 1), or `training` is set without a key.

    Examples
    --------
    >>> import numpy as np
    >>> import dagtrain as dt
    >>> y, _ = SpatialDropout2D(0.5).apply({}, {}, np.ones((1, 4, 4, 6), "f4"), key=dt.key(0), training=True)
    >>> np.unique(y.reshape(16, 6), axis=0)
    array([[0., 2., 2., 0., 2., 2.]], dtype=float32)
    """

    lengths = 2


class SpatialDropout3D(_SpatialDropout):
    """`Dropout` of whole channels of a volume; arguments as of `SpatialDropout2D`.

    Examples
    --------
    >>> SpatialDropout3D(0.5).output_spec((2, 4, 4, 4, 3)).shape
    (2, 4, 4, 4, 3)
    """

    lengths = 3


def _normal(c: Context, x: Values) -> Values:
    return apply_op(find_op("random_normal"), c.key(), shape=tuple(x.shape), dtype=x.dtype.str)


@dataclass(frozen=True)
class GaussianNoise(Layer):
    """In training, add to each element a number from the normal distribution with mean 0; otherwise do nothing.

    Parameters
    ----------
    stddev
        Standard deviation of the numbers, from 0 up.

    Raises
    ------
    ArgumentError
        If `stddev` is negative, or `training` is set without a key.

    Examples
    --------
    >>> import numpy as np
    >>> GaussianNoise(0.1).apply({}, {}, np.ones((1, 2)))[0]
    array([[1., 1.]])
    """

    stddev: float
    name: str | None = None
    per_position = True

    def __post_init__(self) -> None:
        not_negative(f"{self.name or 'GaussianNoise'}: stddev", self.stddev)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"noise of {self.stddev:g}"

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training with noise."""
        if not c.training or self.stddev == 0:
            return x
        x = floating(x, c.dtype)
        return x + _normal(c, x) * self.stddev


class GaussianDropout(_Dropping):
    """In training, multiply each element by a number from the normal distribution with mean 1; otherwise do nothing.

    The standard deviation ``sqrt(rate / (1 - rate))`` is that of the factors of `Dropout` with this rate.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014), section 10.

    Raises
    ------
    ArgumentError
        If `rate` is not in [0, 1), or `training` is set without a key.

    Examples
    --------
    >>> import numpy as np
    >>> GaussianDropout(0.1).apply({}, {}, np.ones((1, 2)))[0]
    array([[1., 1.]])
    """

    word = "factors as of {:g} % dropped"

    def factors(self, c: Context, x: Values) -> Values:
        """A factor for each element."""
        return 1 + _normal(c, x) * math.sqrt(self.rate / (1 - self.rate))
