"""Pooling: the maximum, mean or norm of each window."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, Literal, overload

import numpy as np

from dagtrain.arguments import positive
from dagtrain.errors import ShapeError
from dagtrain.graph import Tensor
from dagtrain.nn.spatial.geometry import Numbers, PaddingArgument, applied, each, lengths_of, pads
from dagtrain.nn.values import Values
from dagtrain.ops import parts
from dagtrain.ops.windows import taps

__all__ = ["adaptive_average_pool", "adaptive_max_pool", "average_pool", "lp_pool", "max_pool"]


def _geometry(name: str, x: Values, pool_size: Any, strides: Any, padding: Any) -> dict[str, Any]:
    lengths = lengths_of(name, x)
    count = len(lengths)
    window = each(f"{name}: pool_size", pool_size, count)
    by = window if strides is None else each(f"{name}: strides", strides, count)
    return {"window": window, "strides": by, "padding": pads(f"{name}: padding", padding, lengths, window, by, (1,) * count)}


@overload
def max_pool(
    x: Values, pool_size: Numbers, strides: Numbers | None = ..., padding: PaddingArgument = ..., positions: Literal[False] = ...
) -> Values: ...
@overload
def max_pool(
    x: Values, pool_size: Numbers, strides: Numbers | None = ..., padding: PaddingArgument = ..., positions: bool = ...
) -> Values | tuple[Values, Values]: ...
def max_pool(
    x: Values, pool_size: Numbers, strides: Numbers | None = None, padding: PaddingArgument = "valid", positions: bool = False
) -> Values | tuple[Values, Values]:
    """The greatest element of each window, channel by channel; the derivative is that of the first of equal elements.

    Parameters
    ----------
    x
        Shape (samples, *lengths, channels).
    pool_size
        Elements of a window along each length.
    strides
        Elements from one window to the next; by default `pool_size`.
    padding
        See `dagtrain.nn.spatial`; padding is never the greatest.
    positions
        Whether to return positions too: the number of the first greatest element, counted in its window.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([3.0, 1.0, 4.0, 4.0]).reshape(1, 4, 1)
    >>> values, positions = max_pool(x, 2, positions=True)
    >>> values.ravel(), positions.ravel()
    (array([3., 4.]), array([0, 0], dtype=uint8))
    """
    result = applied("max_pool", x, **_geometry("max_pool", x, pool_size, strides, padding))
    both = parts(result) if isinstance(result, Tensor) else result
    return (both[0], both[1]) if positions else both[0]


def average_pool(x: Values, pool_size: Numbers, strides: Numbers | None = None, padding: PaddingArgument = "valid") -> Values:
    """The mean of each window, channel by channel; padding does not count. Arguments are those of `max_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> average_pool(np.array([3.0, 1.0, 4.0]).reshape(1, 3, 1), 2, padding="same").ravel()
    array([2., 4.])
    """
    if x.dtype == np.float16:  # sums may be beyond its numbers
        return average_pool(x.astype(np.float32), pool_size, strides, padding).astype(np.float16)
    geometry = _geometry("average_pool", x, pool_size, strides, padding)
    total, window = applied("sum_pool", x, **geometry), geometry["window"]
    if not any(map(any, geometry["padding"])):
        return total / x.dtype.type(math.prod(window))
    lengths, ones = tuple(x.shape[1:-1]), (1,) * len(window)
    counts = np.zeros((*total.shape[1:-1], 1), x.dtype)
    for tap in taps(lengths, tuple(total.shape[1:-1]), dilation=ones, **geometry):
        counts[tap.windows] += 1
    return total / counts


def lp_pool(x: Values, p: float, pool_size: Numbers, strides: Numbers | None = None, padding: PaddingArgument = "valid") -> Values:
    """The norm of order p of each window, ``sum(abs(x) ** p) ** (1 / p)``, channel by channel. Other arguments are those of `max_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> lp_pool(np.array([3.0, 4.0]).reshape(1, 2, 1), 2, 2).ravel()
    array([5.])
    """
    positive("lp_pool: p", p)
    powers = np.square(x) if p == 2 else np.abs(x) if p == 1 else np.abs(x) ** p
    total = applied("sum_pool", powers, **_geometry("lp_pool", x, pool_size, strides, padding))
    return total if p == 1 else np.sqrt(total) if p == 2 else total ** (1 / p)


def _bounds(n: int, count: int) -> list[tuple[int, int]]:
    """The windows that cut a length into so many of nearly equal size; neighbours may share an element."""
    return [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]


def _adapted(name: str, x: Values, output_size: Any, even: Callable[..., Values], along: Callable[[Values, int, int], Values]) -> Values:
    lengths = lengths_of(name, x)
    sizes = each(f"{name}: output_size", output_size, len(lengths))
    if any(size > n for size, n in zip(sizes, lengths, strict=True)):
        raise ShapeError(f"{name}: output_size {sizes} is larger than the lengths {lengths}.")
    if all(n % size == 0 for size, n in zip(sizes, lengths, strict=True)):
        return even(x, tuple(n // size for size, n in zip(sizes, lengths, strict=True)))
    axes = [(axis, size) for axis, size in enumerate(sizes, 1) if size != x.shape[axis]]
    return reduce(lambda y, pair: along(y, *pair), reversed(axes), x)


def _mean_along(x: Values, axis: int, count: int) -> Values:
    weights = np.zeros((count, x.shape[axis]), x.dtype)
    for row, (start, stop) in zip(weights, _bounds(x.shape[axis], count), strict=True):
        row[start:stop] = 1 / (stop - start)
    return np.moveaxis(np.matmul(weights, np.moveaxis(x, axis, -2)), -2, axis)


def _max_along(x: Values, axis: int, count: int) -> Values:
    bounds = _bounds(x.shape[axis], count)
    longest = max(stop - start for start, stop in bounds)
    rows = np.take(x, np.array([[min(i, stop - 1) for i in range(start, start + longest)] for start, stop in bounds]), axis)
    # Repeated elements come last, and the first of equal elements is taken.
    first = np.expand_dims(np.argmax(rows, axis + 1), axis + 1)
    return np.squeeze(np.take_along_axis(rows, first, axis + 1), axis + 1)


def adaptive_average_pool(x: Values, output_size: Numbers) -> Values:
    """Means over windows that cut each length into `output_size` parts of nearly equal size; neighbours may share an element.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_average_pool(np.arange(5.0).reshape(1, 5, 1), 2).ravel()
    array([1., 3.])
    """
    return _adapted("adaptive_average_pool", x, output_size, average_pool, _mean_along)


def adaptive_max_pool(x: Values, output_size: Numbers) -> Values:
    """As `adaptive_average_pool`, the greatest element of each window.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool(np.arange(5.0).reshape(1, 5, 1), 2).ravel()
    array([2., 4.])
    """
    return _adapted("adaptive_max_pool", x, output_size, max_pool, _max_along)
