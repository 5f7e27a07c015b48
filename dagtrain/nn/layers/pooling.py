"""Layers of pooling over windows, in one, two and three lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dagtrain.arguments import positive
from dagtrain.nn import spatial
from dagtrain.nn.context import Context
from dagtrain.nn.layers.by_lengths import ByLengths, times
from dagtrain.nn.spatial.geometry import Numbers, PaddingArgument, pads
from dagtrain.nn.values import Values, floating

__all__ = [
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "LpPooling1D",
    "LpPooling2D",
    "LpPooling3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
]


class _Windows(ByLengths):
    word: ClassVar[str]
    pool_size: Numbers
    strides: Numbers | None
    padding: PaddingArgument

    def __post_init__(self) -> None:
        window = self.each("pool_size", self.pool_size)
        strides = window if self.strides is None else self.each("strides", self.strides)
        pads(f"{self.title}: padding", self.padding, window, window, strides, (1,) * self.lengths)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"{self.word} of {times(self.each('pool_size', self.pool_size))}"


@dataclass(frozen=True)
class _Pooling(_Windows):
    pool_size: Numbers = 2
    strides: Numbers | None = None
    padding: PaddingArgument = "valid"
    name: str | None = None


class _Max(_Pooling):
    word = "maximum"

    def forward(self, c: Context, x: Values) -> Values:
        """The greatest element of each window."""
        return spatial.max_pool(self.checked(x), self.pool_size, self.strides, self.padding)


class _Average(_Pooling):
    word = "mean"

    def forward(self, c: Context, x: Values) -> Values:
        """The mean of each window."""
        return spatial.average_pool(floating(self.checked(x), c.dtype), self.pool_size, self.strides, self.padding)


class MaxPooling1D(_Max):
    """The greatest element of each window along one length; arguments as of `MaxPooling2D`.

    Examples
    --------
    >>> MaxPooling1D(3).output_spec((1, 9, 2)).shape
    (1, 3, 2)
    """

    lengths = 1


class MaxPooling2D(_Max):
    """The greatest element of each window, channel by channel; of equal ones the first has the derivative.

    Parameters
    ----------
    pool_size
        Elements of the window: one number, or one for each length.
    strides
        Elements from one window to the next; by default `pool_size`.
    padding
        As of `Conv2D`; padding is never the greatest.
    name
        Name in errors and pictures.

    Raises
    ------
    ArgumentError
        If a number is not a whole number above 0.

    Examples
    --------
    >>> MaxPooling2D().output_spec((1, 8, 8, 2)).shape, MaxPooling2D(3, 2, "same").output_spec((1, 8, 8, 2)).shape
    ((1, 4, 4, 2), (1, 4, 4, 2))
    """

    lengths = 2


class MaxPooling3D(_Max):
    """The greatest element of each window of a volume; arguments as of `MaxPooling2D`.

    Examples
    --------
    >>> MaxPooling3D().output_spec((1, 8, 8, 8, 2)).shape
    (1, 4, 4, 4, 2)
    """

    lengths = 3


class AveragePooling1D(_Average):
    """The mean of each window along one length; padding does not count. Arguments as of `MaxPooling2D`.

    Examples
    --------
    >>> AveragePooling1D(3).output_spec((1, 9, 2)).shape
    (1, 3, 2)
    """

    lengths = 1


class AveragePooling2D(_Average):
    """The mean of each window, channel by channel; padding does not count. Arguments as of `MaxPooling2D`.

    Examples
    --------
    >>> AveragePooling2D(5, 3).output_spec((1, 14, 14, 2)).shape
    (1, 4, 4, 2)
    """

    lengths = 2


class AveragePooling3D(_Average):
    """The mean of each window of a volume; padding does not count. Arguments as of `MaxPooling2D`.

    Examples
    --------
    >>> AveragePooling3D().output_spec((1, 8, 8, 8, 2)).shape
    (1, 4, 4, 4, 2)
    """

    lengths = 3


@dataclass(frozen=True)
class _Lp(_Windows):
    p: float
    pool_size: Numbers = 2
    strides: Numbers | None = None
    padding: PaddingArgument = "valid"
    name: str | None = None
    word = "norm"

    def __post_init__(self) -> None:
        positive(f"{self.title}: p", self.p)
        super().__post_init__()

    def forward(self, c: Context, x: Values) -> Values:
        """The norm of each window."""
        return spatial.lp_pool(self.checked(x), self.p, self.pool_size, self.strides, self.padding)


class LpPooling1D(_Lp):
    """The norm of order `p` of each window along one length; other arguments as of `MaxPooling2D`.

    Examples
    --------
    >>> LpPooling1D(2, 3).output_spec((1, 9, 2)).shape
    (1, 3, 2)
    """

    lengths = 1


class LpPooling2D(_Lp):
    """The norm of order `p` of each window, channel by channel; other arguments as of `MaxPooling2D`.

    Examples
    --------
    >>> LpPooling2D(2).output_spec((1, 8, 8, 2)).shape
    (1, 4, 4, 2)
    """

    lengths = 2


class LpPooling3D(_Lp):
    """The norm of order `p` of each window of a volume; other arguments as of `MaxPooling2D`.

    Examples
    --------
    >>> LpPooling3D(2).output_spec((1, 8, 8, 8, 2)).shape
    (1, 4, 4, 4, 2)
    """

    lengths = 3
