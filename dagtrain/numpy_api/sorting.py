"""NumPy's functions that put elements in order: sorting, positions of extremes, quantiles.

np.median ──▶ np.quantile ──▶ sort, take two neighbours, weigh them
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError, UnsupportedError
from dagtrain.graph import Tensor
from dagtrain.numpy_api.calls import implements
from dagtrain.numpy_api.reductions import highest, lowest, real_only
from dagtrain.ops import OPS, as_tensor, index, reduce, shape, sorting
from dagtrain.ops.elementwise import cast, where
from dagtrain.ops.record import axes_of, size_of

__all__ = ["argmax", "argmin", "argsort", "sort"]


def _position(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def position(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
        a = as_tensor(a)
        if axis is not None:
            return op(a, axis, keepdims)
        place = op(shape.reshape(a, (-1,)), 0)
        return shape.reshape(place, (1,) * a.ndim) if keepdims else place

    return position


argmax = implements(np.argmax)(_position(reduce.argmax))
argmin = implements(np.argmin)(_position(reduce.argmin))


@implements(np.argsort)
def argsort(a: Any, axis: int | None = -1) -> Tensor:
    a = as_tensor(a)
    return sorting.argsort(shape.reshape(a, (-1,)), 0) if axis is None else sorting.argsort(a, axis)


@implements(np.sort)
def sort(a: Any, axis: int | None = -1) -> Tensor:
    a = as_tensor(a)
    if axis is None:
        a, axis = shape.reshape(a, (-1,)), 0
    return sorting.sort(a, axis)


@implements(np.quantile)
def quantile(a: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """By linear interpolation between the two nearest elements; NaN along lines that hold one."""
    if method != "linear":
        raise UnsupportedError(f"np.quantile on tensors interpolates linearly, not by method={method!r}.")
    a = real_only("np.quantile", a)
    levels = np.empty(0) if isinstance(q, Tensor) else np.asarray(q)
    if isinstance(q, Tensor) or levels.dtype.kind not in "iuf" or not np.all((levels >= 0) & (levels <= 1)):
        raise UnsupportedError(f"np.quantile on tensors takes numbers from 0 to 1 as quantiles, got {q!r}.")
    floats = a.dtype if a.dtype.kind == "f" else np.dtype(np.float64)
    a = cast(a, floats if isinstance(q, int | float) and not isinstance(q, np.generic) else np.result_type(floats, levels.dtype))
    axes = axes_of("quantile", axis, a.ndim)
    others = [i for i in range(a.ndim) if i not in axes]
    lines = shape.reshape(shape.transpose(a, (*others, *axes)), (*(a.shape[i] for i in others), -1 if a.size else size_of(a.shape, axes)))
    if not lines.shape[-1]:
        raise ShapeError(f"quantile of nothing: shape {a.shape}.")
    result = _between(sort(lines), levels.astype(np.float64) * (lines.shape[-1] - 1))
    has_nan = shape.reshape(reduce.reduce_any(OPS["isnan"](lines), -1), (*lines.shape[:-1], *[1] * levels.ndim))
    result = where(has_nan, a.dtype.type(np.nan), result)
    result = shape.moveaxis(result, range(len(others), result.ndim), range(levels.ndim)) if levels.ndim else result
    return shape.reshape(result, (*levels.shape, *(1 if i in axes else n for i, n in enumerate(a.shape)))) if keepdims else result


def _between(ordered: Tensor, position: Any) -> Tensor:
    """Elements at positions between whole ones, counted from the nearer neighbour as NumPy does."""
    below = np.floor(position).astype(np.intp)
    part = (position - below).astype(ordered.dtype)
    low, high = (index.take(ordered, i, -1) for i in (below, np.where(part == 0, below, below + 1)))
    finite = OPS["logical_and"](OPS["isfinite"](low), OPS["isfinite"](high))
    start, end = where(finite, low, 0), where(finite, high, 0)
    # Halves, since the distance of two numbers may overflow.
    distance = OPS["subtract"](OPS["divide"](end, 2), OPS["divide"](start, 2))
    result = OPS["add"](where(part < 0.5, start, end), OPS["multiply"](distance, 2 * np.where(part < 0.5, part, part - 1)))
    share = np.where(part == 0, part.dtype.type(0.5), part)  # (if it is 0, both neighbours are the same)
    endless = OPS["add"](OPS["multiply"](where(finite, 0, low), 1 - share), OPS["multiply"](where(finite, 0, high), share))
    return where(finite, result, endless)


@implements(np.percentile)
def percentile(a: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    levels = q / 100 if isinstance(q, int | float) else np.asarray(q) / 100
    return quantile(a, levels, axis, method, keepdims)


@implements(np.median)
def median(a: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    return quantile(real_only("np.median", a), 0.5, axis, keepdims=keepdims)


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    return OPS["subtract"](highest(a, axis, keepdims), lowest(a, axis, keepdims))
