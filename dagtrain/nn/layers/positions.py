"""Where in a sequence a position is, as numbers that are added to its features, or by which queries and keys are turned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dagtrain.arguments import positive, whole
from dagtrain.errors import ShapeError
from dagtrain.nn import initializers
from dagtrain.nn.context import Context
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["PositionEmbedding", "SinePositionEncoding"]


def _checked(title: str, x: Values) -> Values:
    if x.ndim < 3 or x.dtype.kind != "f":
        raise ShapeError(f"{title} takes floats of (samples, positions, features), got {x.dtype} of shape {tuple(x.shape)}.")
    return x


@dataclass(frozen=True)
class PositionEmbedding(Layer):
    """A row of the parameter `embeddings` is added to each position of a sequence.

    Parameters
    ----------
    max_length
        Number of rows; a longer sequence is an error.
    initializer
        Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

    Raises
    ------
    ShapeError
        If a sequence is longer than `max_length`.

    Examples
    --------
    >>> PositionEmbedding(100).summary((1, 20, 8)).parameters
    800
    """

    max_length: int
    initializer: str | Initializer = "uniform"
    name: str | None = None
    trainable: bool = True
    per_position = True

    def __post_init__(self) -> None:
        whole(f"{self.name or 'PositionEmbedding'}: max_length", self.max_length)
        initializers.find(self.initializer)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"up to {self.max_length:,} positions"

    def _embeddings(self, c: Context, x: Values) -> Values:
        return c.parameter("embeddings", (self.max_length, x.shape[-1]), self.initializer)

    def forward(self, c: Context, x: Values) -> Values:
        """The sum."""
        length = _checked(self.name or "PositionEmbedding", x).shape[-2]
        if length > self.max_length:
            raise ShapeError(
                f"{self.name or 'PositionEmbedding'}: a sequence of {length:,} positions is longer than max_length={self.max_length:,}: "
                "cut it, or make the layer with a larger max_length."
            )
        return x + self._embeddings(c, x)[:length]

    def at(self, c: Context, x: Values, position: Values) -> Values:
        """The sum for one position of each row, of shape (rows, 1, features)."""
        return x + apply_op(find_op("gather"), self._embeddings(c, x), position)[:, None]


@dataclass(frozen=True)
class SinePositionEncoding(Layer):
    """Sines and cosines of each position, in wavelengths from 2 pi up to 2 pi times `max_wavelength`, are added to its features.

    Feature 2 i of position p is ``sin(p / max_wavelength ** (2 i / features))``, feature 2 i + 1 the cosine.

    Source: Vaswani et al., "Attention is all you need", arXiv:1706.03762, section 3.5.

    Examples
    --------
    >>> SinePositionEncoding().apply({}, {}, np.zeros((1, 2, 4)))[0].round(3)
    array([[[0.   , 1.   , 0.   , 1.   ],
            [0.841, 0.54 , 0.01 , 1.   ]]])
    """

    max_wavelength: float = 10_000.0
    name: str | None = None
    per_position = True
    detail = "sines"

    def __post_init__(self) -> None:
        positive(f"{self.name or 'SinePositionEncoding'}: max_wavelength", self.max_wavelength)

    def _angles(self, features: int) -> tuple[np.ndarray, np.ndarray]:
        """The factor of the position for each feature, and what is added: a cosine is a sine a quarter further."""
        pairs = np.arange(features) // 2
        return self.max_wavelength ** (-2.0 * pairs / features), np.where(np.arange(features) % 2, math.pi / 2, 0.0)

    def forward(self, c: Context, x: Values) -> Values:
        """The sum."""
        factors, shifts = self._angles(_checked(self.name or "SinePositionEncoding", x).shape[-1])
        return x + np.sin(np.arange(x.shape[-2])[:, None] * factors + shifts).astype(x.dtype)

    def at(self, c: Context, x: Values, position: Values) -> Values:
        """The sum for one position of each row, of shape (rows, 1, features)."""
        factors, shifts = self._angles(x.shape[-1])
        return x + np.sin(position[:, None, None] * factors + shifts).astype(x.dtype)


def rotated(x: Values, positions: Values, max_wavelength: float = 10_000.0) -> Values:
    """Features turned by angles that grow with the position: the product of two depends on the distance of their positions alone.

    Feature i of the first half and feature i of the second are turned together by ``position / max_wavelength ** (2 i / features)``.

    Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding", arXiv:2104.09864, section 3.2.2.

    Parameters
    ----------
    x
        Of shape (samples, positions, heads, features).
    positions
        Of shape (positions,), or (samples, positions).
    """
    half = x.shape[-1] // 2
    angles = positions[..., None, None] * max_wavelength ** (-np.arange(half) / half)
    cosines, sines = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], -1)
