"""Layers that change the lengths between samples and channels: larger pictures, and borders added or cut away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn import spatial
from dagtrain.nn.context import Context
from dagtrain.nn.layers.by_lengths import ByLengths, times
from dagtrain.nn.spatial.geometry import Numbers, PaddingArgument, pads
from dagtrain.nn.values import Values

__all__ = [
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]


@dataclass(frozen=True)
class _UpSampling(ByLengths):
    size: Numbers = 2
    interpolation: str = "nearest"
    name: str | None = None

    def __post_init__(self) -> None:
        self.each("size", self.size)
        one_of("interpolation", self.interpolation, ("nearest", "bilinear"))

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"× {times(self.each('size', self.size))}"

    def forward(self, c: Context, x: Values) -> Values:
        """Output with lengths `size` times as long."""
        sizes = tuple(n * factor for n, factor in zip(self.checked(x).shape[1:-1], self.each("size", self.size), strict=True))
        return spatial.resize(x, sizes, self.interpolation)


class UpSampling1D(_UpSampling):
    """`size` times the length, by copies or linear between elements; arguments as of `UpSampling2D`.

    Examples
    --------
    >>> UpSampling1D(3).output_spec((1, 4, 2)).shape
    (1, 12, 2)
    """

    lengths = 1


class UpSampling2D(_UpSampling):
    """Pictures with height and width times `size`: one number, or one for each.

    `interpolation` is ``"nearest"`` or ``"bilinear"``; see `dagtrain.nn.spatial.resize`.

    Examples
    --------
    >>> UpSampling2D((2, 3)).output_spec((1, 4, 4, 2)).shape
    (1, 8, 12, 2)
    """

    lengths = 2


class UpSampling3D(_UpSampling):
    """Volumes with each length times `size`; arguments as of `UpSampling2D`.

    Examples
    --------
    >>> UpSampling3D(2).output_spec((1, 4, 4, 4, 2)).shape
    (1, 8, 8, 8, 2)
    """

    lengths = 3


class _Border(ByLengths):
    def widths(self, what: str, border: PaddingArgument) -> tuple[tuple[int, int], ...]:
        """Elements before and after each length."""
        if isinstance(border, str):
            raise ArgumentError(f"{self.title}: {what} is a whole number, or for each length a number or a pair, got {border!r}.")
        one = (1,) * self.lengths
        border = (border,) if self.lengths == 1 and isinstance(border, tuple | list) else border
        return pads(f"{self.title}: {what}", border, one, one, one, one)


@dataclass(frozen=True)
class _Padding(_Border):
    padding: int | tuple[int | tuple[int, int], ...] = 1
    name: str | None = None
    detail = "zeros around"

    def __post_init__(self) -> None:
        self.widths("padding", self.padding)

    def forward(self, c: Context, x: Values) -> Values:
        """`x` with zeros around it."""
        return np.pad(self.checked(x), ((0, 0), *self.widths("padding", self.padding), (0, 0)))


class ZeroPadding1D(_Padding):
    """Zeros before and after the length: one number, or a pair.

    Examples
    --------
    >>> ZeroPadding1D((1, 2)).output_spec((1, 4, 2)).shape
    (1, 7, 2)
    """

    lengths = 1


class ZeroPadding2D(_Padding):
    """Zeros around pictures: one number, or for each length a number or a pair (before, after).

    Examples
    --------
    >>> ZeroPadding2D(((1, 2), (0, 3))).output_spec((1, 4, 4, 2)).shape
    (1, 7, 7, 2)
    """

    lengths = 2


class ZeroPadding3D(_Padding):
    """Zeros around volumes; `padding` as of `ZeroPadding2D`.

    Examples
    --------
    >>> ZeroPadding3D(1).output_spec((1, 4, 4, 4, 2)).shape
    (1, 6, 6, 6, 2)
    """

    lengths = 3


@dataclass(frozen=True)
class _Cropping(_Border):
    cropping: int | tuple[int | tuple[int, int], ...] = 1
    name: str | None = None
    detail = "cut"

    def __post_init__(self) -> None:
        self.widths("cropping", self.cropping)

    def forward(self, c: Context, x: Values) -> Values:
        """`x` without its border."""
        widths, lengths = self.widths("cropping", self.cropping), self.checked(x).shape[1:-1]
        if any(before + after >= n for n, (before, after) in zip(lengths, widths, strict=True)):
            raise ShapeError(f"{self.title}: cropping {self.cropping} leaves nothing of the lengths {lengths}.")
        return x[:, *(slice(before, n - after) for n, (before, after) in zip(lengths, widths, strict=True))]


class Cropping1D(_Cropping):
    """Elements cut away before and after the length: one number, or a pair.

    Examples
    --------
    >>> Cropping1D((1, 2)).output_spec((1, 8, 2)).shape
    (1, 5, 2)
    """

    lengths = 1


class Cropping2D(_Cropping):
    """Borders of pictures cut away: one number, or for each length a number or a pair (before, after).

    Examples
    --------
    >>> Cropping2D(((1, 2), (0, 3))).output_spec((1, 8, 8, 2)).shape
    (1, 5, 5, 2)
    """

    lengths = 2


class Cropping3D(_Cropping):
    """Borders of volumes cut away; `cropping` as of `Cropping2D`.

    Examples
    --------
    >>> Cropping3D(1).output_spec((1, 8, 8, 8, 2)).shape
    (1, 6, 6, 6, 2)
    """

    lengths = 3
