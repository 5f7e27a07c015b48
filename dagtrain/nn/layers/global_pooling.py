"""Layers of pooling over all elements, and over windows that give fixed lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dagtrain.nn import spatial
from dagtrain.nn.context import Context
from dagtrain.nn.layers.by_lengths import ByLengths, times
from dagtrain.nn.masks import mask_of
from dagtrain.nn.spatial.geometry import Numbers
from dagtrain.nn.values import Values, floating

__all__ = [
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
]


@dataclass(frozen=True)
class _Global(ByLengths):
    keepdims: bool = False
    name: str | None = None
    detail: ClassVar[str]

    @property
    def axes(self) -> tuple[int, ...]:
        """The lengths' axes."""
        return tuple(range(1, self.lengths + 1))

    def masked(self, c: Context, x: Values, mask: Values) -> tuple[Values, Values]:
        """`x` in floats, and which of its positions count."""
        x = floating(self.checked(x), c.dtype)
        return x, mask_of(self.title, mask, x)[..., None]


class _GlobalAverage(_Global):
    detail = "mean"

    def forward(self, c: Context, x: Values) -> Values:
        """The mean of each channel of a sample."""
        return np.mean(floating(self.checked(x), c.dtype), axis=self.axes, keepdims=self.keepdims)


class _GlobalMax(_Global):
    detail = "maximum"

    def forward(self, c: Context, x: Values) -> Values:
        """The greatest element of each channel of a sample."""
        return np.max(self.checked(x), axis=self.axes, keepdims=self.keepdims)


class GlobalAveragePooling1D(_GlobalAverage):
    """The mean over the length: (samples, channels), with `keepdims` (samples, 1, channels).

    With a mask, or the length of each sequence, as second input the mean is over these positions; a sample without any gets zeros.

    Examples
    --------
    >>> GlobalAveragePooling1D().apply({}, {}, np.array([[[1.0], [3.0], [8.0]]]), np.array([2]))[0]
    array([[2.]])
    """

    lengths = 1

    def forward(self, c: Context, x: Values, mask: Values | None = None) -> Values:
        """The mean of each channel of a sample."""
        if mask is None:
            return super().forward(c, x)
        x, seen = self.masked(c, x, mask)
        count = np.sum(seen.astype(x.dtype), axis=1, keepdims=self.keepdims)
        return np.sum(np.where(seen, x, 0), axis=1, keepdims=self.keepdims) / np.maximum(count, 1)


class GlobalAveragePooling2D(_GlobalAverage):
    """The mean over height and width: (samples, channels), with `keepdims` (samples, 1, 1, channels).

    Examples
    --------
    >>> GlobalAveragePooling2D().output_spec((1, 8, 8, 2)).shape
    (1, 2)
    """

    lengths = 2


class GlobalAveragePooling3D(_GlobalAverage):
    """The mean over depth, height and width: (samples, channels), with `keepdims` (samples, 1, 1, 1, channels).

    Examples
    --------
    >>> GlobalAveragePooling3D(keepdims=True).output_spec((1, 8, 8, 8, 2)).shape
    (1, 1, 1, 1, 2)
    """

    lengths = 3


class GlobalMaxPooling1D(_GlobalMax):
    """The maximum over the length; equal maxima share the derivative. `keepdims` and a mask as of `GlobalAveragePooling1D`.

    Examples
    --------
    >>> GlobalMaxPooling1D().output_spec((1, 8, 2)).shape
    (1, 2)
    """

    lengths = 1

    def forward(self, c: Context, x: Values, mask: Values | None = None) -> Values:
        """The greatest element of each channel of a sample."""
        if mask is None:
            return super().forward(c, x)
        x, seen = self.masked(c, x, mask)
        greatest = np.max(np.where(seen, x, -np.inf), axis=1, keepdims=self.keepdims)
        return np.where(np.any(seen, axis=1, keepdims=self.keepdims), greatest, 0)


class GlobalMaxPooling2D(_GlobalMax):
    """The maximum over height and width; equal maxima share the derivative. `keepdims` as of `GlobalAveragePooling2D`.

    Examples
    --------
    >>> GlobalMaxPooling2D().output_spec((1, 8, 8, 2)).shape
    (1, 2)
    """

    lengths = 2


class GlobalMaxPooling3D(_GlobalMax):
    """The maximum over depth, height and width; equal maxima share the derivative. `keepdims` as of `GlobalAveragePooling3D`.

    Examples
    --------
    >>> GlobalMaxPooling3D().output_spec((1, 8, 8, 8, 2)).shape
    (1, 2)
    """

    lengths = 3


@dataclass(frozen=True)
class _Adaptive(ByLengths):
    output_size: Numbers
    name: str | None = None
    word: ClassVar[str]

    def __post_init__(self) -> None:
        self.each("output_size", self.output_size)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"{self.word} to {times(self.each('output_size', self.output_size))}"


class _AdaptiveAverage(_Adaptive):
    word = "mean"

    def forward(self, c: Context, x: Values) -> Values:
        """Means; the output has the lengths `output_size`."""
        return spatial.adaptive_average_pool(self.checked(x), self.output_size)


class _AdaptiveMax(_Adaptive):
    word = "maximum"

    def forward(self, c: Context, x: Values) -> Values:
        """Maxima; the output has the lengths `output_size`."""
        return spatial.adaptive_max_pool(self.checked(x), self.output_size)


class AdaptiveAveragePooling1D(_AdaptiveAverage):
    """Means over windows that cut the length into `output_size` nearly equal parts.

    Examples
    --------
    >>> AdaptiveAveragePooling1D(3).output_spec((1, 8, 2)).shape
    (1, 3, 2)
    """

    lengths = 1


class AdaptiveAveragePooling2D(_AdaptiveAverage):
    """Means over windows that cut each length into `output_size` nearly equal parts: one number, or one for each length.

    Examples
    --------
    >>> AdaptiveAveragePooling2D((3, 4)).output_spec((1, 8, 8, 2)).shape
    (1, 3, 4, 2)
    """

    lengths = 2


class AdaptiveAveragePooling3D(_AdaptiveAverage):
    """Means over windows that cut each length of a volume into `output_size` nearly equal parts.

    Examples
    --------
    >>> AdaptiveAveragePooling3D(2).output_spec((1, 8, 8, 8, 2)).shape
    (1, 2, 2, 2, 2)
    """

    lengths = 3


class AdaptiveMaxPooling1D(_AdaptiveMax):
    """Maxima over windows that cut the length into `output_size` nearly equal parts.

    Examples
    --------
    >>> AdaptiveMaxPooling1D(3).output_spec((1, 8, 2)).shape
    (1, 3, 2)
    """

    lengths = 1


class AdaptiveMaxPooling2D(_AdaptiveMax):
    """Maxima over windows that cut each length into `output_size` nearly equal parts: one number, or one for each length.

    Examples
    --------
    >>> AdaptiveMaxPooling2D(3).output_spec((1, 8, 8, 2)).shape
    (1, 3, 3, 2)
    """

    lengths = 2


class AdaptiveMaxPooling3D(_AdaptiveMax):
    """Maxima over windows that cut each length of a volume into `output_size` nearly equal parts.

    Examples
    --------
    >>> AdaptiveMaxPooling3D(2).output_spec((1, 8, 8, 8, 2)).shape
    (1, 2, 2, 2, 2)
    """

    lengths = 3
