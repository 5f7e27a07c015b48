"""Layers that give their input another shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dagtrain.arguments import is_whole, whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values

__all__ = ["Flatten", "Permute", "RepeatVector", "Reshape"]


@dataclass(frozen=True)
class Flatten(Layer):
    """Join all axes but the first.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten().apply({}, {}, np.zeros((5, 8, 8)))[0].shape
    (5, 64)
    """

    name: str | None = None
    detail = "flatten"

    def forward(self, c: Context, x: Values) -> Values:
        """Shape (samples, product of the other axes)."""
        return x.reshape((x.shape[0], math.prod(x.shape[1:])))


@dataclass(frozen=True)
class Reshape(Layer):
    """Another shape for each sample, with as many elements.

    Parameters
    ----------
    target_shape
        Shape of one sample; one of its numbers may be -1, which stands for what is left.

    Raises
    ------
    ArgumentError
        If it is no shape, or -1 stands in it twice.
    ShapeError
        If a sample has another number of elements.

    Examples
    --------
    >>> import numpy as np
    >>> Reshape((8, -1)).apply({}, {}, np.zeros((5, 64)))[0].shape
    (5, 8, 8)
    """

    target_shape: tuple[int, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        shape = self.target_shape
        if not isinstance(shape, tuple | list) or not all(is_whole(n) and (n > 0 or n == -1) for n in shape) or list(shape).count(-1) > 1:
            raise ArgumentError(
                f"{self.name or 'Reshape'}: target_shape is the shape of one sample, with -1 at most once, as in Reshape((8, -1)); "
                f"got {shape!r}."
            )
        object.__setattr__(self, "target_shape", tuple(map(int, shape)))

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return " × ".join("…" if n == -1 else str(n) for n in self.target_shape) or "one number"

    def forward(self, c: Context, x: Values) -> Values:
        """Shape (samples, *target_shape)."""
        size, known = math.prod(x.shape[1:]), math.prod(n for n in self.target_shape if n != -1)
        if size % known or (size != known and -1 not in self.target_shape):
            raise ShapeError(f"Reshape: samples of shape {tuple(x.shape[1:])} have {size} elements, which do not fit {self.target_shape}.")
        return x.reshape((x.shape[0], *(size // known if n == -1 else n for n in self.target_shape)))


@dataclass(frozen=True)
class Permute(Layer):
    """The axes of each sample in another order.

    Parameters
    ----------
    dims
        The axes in their new order, counted from 1: 0 is that of the samples and stays.

    Raises
    ------
    ArgumentError
        If they are not 1, 2, ... in some order.
    ShapeError
        If a sample has another number of axes.

    Examples
    --------
    >>> import numpy as np
    >>> Permute((2, 1)).apply({}, {}, np.zeros((5, 8, 3)))[0].shape
    (5, 3, 8)
    """

    dims: tuple[int, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        dims = self.dims
        if not isinstance(dims, tuple | list) or not all(map(is_whole, dims)) or sorted(dims) != list(range(1, len(dims) + 1)):
            raise ArgumentError(f"{self.name or 'Permute'}: dims are the axes 1, 2, … in their new order, as in (2, 1), got {dims!r}.")
        object.__setattr__(self, "dims", tuple(map(int, dims)))

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"axes {', '.join(map(str, self.dims))}"

    def forward(self, c: Context, x: Values) -> Values:
        """The samples with their axes in that order."""
        if x.ndim != len(self.dims) + 1:
            raise ShapeError(f"Permute: dims {self.dims} are those of samples with {len(self.dims)} axes, got x of shape {x.shape}.")
        return np.transpose(x, (0, *self.dims))


@dataclass(frozen=True)
class RepeatVector(Layer):
    """Each sample `n` times, along a new axis after that of the samples.

    Raises
    ------
    ArgumentError
        If `n` is not a whole number above 0.

    Examples
    --------
    >>> import numpy as np
    >>> RepeatVector(4).apply({}, {}, np.zeros((5, 3)))[0].shape
    (5, 4, 3)
    """

    n: int
    name: str | None = None

    def __post_init__(self) -> None:
        whole(f"{self.name or 'RepeatVector'}: n", self.n)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"{self.n} times"

    def forward(self, c: Context, x: Values) -> Values:
        """Shape (samples, n, features)."""
        if x.ndim != 2:
            raise ShapeError(f"RepeatVector takes samples with one axis, shape (samples, features), got {x.shape}.")
        return np.broadcast_to(x.reshape((x.shape[0], 1, x.shape[1])), (x.shape[0], self.n, x.shape[1]))
