"""Layers that turn, shift and stretch pictures at random in training.

Each element of the new picture is looked up in the old one, at a place that an affine map gives, between four elements (bilinear):

    place = matrix @ (element - middle) + shift + middle          value = Σ weight of a corner × its element
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError
from dagtrain.nn.context import Context
from dagtrain.nn.layers.augmentation import Augmentation, spread, taken, uniform
from dagtrain.nn.values import Values

__all__ = ["RandomAffine", "RandomRotation", "RandomTranslation", "RandomZoom"]

Range = float | tuple[float, float]


class Border(NamedTuple):
    """How places beyond the border are looked up.

    Attributes
    ----------
    place
        (places, length) → places, of which the corners lie at most one element beyond the border.
    corner
        (numbers of elements, length) → numbers within the picture.
    """

    place: Callable[[Values, int], Values]
    corner: Callable[[Values, int], Values]


def _reflected(places: Values, length: int) -> Values:
    """The picture mirrored at its border: d c b a | a b c d | d c b a."""
    wave = np.remainder(places + 0.5, 2.0 * length)
    return np.minimum(wave, 2.0 * length - wave) - 0.5


def _limited(numbers: Values, length: int) -> Values:
    return np.clip(numbers, 0, length - 1)


BORDERS = {
    "constant": Border(lambda places, length: places, _limited),
    "nearest": Border(_limited, _limited),
    "reflect": Border(_reflected, _limited),
    "wrap": Border(
        lambda places, length: np.remainder(places, float(length)), lambda numbers, length: np.remainder(numbers, float(length))
    ),
}


def warped(x: Values, matrix: list[list[Values]], shift: list[Values], fill_mode: str, fill_value: float, interpolation: str) -> Values:
    """Pictures whose elements are those of `x` at other places.

    Parameters
    ----------
    x
        Pictures of floats.
    matrix, shift
        Of the places, in elements: numbers for each picture, of shape (samples,).
    fill_mode
        A border: "constant" (`fill_value`), "nearest", "reflect" or "wrap".
    interpolation
        "bilinear" or "nearest".
    """
    lengths, dtype, border = x.shape[1:3], x.dtype, BORDERS[fill_mode]
    middles = [(n - 1) / 2 for n in lengths]
    down, across = (np.arange(n, dtype=dtype) - dtype.type(middle) for n, middle in zip(lengths, middles, strict=True))
    corners = []
    for row, offset, middle, length in zip(matrix, shift, middles, lengths, strict=True):
        place = spread(row[0], 3) * down.reshape(1, -1, 1) + spread(row[1], 3) * across.reshape(1, 1, -1) + (spread(offset, 3) + middle)
        corners.append(_corners(border.place(place, length), interpolation))
    total: Any = None
    for top, height in corners[0]:
        for left, width in corners[1]:
            numbers = [border.corner(number, length) for number, length in zip((top, left), lengths, strict=True)]
            value = taken(x, *(number.astype(np.int64) for number in numbers))
            if fill_mode == "constant":
                inside = np.logical_and(numbers[0] == top, numbers[1] == left)
                value = np.where(_of_pixels(inside), value, dtype.type(fill_value))
            value = value if interpolation == "nearest" else value * _of_pixels(height * width)
            total = value if total is None else total + value
    return total


def _corners(places: Values, interpolation: str) -> list[tuple[Values, Values]]:
    """The elements around places along one length, with their weights."""
    if interpolation == "nearest":
        return [(np.floor(places + 0.5), 1.0)]
    first = np.floor(places)
    return [(first, 1 - (places - first)), (first + 1, places - first)]


def _of_pixels(values: Values) -> Values:
    """A value for each pixel, with an axis for the channels."""
    return values.reshape((*values.shape, 1))


_TURNS = "full turns (20 degrees are 20 / 360)"
_PARTS = {"factor": _TURNS, "rotation": _TURNS, "height_factor": "parts of the height", "width_factor": "parts of the width"}


class _Warp(Augmentation):
    fill_mode: str
    fill_value: float
    interpolation: str
    ranges: ClassVar[tuple[str, ...]]
    """The arguments that are ranges."""
    zooms: ClassVar[tuple[str, ...]] = ()
    """Those that are changes of size; by -1, nothing would be left."""

    def __post_init__(self) -> None:
        one_of(f"fill_mode of {self.title}:", self.fill_mode, BORDERS)
        one_of(f"interpolation of {self.title}:", self.interpolation, ("bilinear", "nearest"))
        for argument in self.ranges:
            value = getattr(self, argument)
            if value is not None and self.ranged(argument, value)[0] <= -1 and argument in self.zooms:
                raise ArgumentError(f"{self.title}: {argument} is above -1, got {value!r}.")
            if argument in _PARTS and argument not in self.zooms and max(map(abs, self.ranged(argument, value))) > 1:
                raise ArgumentError(f"{self.title}: {argument} is in {_PARTS[argument]}, from -1 to 1, got {value!r}.")

    def drawn(self, c: Context, x: Values, argument: str) -> Values:
        """A number for each picture, from the range of an argument; none is drawn where it is one number."""
        low, high = self.ranged(argument, getattr(self, argument))
        if low == high:
            return np.full(x.shape[0], low, x.dtype)
        return uniform(c, x.shape[0], low, high, x.dtype)

    def shift(self, c: Context, x: Values) -> list[Values]:
        """Elements down and to the right, from the new picture to the old one."""
        return [self.drawn(c, x, name) * -n for name, n in zip(("height_factor", "width_factor"), x.shape[1:3], strict=True)]

    def map_of(self, c: Context, x: Values) -> tuple[list[list[Values]], list[Values]]:
        """The matrix and the shift for each picture."""
        raise NotImplementedError

    def forward(self, c: Context, x: Values) -> Values:
        """`x` in floats, in training changed at random."""
        x = self.pictures(c, x)
        return warped(x, *self.map_of(c, x), self.fill_mode, self.fill_value, self.interpolation) if c.training else x


def _constant(x: Values, number: float) -> Values:
    return np.full(x.shape[0], number, x.dtype)


@dataclass(frozen=True)
class RandomRotation(_Warp):
    """In training, turn each picture about its middle.

    Parameters
    ----------
    factor
        In full turns, against the clock: a number f, for -f to f, or a pair of ends.
    fill_mode
        What lies beyond the border: ``"reflect"`` (the picture mirrored), ``"nearest"`` (its border), ``"wrap"`` (the picture again) or
        ``"constant"``.
    fill_value
        The constant.
    interpolation
        ``"bilinear"`` (between four elements) or ``"nearest"`` (the nearest one).
    name
        Name in errors and pictures.

    Raises
    ------
    ArgumentError
        If a range is none.
    UnknownNameError
        If there is no such fill mode or interpolation.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]], "f4").reshape(1, 2, 2, 1)
    >>> RandomRotation((0.25, 0.25)).apply({}, {}, x, key=dt.key(0), training=True)[0].reshape(2, 2).round(3)
    array([[2., 4.],
           [1., 3.]], dtype=float32)
    """

    factor: Range
    fill_mode: str = "reflect"
    fill_value: float = 0.0
    interpolation: str = "bilinear"
    name: str | None = None
    detail, ranges = "turned", ("factor",)

    def map_of(self, c: Context, x: Values) -> tuple[list[list[Values]], list[Values]]:
        """A rotation."""
        return _turned(self.drawn(c, x, "factor")), [_constant(x, 0)] * 2


def _turned(turns: Values) -> list[list[Values]]:
    angle = turns * (2 * math.pi)
    sine, cosine = np.sin(angle), np.cos(angle)
    return [[cosine, sine], [-sine, cosine]]


@dataclass(frozen=True)
class RandomTranslation(_Warp):
    """In training, shift each picture.

    Parameters
    ----------
    height_factor, width_factor
        Down and to the right, in parts of the height and the width: a number f, for -f to f, or a pair of ends.
    fill_mode, fill_value, interpolation, name
        As of `RandomRotation`.

    Raises
    ------
    ArgumentError
        If a range is none.
    UnknownNameError
        If there is no such fill mode or interpolation.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = np.arange(4.0, dtype="f4").reshape(1, 1, 4, 1)
    >>> RandomTranslation(0.0, (0.25, 0.25), "constant").apply({}, {}, x, key=dt.key(0), training=True)[0].ravel()
    array([0., 0., 1., 2.], dtype=float32)
    """

    height_factor: Range
    width_factor: Range
    fill_mode: str = "reflect"
    fill_value: float = 0.0
    interpolation: str = "bilinear"
    name: str | None = None
    detail, ranges = "shifted", ("height_factor", "width_factor")

    def map_of(self, c: Context, x: Values) -> tuple[list[list[Values]], list[Values]]:
        """A shift."""
        one, zero = _constant(x, 1), _constant(x, 0)
        return [[one, zero], [zero, one]], self.shift(c, x)


@dataclass(frozen=True)
class RandomZoom(_Warp):
    """In training, show more of each picture (positive factors, so that all is smaller) or less.

    Parameters
    ----------
    height_factor, width_factor
        By how much more is shown of the height and the width: a number f, for -f to f, or a pair of ends, above -1. Without `width_factor`
        both have one factor.
    fill_mode, fill_value, interpolation, name
        As of `RandomRotation`.

    Raises
    ------
    ArgumentError
        If a range is none, or begins at -1 or below.
    UnknownNameError
        If there is no such fill mode or interpolation.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = np.array([1.0, 2.0, 3.0, 4.0], "f4").reshape(1, 1, 4, 1)
    >>> RandomZoom(0.0, (1.0, 1.0), "constant").apply({}, {}, x, key=dt.key(0), training=True)[0].ravel()
    array([0. , 1.5, 3.5, 0. ], dtype=float32)
    """

    height_factor: Range
    width_factor: Range | None = None
    fill_mode: str = "reflect"
    fill_value: float = 0.0
    interpolation: str = "bilinear"
    name: str | None = None
    detail = "smaller or larger"
    ranges = zooms = ("height_factor", "width_factor")

    def map_of(self, c: Context, x: Values) -> tuple[list[list[Values]], list[Values]]:
        """A change of size."""
        zero, height = _constant(x, 0), self.drawn(c, x, "height_factor") + 1
        width = height if self.width_factor is None else self.drawn(c, x, "width_factor") + 1
        return [[height, zero], [zero, width]], [zero] * 2


@dataclass(frozen=True)
class RandomAffine(_Warp):
    """In training, turn, shift, shear and zoom each picture, with one look-up for all.

    Parameters
    ----------
    rotation
        As the factor of `RandomRotation`.
    height_factor, width_factor
        As of `RandomTranslation`.
    zoom
        As the factor of `RandomZoom`.
    shear
        Columns of an element's row that each row is shifted by: a number f, for -f to f, or a pair of ends.
    fill_mode, fill_value, interpolation, name
        As of `RandomRotation`.

    Raises
    ------
    ArgumentError
        If a range is none.
    UnknownNameError
        If there is no such fill mode or interpolation.

    Examples
    --------
    >>> RandomAffine(rotation=0.03, zoom=0.1, fill_mode="constant").output_spec((1, 8, 8, 1)).shape
    (1, 8, 8, 1)
    """

    rotation: Range = 0.0
    height_factor: Range = 0.0
    width_factor: Range = 0.0
    zoom: Range = 0.0
    shear: Range = 0.0
    fill_mode: str = "reflect"
    fill_value: float = 0.0
    interpolation: str = "bilinear"
    name: str | None = None
    detail, zooms = "turned, shifted, stretched", ("zoom",)
    ranges = ("rotation", "height_factor", "width_factor", "zoom", "shear")

    def map_of(self, c: Context, x: Values) -> tuple[list[list[Values]], list[Values]]:
        """A shift, then a rotation, a shear and a change of size, from the new picture to the old one."""
        (a, b), (d, e) = _turned(self.drawn(c, x, "rotation"))
        shear, size = self.drawn(c, x, "shear"), self.drawn(c, x, "zoom") + 1
        matrix = [[size * a, size * b], [size * (d + shear * a), size * (e + shear * b)]]
        down, right = self.shift(c, x)
        return matrix, [row[0] * down + row[1] * right for row in matrix]
