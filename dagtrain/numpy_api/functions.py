"""NumPy's functions that work on each element, on neighbours, and on polynomials.

A function whose result has a shape that depends on values (`np.unique`, `np.nonzero`, ...) cannot be in a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce as fold
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError, UnsupportedError
from dagtrain.graph import Tensor
from dagtrain.numpy_api.calls import implements
from dagtrain.numpy_api.reductions import real_only
from dagtrain.ops import OPS, as_tensor, reduce, shape
from dagtrain.ops.elementwise import cast, imag, real, where
from dagtrain.ops.record import axis_of

__all__ = ["clip", "round_"]


@implements(np.clip)
def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    if (a_min is not None and min is not None) or (a_max is not None and max is not None):
        raise UnsupportedError("np.clip: a_min and min, and a_max and max, are two names of one argument: give one of them.")
    low, high, above = (a_min if min is None else min), (a_max if max is None else max), as_tensor(a)
    if above.dtype.kind in "iu":  # a bound may lie beyond all numbers of the dtype
        limits = np.iinfo(above.dtype)
        low = limits.min if type(low) is int and low < limits.min else low
        high = limits.max if type(high) is int and high > limits.max else high
    above = above if low is None else OPS["maximum"](above, low)
    return above if high is None else OPS["minimum"](above, high)


@implements(np.where)
def choose(condition: Any, x: Any = None, y: Any = None) -> Tensor:
    if x is None or y is None:
        raise UnsupportedError("np.where(condition) alone gives a shape that is not known beforehand. Use np.where(condition, x, y).")
    return where(condition, x, y)


@implements(np.round, np.around)
def round_(a: Any, decimals: int = 0) -> Tensor:
    tensor = as_tensor(a)
    if tensor.dtype.kind in "iu" and decimals >= 0:
        return tensor
    if decimals == 0:
        return OPS["rint"](tensor)
    scale = float(10 ** abs(decimals))
    up, down = ("multiply", "divide") if decimals > 0 else ("divide", "multiply")
    return cast(OPS[down](OPS["rint"](OPS[up](tensor, scale)), scale), tensor.dtype)


@implements(np.fix)
def fix(x: Any) -> Tensor:
    return OPS["trunc"](x)


implements(np.sinc)(lambda x: OPS["sinc"](x, order=0))
implements(np.real)(lambda val: real(as_tensor(val)))
implements(np.imag)(lambda val: imag(as_tensor(val)))


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Tensor:
    z = as_tensor(z)
    turned = OPS["arctan2"](imag(z) if z.dtype.kind == "c" else 0, real(z))
    return OPS["rad2deg"](turned) if deg else turned


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    b = b if b.dtype.kind in "fc" else cast(b, np.float64)  # differences of unsigned integers wrap around
    tolerance = OPS["add"](atol, OPS["multiply"](rtol, OPS["absolute"](b)))
    near = OPS["less_equal"](OPS["absolute"](OPS["subtract"](a, b)), tolerance)
    close = OPS["logical_or"](OPS["logical_and"](near, OPS["isfinite"](b)), OPS["equal"](a, b))
    return OPS["logical_or"](close, OPS["logical_and"](OPS["isnan"](a), OPS["isnan"](b))) if equal_nan else close


@implements(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Tensor:
    return reduce.reduce_all(isclose(a, b, rtol, atol, equal_nan))


implements(np.isreal)(lambda x: OPS["equal"](imag(as_tensor(x)), 0))
implements(np.iscomplex)(lambda x: OPS["not_equal"](imag(as_tensor(x)), 0))


@implements(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> Tensor:
    try:
        np.broadcast_shapes(np.shape(a1), np.shape(a2))
    except ValueError:
        return as_tensor(np.asarray(False))
    return reduce.reduce_all(OPS["equal"](a1, a2))


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Tensor:
    if np.shape(a1) != np.shape(a2):
        return as_tensor(np.asarray(False))
    same = OPS["equal"](a1, a2)
    if equal_nan:
        same = OPS["logical_or"](same, OPS["logical_and"](OPS["isnan"](a1), OPS["isnan"](a2)))
    return reduce.reduce_all(same)


@implements(np.nan_to_num)
def nan_to_num(x: Any, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Tensor:
    result = real_only("np.nan_to_num", x)
    if result.dtype.kind != "f":
        return result
    limits = np.finfo(result.dtype)
    for value, replacement in ((np.inf, limits.max if posinf is None else posinf), (-np.inf, limits.min if neginf is None else neginf)):
        result = where(OPS["equal"](result, value), _in_dtype_of(replacement, result), result)
    return where(OPS["isnan"](x), _in_dtype_of(nan, result), result)


def _in_dtype_of(value: Any, a: Tensor) -> Any:
    return cast(as_tensor(value), a.dtype) if np.ndim(value) or isinstance(value, Tensor) else a.dtype.type(value)


@implements(np.select)
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Tensor:
    if len(condlist) != len(choicelist) or not condlist:
        raise ShapeError(f"np.select needs as many choices as conditions, one at least: got {len(choicelist)} and {len(condlist)}.")
    cases = zip(reversed(condlist), reversed(choicelist), strict=True)
    return as_tensor(fold(lambda rest, case: where(case[0], case[1], rest), cases, default))


@implements(np.polyval)
def polyval(p: Any, x: Any) -> Tensor:
    x = as_tensor(x)
    total = as_tensor(np.zeros(x.shape, x.dtype))
    for coefficient in as_tensor(p):
        total = OPS["add"](OPS["multiply"](total, x), coefficient)
    return total


# ---- neighbours


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    result = as_tensor(a)
    if n < 0:
        raise ShapeError(f"np.diff: n={n}, which is 0 or more.")
    if n == 0:
        return result
    place = axis_of("diff", axis, result.ndim)
    before, after = ([] if end is None else [_end(as_tensor(end), result, place)] for end in (prepend, append))
    result = shape.concatenate([*before, result, *after], place)
    for _ in range(n):
        first, last = (shape.split(result, [cut], place) for cut in (result.shape[place] - 1, 1))
        result = OPS["not_equal" if result.dtype.kind == "b" else "subtract"](last[1], first[0])
    return result


def _end(end: Tensor, a: Tensor, axis: int) -> Tensor:
    """What `np.diff` puts before or after: a tensor, or a number as one of length 1."""
    return end if end.ndim else shape.broadcast_to(end, [1 if i == axis else n for i, n in enumerate(a.shape)])


@implements(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tensor:
    y = shape.moveaxis(as_tensor(y), axis, -1)
    width = dx if x is None else diff(x) if np.ndim(x) == 1 else diff(shape.moveaxis(as_tensor(x), axis, -1))
    return reduce.reduce_sum(OPS["divide"](OPS["multiply"](width, OPS["add"](y[..., 1:], y[..., :-1])), 2.0), -1)
