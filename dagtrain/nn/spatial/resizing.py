"""Resizing: other lengths for the same picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.nn.spatial.geometry import Numbers, each, lengths_of
from dagtrain.nn.values import Values

__all__ = ["resize"]


def _places(n: int, size: int) -> Any:
    """Where the centres of the new elements lie among the old ones."""
    return (np.arange(size) + 0.5) * (n / size) - 0.5


def _nearest(x: Values, axis: int, size: int) -> Values:
    n = x.shape[axis]
    if size % n:
        return np.take(x, np.arange(size) * n // size, axis)
    return np.repeat(x, size // n, axis)


def _linear(x: Values, axis: int, size: int) -> Values:
    n = x.shape[axis]
    place = np.clip(_places(n, size), 0, n - 1)
    below = np.minimum(place.astype(int), max(0, n - 2))
    weights = np.zeros((size, n), x.dtype)
    weights[np.arange(size), below] = 1 - (place - below)
    weights[np.arange(size), np.minimum(below + 1, n - 1)] += (place - below).astype(x.dtype)
    return np.moveaxis(np.matmul(weights, np.moveaxis(x, axis, -2)), -2, axis)


_WAYS: dict[str, Callable[[Values, int, int], Values]] = {"nearest": _nearest, "bilinear": _linear}


def resize(x: Values, size: Numbers, interpolation: str = "nearest") -> Values:
    """`x` with other lengths.

    Parameters
    ----------
    x
        Shape (samples, *lengths, channels).
    size
        The new lengths.
    interpolation
        ``"nearest"``: copies of elements. ``"bilinear"``: between the two nearest elements along each length, where an element stands for
        the middle of its share of the length; beyond the outermost middles it is constant.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([0.0, 4.0]).reshape(1, 2, 1)
    >>> resize(x, 4).ravel(), resize(x, 4, "bilinear").ravel()
    (array([0., 0., 4., 4.]), array([0., 1., 3., 4.]))
    """
    along = _WAYS[one_of("interpolation", interpolation, _WAYS)]
    lengths = lengths_of("resize", x)
    for axis, new in enumerate(each("resize: size", size, len(lengths)), 1):
        x = x if new == x.shape[axis] else along(x, axis, new)
    return x
