"""Layers that change pictures at random in training: mirrored, cut, covered, brighter, with more contrast.

Pictures are (samples, height, width, channels). Each picture draws numbers of its own from the layer's key, as Dropout does: the same on
any engine and any number of workers. Outside training these layers do nothing, but for `RandomCrop`, which then takes the middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain.arguments import is_number, one_of, whole
from dagtrain.errors import ArgumentError, DTypeError, ShapeError
from dagtrain.nn.context import Context
from dagtrain.nn.layers.by_lengths import ByLengths
from dagtrain.nn.values import Values, apply_op, floating
from dagtrain.ops import find as find_op

__all__ = ["Cutout", "RandomBrightness", "RandomContrast", "RandomCrop", "RandomFlip"]


class Augmentation(ByLengths):
    """A layer of pictures that is random in training."""

    lengths = 2

    def pictures(self, c: Context, x: Values) -> Values:
        """`x` in floats."""
        return floating(self.checked(x), c.dtype)

    def ranged(self, argument: str, value: Any) -> tuple[float, float]:
        """The ends of a range: a pair, or one number f, which stands for -f to f."""
        ends = value if isinstance(value, tuple | list) else (-value, value) if is_number(value) else ()
        if len(ends) != 2 or not all(map(is_number, ends)) or not np.isfinite(ends).all() or ends[0] > ends[1]:
            raise ArgumentError(f"{self.title}: {argument} is a number from 0 up, or a pair of its ends, got {value!r}.")
        return float(ends[0]), float(ends[1])


def uniform(c: Context, rows: int, low: float, high: float, dtype: Any) -> Values:
    """A number for each row, from [low, high)."""
    drawn = apply_op(find_op("random_uniform"), c.key(), shape=(rows,), dtype=np.dtype(dtype).str)
    return drawn * (high - low) + low


def spread(values: Values, ndim: int) -> Values:
    """A value for each row, with axes that broadcast to `ndim`."""
    return values.reshape((values.shape[0], *(1,) * (ndim - 1)))


@dataclass(frozen=True)
class RandomFlip(Augmentation):
    """In training, mirror each picture with probability 1/2: left and right, top and bottom, or each of both by itself.

    Parameters
    ----------
    mode
        ``"horizontal"``, ``"vertical"`` or ``"horizontal_and_vertical"``.
    name
        Name in errors and pictures.

    Raises
    ------
    UnknownNameError
        If there is no such mode.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = np.arange(3.0, dtype="f4").reshape(1, 1, 3, 1).repeat(4, axis=0)
    >>> RandomFlip("horizontal").apply({}, {}, x, key=dt.key(2), training=True)[0].reshape(4, 3)
    array([[2., 1., 0.],
           [2., 1., 0.],
           [0., 1., 2.],
           [2., 1., 0.]], dtype=float32)
    """

    mode: str = "horizontal_and_vertical"
    name: str | None = None

    def __post_init__(self) -> None:
        one_of(f"mode of {self.title}:", self.mode, ("horizontal", "vertical", "horizontal_and_vertical"))

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"mirrored, {self.mode.replace('_', ' ')}"

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training mirrored at random."""
        x = self.checked(x)
        if not c.training:
            return x
        for word, mirrored in (("horizontal", np.s_[:, :, ::-1]), ("vertical", np.s_[:, ::-1])):
            if word in self.mode:
                x = np.where(spread(uniform(c, x.shape[0], 0, 1, np.float32) < 0.5, 4), x[mirrored], x)
        return x


@dataclass(frozen=True)
class RandomCrop(Augmentation):
    """A part of each picture, at random in training, else the middle.

    A shift by up to 4 elements is ``[ZeroPadding2D(4), RandomCrop(height, width)]``.

    Parameters
    ----------
    height, width
        Of the part.
    name
        Name in errors and pictures.

    Raises
    ------
    ArgumentError
        If they are no whole numbers above 0.
    ShapeError
        If a picture is smaller.

    Examples
    --------
    >>> import numpy as np
    >>> RandomCrop(1, 1).apply({}, {}, np.arange(9.0).reshape(1, 3, 3, 1))[0].ravel()
    array([4.])
    """

    height: int
    width: int
    name: str | None = None

    def __post_init__(self) -> None:
        whole(f"{self.title}: height", self.height)
        whole(f"{self.title}: width", self.width)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"{self.height} × {self.width} of each"

    def forward(self, c: Context, x: Values) -> Values:
        """Shape (samples, height, width, channels)."""
        rows, height, width, _ = self.checked(x).shape
        spare = height - self.height, width - self.width
        if min(spare) < 0:
            raise ShapeError(f"{self.title}: a part of {self.height} × {self.width} is larger than pictures of {height} × {width}.")
        if not c.training:
            top, left = spare[0] // 2, spare[1] // 2
            return x[:, top : top + self.height, left : left + self.width]
        starts = [np.floor(uniform(c, rows, 0, n + 1, np.float64)).astype(np.int64) for n in spare]
        places = [(spread(start, 2) + np.arange(n)) for start, n in zip(starts, (self.height, self.width), strict=True)]
        return taken(x, places[0].reshape((rows, self.height, 1)), places[1].reshape((rows, 1, self.width)))


def taken(x: Values, places: Values, across: Values) -> Values:
    """The elements of each picture at rows and columns of its own."""
    return apply_op(find_op("gather"), x, np.arange(x.shape[0]).reshape(-1, 1, 1), places, across)


@dataclass(frozen=True)
class Cutout(Augmentation):
    """In training, cover a square of each picture, whose middle is any element, so that borders cut it.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", arXiv:1708.04552, section 3.2.

    Parameters
    ----------
    size
        Elements of its side.
    fill_value
        What covers it.
    name
        Name in errors and pictures.

    Raises
    ------
    ArgumentError
        If `size` is no whole number above 0.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> Cutout(2).apply({}, {}, np.ones((1, 3, 4, 1), "f4"), key=dt.key(0), training=True)[0].reshape(3, 4)
    array([[1., 0., 0., 1.],
           [1., 1., 1., 1.],
           [1., 1., 1., 1.]], dtype=float32)
    """

    size: int
    fill_value: float = 0.0
    name: str | None = None

    def __post_init__(self) -> None:
        whole(f"{self.title}: size", self.size)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"{self.size} × {self.size} covered"

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training with a square covered."""
        x = self.checked(x)
        if not c.training:
            return x
        middles = [np.floor(uniform(c, x.shape[0], 0, n, np.float64)) for n in x.shape[1:3]]
        starts = [middle - self.size // 2 for middle in middles]
        covered = box(starts, [start + self.size for start in starts], x.shape)
        return np.where(covered, np.asarray(self.fill_value, x.dtype), x)


def box(starts: list[Values], ends: list[Values], shape: tuple[int, ...]) -> Values:
    """Whether each element lies from the starts to below the ends, of height and width, of its picture; shape (n, height, width, 1)."""
    inside: Any = True
    for axis, (start, end) in enumerate(zip(starts, ends, strict=True), 1):
        numbers = np.arange(float(shape[axis])).reshape([-1 if i == axis else 1 for i in range(4)])
        inside = np.logical_and(inside, np.logical_and(numbers >= spread(start, 4), numbers < spread(end, 4)))
    return inside


@dataclass(frozen=True)
class _Pixels(Augmentation):
    factor: float | tuple[float, float]
    value_range: tuple[float, float] | None = (0.0, 1.0)
    name: str | None = None

    def __post_init__(self) -> None:
        self.ranged("factor", self.factor)
        if self.value_range is not None:
            self.ranged("value_range", self.value_range)

    def changed(self, c: Context, x: Values, change: Callable[[Values, Values], Values]) -> Values:
        """`x`, in training changed by a number for each picture and limited to the range."""
        if x.dtype.kind in "iu" and self.value_range is not None and self.ranged("value_range", self.value_range)[1] <= 1:
            raise DTypeError(
                f"{self.title}: pictures of {x.dtype} do not fit value_range={self.value_range!r}: put Rescaling(1 / 255) before, or give "
                "value_range=(0, 255)."
            )
        x = self.pictures(c, x)
        if not c.training:
            return x
        low, high = self.ranged("factor", self.factor)
        y = change(x, spread(uniform(c, x.shape[0], low, high, x.dtype), 4))
        return y if self.value_range is None else np.clip(y, *self.value_range)


class RandomBrightness(_Pixels):
    """In training, add a number to each picture: a part of the range of its values, drawn from that of `factor`.

    Parameters
    ----------
    factor
        A number f, for -f to f, or a pair of ends.
    value_range
        The least and the greatest value of a pixel, to which the result is limited; None: from 0 to 1, and no limits.
    name
        Name in errors and pictures.

    Raises
    ------
    ArgumentError
        If a range is none.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> RandomBrightness((0.25, 0.25)).apply({}, {}, np.array([[[[0.5], [0.9]]]], "f4"), key=dt.key(0), training=True)[0].ravel()
    array([0.75, 1.  ], dtype=float32)
    """

    detail = "brighter or darker"

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training brighter or darker."""
        low, high = self.value_range or (0.0, 1.0)
        return self.changed(c, x, lambda x, part: x + part * (high - low))


class RandomContrast(_Pixels):
    """In training, multiply the distances from each channel's mean by 1 plus a number drawn from the range of `factor`.

    Parameters
    ----------
    factor
        A number f, for -f to f, or a pair of ends.
    value_range
        The least and the greatest value of a pixel, to which the result is limited; None: no limits.
    name
        Name in errors and pictures.

    Raises
    ------
    ArgumentError
        If a range is none.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> RandomContrast((0.5, 0.5)).apply({}, {}, np.array([[[[0.4], [0.6]]]], "f4"), key=dt.key(0), training=True)[0].ravel().round(3)
    array([0.35, 0.65], dtype=float32)
    """

    detail = "more or less contrast"

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training with another contrast."""

        def change(x: Values, part: Values) -> Values:
            mean = np.mean(x, axis=(1, 2), keepdims=True)
            return (x - mean) * (1 + part) + mean

        return self.changed(c, x, change)
