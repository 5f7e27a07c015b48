"""NumPy's functions that are composed of other functions on tensors, a few lines each; their gradients follow from the parts.

    np.median ──▶ np.quantile ──▶ sort, slice, multiply, add

A function whose result has a shape that depends on values (`np.unique`, `np.nonzero`, ...) cannot be in a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce as fold
from typing import Any, TypeVar

import numpy as np

from dagtrain.errors import ShapeError, UnsupportedError
from dagtrain.graph import Tensor
from dagtrain.numpy_api import functions as f
from dagtrain.ops import OPS, as_tensor, linalg, reduce, shape
from dagtrain.ops.elementwise import cast, where
from dagtrain.ops.index import take
from dagtrain.ops.record import axes_of

__all__ = ["COMPOSED"]

Function = TypeVar("Function", bound=Callable[..., Any])
COMPOSED: dict[Any, Callable[..., Any]] = {}


def _composes(*numpy_functions: Any) -> Callable[[Function], Function]:
    def put(function: Function) -> Function:
        COMPOSED.update(dict.fromkeys(numpy_functions, function))
        return function

    return put


# ---- order statistics


@_composes(np.quantile)
def quantile(a: Any, q: Any, axis: Any = None, out: None = None, *, method: str = "linear", keepdims: Any = False) -> Tensor:
    """By linear interpolation between the two nearest elements; NaN along lines that hold one."""
    f.no_out(out)
    if method != "linear":
        raise UnsupportedError(f"np.quantile on tensors interpolates linearly, not by method={method!r}.")
    a = as_tensor(a)
    levels = np.asarray(q)
    if isinstance(q, Tensor) or levels.dtype.kind not in "iuf" or not np.all((levels >= 0) & (levels <= 1)):
        raise UnsupportedError(f"np.quantile on tensors takes numbers from 0 to 1 as quantiles, got {q!r}.")
    floats = a.dtype if a.dtype.kind == "f" else np.dtype(np.float64)
    a = cast(a, floats if isinstance(q, int | float) else np.result_type(floats, levels.dtype, np.float64))
    axes = axes_of("quantile", axis, a.ndim)
    others = [i for i in range(a.ndim) if i not in axes]
    lines = shape.reshape(shape.transpose(a, (*others, *axes)), (*(a.shape[i] for i in others), -1))
    if not lines.shape[-1]:
        raise ShapeError(f"quantile of nothing: shape {a.shape}.")
    ordered = f.sort(lines)
    position = levels * (lines.shape[-1] - 1)
    below = np.floor(position).astype(np.intp)
    low, high = take(ordered, below, -1), take(ordered, np.minimum(below + 1, lines.shape[-1] - 1), -1)
    result = where(np.asarray(position == below), low, low + (high - low) * (position - below).astype(a.dtype))
    has_nan = shape.reshape(reduce.reduce_any(OPS["isnan"](lines), -1), (*lines.shape[:-1], *[1] * levels.ndim))
    result = where(has_nan, a.dtype.type(np.nan), result)
    result = shape.moveaxis(result, range(len(others), result.ndim), range(levels.ndim)) if levels.ndim else result
    return shape.reshape(result, (*levels.shape, *(1 if i in axes else n for i, n in enumerate(a.shape)))) if keepdims is True else result


@_composes(np.percentile)
def percentile(a: Any, q: Any, *args: Any, **kwargs: Any) -> Tensor:
    return quantile(a, q / 100 if isinstance(q, int | float) else np.asarray(q) / 100, *args, **kwargs)


@_composes(np.median)
def median(a: Any, axis: Any = None, out: None = None, overwrite_input: bool = False, keepdims: Any = False) -> Tensor:
    return quantile(a, 0.5, axis, out, keepdims=keepdims)


@_composes(np.ptp)
def ptp(a: Any, axis: Any = None, out: None = None, keepdims: Any = False) -> Tensor:
    return OPS["subtract"](f.highest(a, axis, out, keepdims), f.lowest(a, axis, out, keepdims))


# ---- NaN and infinity


@_composes(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    result = as_tensor(x)
    if result.dtype.kind != "f":
        return result
    limits = np.finfo(result.dtype)
    for value, replacement in (
        (np.inf, limits.max if posinf is None else posinf),
        (-np.inf, limits.min if neginf is None else neginf),
    ):
        result = where(OPS["equal"](result, value), result.dtype.type(replacement), result)
    return where(OPS["isnan"](result), result.dtype.type(nan), result)


def _without_nan(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduction(a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: Any = False) -> Tensor:
        return function(a, axis, dtype, out, keepdims, where=~OPS["isnan"](as_tensor(a)))

    return reduction


COMPOSED |= {np.nansum: _without_nan(f.total), np.nanmean: _without_nan(f.mean), np.nanprod: _without_nan(f.prod)}


def _extreme_without_nan(function: Callable[..., Tensor], bottom: float) -> Callable[..., Tensor]:
    def reduction(a: Any, axis: Any = None, out: None = None, keepdims: Any = False) -> Tensor:
        a = as_tensor(a)
        if a.dtype.kind != "f":
            return function(a, axis, out, keepdims)
        is_nan = OPS["isnan"](a)
        extreme = function(where(is_nan, a.dtype.type(bottom), a), axis, out, keepdims)
        return where(reduce.reduce_all(is_nan, axis, keepdims is True), a.dtype.type(np.nan), extreme)

    return reduction


COMPOSED |= {np.nanmax: _extreme_without_nan(f.highest, -np.inf), np.nanmin: _extreme_without_nan(f.lowest, np.inf)}


# ---- joining, cutting, turning


@_composes(np.append)
def append(arr: Any, values: Any, axis: int | None = None) -> Tensor:
    return shape.concatenate([arr, values], axis)


@_composes(np.atleast_3d)
def at_least_3d(a: Any) -> Tensor:
    a = as_tensor(a)
    return a if a.ndim >= 3 else shape.reshape(a, (*(1,) * (a.ndim < 2), *a.shape, *(1,) * (2 if a.ndim == 0 else 1)))


@_composes(np.column_stack)
def column_stack(tup: Sequence[Any]) -> Tensor:
    parts = [as_tensor(t) for t in tup]
    return shape.concatenate([p if p.ndim >= 2 else shape.reshape(p, (-1, 1)) for p in parts], 1)


@_composes(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    ary = as_tensor(ary)
    if np.ndim(indices_or_sections) == 0:
        parts = np.array_split(np.empty((ary.shape[axes_of("array_split", int(axis), ary.ndim)[0]], 0)), indices_or_sections)
        indices_or_sections = np.cumsum([len(p) for p in parts])[:-1].tolist()
    return shape.split(ary, indices_or_sections, axis)


@_composes(np.unstack)
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    return tuple(shape.moveaxis(as_tensor(x), axis, 0))


@_composes(np.rot90)
def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    if k % 4 == 0:
        return as_tensor(m)
    if k % 4 == 2:
        return shape.flip(as_tensor(m), axes)
    turned = shape.swapaxes(as_tensor(m), *axes)
    return shape.flip(turned, axes[0] if k % 4 == 1 else axes[1])


@_composes(np.diag)
def diag(v: Any, k: int = 0) -> Tensor:
    v = as_tensor(v)
    if v.ndim != 1:
        return f.diagonal(v, k)
    size = v.shape[0] + abs(k)
    line = shape.pad(v, (0, abs(k)))
    return where(np.eye(size, k=k, dtype=bool), shape.reshape(line, (-1, 1) if k >= 0 else (1, -1)), v.dtype.type(0))


@_composes(np.block)
def block(arrays: Any) -> Tensor:
    def joined(part: Any, axis: int) -> Tensor:
        return shape.concatenate([joined(p, axis + 1) for p in part], axis) if isinstance(part, list) else wide(part)

    def wide(part: Any) -> Tensor:
        tensor = as_tensor(part)
        return shape.reshape(tensor, (*(1,) * (axes - tensor.ndim), *tensor.shape))

    def depth(part: Any) -> int:
        return 1 + depth(part[0]) if isinstance(part, list) else 0

    def leaves(part: Any) -> list[Any]:
        return [leaf for p in part for leaf in leaves(p)] if isinstance(part, list) else [part]

    axes = max(depth(arrays), *(np.ndim(leaf) for leaf in leaves(arrays)))
    return joined(arrays, axes - depth(arrays))


COMPOSED |= {
    np.dstack: lambda tup, **_: shape.concatenate([at_least_3d(t) for t in tup], 2),
    np.vsplit: lambda ary, indices_or_sections: shape.split(as_tensor(ary), indices_or_sections, 0),
    np.hsplit: lambda ary, indices_or_sections: shape.split(as_tensor(ary), indices_or_sections, 0 if ary.ndim == 1 else 1),
    np.dsplit: lambda ary, indices_or_sections: shape.split(as_tensor(ary), indices_or_sections, 2),
    np.rollaxis: lambda a, axis, start=0: shape.moveaxis(as_tensor(a), axis, start - (axis % a.ndim < start)),
    np.broadcast_arrays: lambda *args, subok=False: tuple(
        shape.broadcast_to(as_tensor(a), np.broadcast_shapes(*map(np.shape, args))) for a in args
    ),
}


# ---- by element


@_composes(np.select)
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Tensor:
    if len(condlist) != len(choicelist) or not condlist:
        raise ShapeError(f"np.select needs as many choices as conditions, one at least: got {len(choicelist)} and {len(condlist)}.")
    cases = zip(reversed(condlist), reversed(choicelist), strict=True)
    return as_tensor(fold(lambda rest, case: where(case[0], case[1], rest), cases, default))


@_composes(np.polyval)
def polyval(p: Any, x: Any) -> Tensor:
    total = OPS["multiply"](x, 0)
    for coefficient in as_tensor(p):
        total = OPS["add"](OPS["multiply"](total, x), coefficient)
    return total


COMPOSED |= {
    np.sinc: lambda x: OPS["sinc"](x, order=0),
    np.real: as_tensor,
    np.allclose: lambda a, b, *args, **kwargs: reduce.reduce_all(f.FUNCTIONS[np.isclose](a, b, *args, **kwargs)),
}


@_composes(np.fix)
def fix(x: Any, out: None = None) -> Tensor:
    f.no_out(out)
    return OPS["trunc"](x)


@_composes(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Tensor:
    if np.shape(a1) != np.shape(a2):
        return as_tensor(np.asarray(False))
    same = OPS["equal"](a1, a2)
    if equal_nan:
        same = OPS["logical_or"](same, OPS["logical_and"](OPS["isnan"](a1), OPS["isnan"](a2)))
    return reduce.reduce_all(same)


# ---- sums and products


@_composes(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tensor:
    y = shape.moveaxis(as_tensor(y), axis, -1)
    width = dx if x is None else f.diff(x) if np.ndim(x) == 1 else f.diff(shape.moveaxis(as_tensor(x), axis, -1))
    return reduce.reduce_sum(width * (y[..., 1:] + y[..., :-1]) / 2.0, -1)


def _cumulative(function: Callable[..., Tensor], first: int) -> Callable[..., Tensor]:
    def running(x: Any, /, *, axis: Any = None, dtype: Any = None, out: None = None, include_initial: bool = False) -> Tensor:
        x = as_tensor(x)
        if axis is None and x.ndim != 1:
            raise ShapeError(f"a running sum or product over {x.ndim} axes: say along which, with axis=.")
        along = axes_of("cumulative_sum", 0 if axis is None else int(axis), x.ndim)[0]
        result = function(x, along, dtype, out)
        if not include_initial:
            return result
        initial = np.full((*result.shape[:along], 1, *result.shape[along + 1 :]), first, result.dtype)
        return shape.concatenate([initial, result], along)

    return running


COMPOSED |= {np.cumulative_sum: _cumulative(f.cumsum, 0), np.cumulative_prod: _cumulative(f.cumprod, 1)}


@_composes(np.convolve)
def convolve(a: Any, v: Any, mode: str = "full") -> Tensor:
    a, v = as_tensor(a), as_tensor(v)
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ShapeError(f"np.convolve needs two vectors that are not empty, got shapes {a.shape} and {v.shape}.")
    if mode not in ("full", "same", "valid"):
        raise UnsupportedError(f'np.convolve has the modes "full", "same" and "valid", not {mode!r}.')
    a, v = (a, v) if a.size >= v.size else (v, a)
    around = v.size - 1
    windows = np.arange(a.size + around)[:, None] + np.arange(v.size)
    full = take(shape.pad(a, around), windows, 0) @ shape.flip(v)
    start, length = {"full": (0, full.size), "same": (around // 2, a.size), "valid": (around, a.size - around)}[mode]
    return full[start : start + length]  # type: ignore[no-any-return]  # slicing is typed loosely


@_composes(np.kron)
def kron(a: Any, b: Any) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    axes = max(a.ndim, b.ndim)
    long, short = ((*(1,) * (axes - t.ndim), *t.shape) for t in (a, b))
    left = shape.reshape(a, [n for length in long for n in (length, 1)])
    right = shape.reshape(b, [n for length in short for n in (1, length)])
    return shape.reshape(left * right, [n * m for n, m in zip(long, short, strict=True)])


@_composes(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Tensor:
    a = as_tensor(a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or n < 0:
        raise UnsupportedError(f"np.linalg.matrix_power on tensors takes square matrices and powers from 0 up, got {a.shape} and {n}.")
    if n == 0:
        return shape.broadcast_to(as_tensor(np.eye(a.shape[-1], dtype=a.dtype)), a.shape)
    half = matrix_power(a, n // 2) if n > 1 else as_tensor(a)
    if n == 1:
        return half
    even = OPS["matmul"](half, half)
    return OPS["matmul"](even, a) if n % 2 else even


COMPOSED |= {
    np.linalg.matmul: OPS["matmul"],
    np.linalg.multi_dot: lambda arrays, *, out=None: fold(linalg.dot, arrays),
    np.linalg.outer: lambda x1, x2, /: linalg.outer(x1, x2),
    np.linalg.tensordot: linalg.tensordot,
    np.linalg.matrix_transpose: lambda x, /: f.matrix_transpose(x),
    np.linalg.diagonal: lambda x, /, *, offset=0: f.diagonal(x, offset, -2, -1),
    np.linalg.trace: lambda x, /, *, offset=0, dtype=None: f.trace(x if dtype is None else cast(x, dtype), offset, -2, -1),
    np.linalg.vector_norm: lambda x, /, *, axis=None, keepdims=False, ord=2: _vector_norm(x, axis, keepdims, ord),
    np.linalg.matrix_norm: lambda x, /, *, keepdims=False, ord="fro": f.norm(x, ord, (-2, -1), keepdims),
    np.linalg.vecdot: lambda x1, x2, /, *, axis=-1: vecdot(
        shape.moveaxis(as_tensor(x1), axis, -1), shape.moveaxis(as_tensor(x2), axis, -1)
    ),
}


def _vector_norm(x: Any, axis: Any, keepdims: bool, order: Any) -> Tensor:
    x = as_tensor(x)
    if axis is None:
        length = f.norm(shape.reshape(x, (-1,)), order)
        return shape.reshape(length, (1,) * x.ndim) if keepdims else length
    return f.norm(x, order, axis, keepdims)


def vecdot(x1: Any, x2: Any) -> Tensor:
    """Sum of products along the last axis."""
    return reduce.reduce_sum(OPS["multiply"](x1, x2), -1)


def matvec(x1: Any, x2: Any) -> Tensor:
    """Matrices times vectors."""
    return shape.squeeze(OPS["matmul"](x1, shape.expand_dims(as_tensor(x2), -1)), -1)


def vecmat(x1: Any, x2: Any) -> Tensor:
    """Vectors times matrices."""
    return shape.squeeze(OPS["matmul"](shape.expand_dims(as_tensor(x1), -2), x2), -2)


f.FUNCTIONS.update(COMPOSED)
