"""NumPy's sums, products, means, extremes and counts along axes, and running sums and products.

``where=`` replaces the elements that are left out by one that changes nothing; the functions that leave out NaN are those with ``where=``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError, UnsupportedError
from dagtrain.graph import Tensor
from dagtrain.numpy_api.calls import implements
from dagtrain.ops import OPS, as_tensor, reduce, shape
from dagtrain.ops.elementwise import cast, where
from dagtrain.ops.record import axis_of

__all__ = ["all_", "any_", "cumprod", "cumsum", "highest", "in_dtype", "lowest", "mean", "prod", "real_only", "total", "var"]


def in_dtype(a: Any, dtype: Any) -> Tensor:
    """A tensor, in a dtype if one is given."""
    return as_tensor(a) if dtype is None else cast(as_tensor(a), dtype)


def real_only(name: str, a: Any) -> Tensor:
    """A tensor; DTypeError if it is complex."""
    tensor = as_tensor(a)
    if tensor.dtype.kind == "c":
        raise DTypeError(f"{name} on tensors is not defined for complex numbers: take np.real, np.imag or np.abs first.")
    return tensor


def as_inexact(a: Tensor) -> Tensor:
    """Floats and complex numbers as they are, integers and truth values as float64."""
    return a if a.dtype.kind in "fc" else cast(a, np.float64)


def _reduction(op: Callable[..., Tensor], join: str, neutral: int) -> Callable[..., Tensor]:
    def reduction(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
        result = op(_left(in_dtype(a, dtype), where, neutral), axis, keepdims)
        result = result if dtype is None else cast(result, dtype)
        return result if initial is None else OPS[join](result, _first(initial, result.dtype))

    return reduction


def _extreme(op: Callable[..., Tensor], join: str) -> Callable[..., Tensor]:
    def reduction(a: Any, axis: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
        a = as_tensor(a)
        if where is not True:
            if initial is None:
                raise UnsupportedError("where= needs initial= here: the value if nothing is left.")
            a = _left(a, where, _first(initial, a.dtype))
        result = op(a, axis, keepdims)
        return result if initial is None else OPS[join](result, _first(initial, a.dtype))

    return reduction


def _truth(op: Callable[..., Tensor], neutral: bool) -> Callable[..., Tensor]:
    def reduction(a: Any, axis: Any = None, keepdims: bool = False, *, where: Any = True) -> Tensor:
        a = as_tensor(a)
        return op(a if where is True else _left(OPS["not_equal"](a, 0), where, neutral), axis, keepdims)

    return reduction


def _left(a: Tensor, mask: Any, neutral: Any) -> Tensor:
    """The elements under the mask, and for the others one that changes nothing."""
    return a if mask is True else where(mask, a, neutral)


def _first(initial: Any, dtype: Any) -> Any:
    """The value that a reduction begins with, in its dtype."""
    if np.ndim(initial):
        raise ShapeError(f"initial= is one number, got shape {np.shape(initial)}.")
    return cast(initial, dtype) if isinstance(initial, Tensor) else np.asarray(initial, dtype)


total = implements(np.sum)(_reduction(reduce.reduce_sum, "add", 0))
prod = implements(np.prod)(_reduction(reduce.reduce_prod, "multiply", 1))
highest = implements(np.max, np.amax)(_extreme(reduce.reduce_max, "maximum"))
lowest = implements(np.min, np.amin)(_extreme(reduce.reduce_min, "minimum"))
any_ = implements(np.any)(_truth(reduce.reduce_any, False))
all_ = implements(np.all)(_truth(reduce.reduce_all, True))


@implements(np.mean)
def mean(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, *, where: Any = True) -> Tensor:
    a = in_dtype(a, dtype)
    if where is True:
        result = reduce.reduce_mean(a, axis, keepdims)
    else:
        result = _over(total(as_inexact(a), axis, None, keepdims, where=where), _count(a, axis, keepdims, where))
    return result if dtype is None else cast(result, dtype)


def _count(a: Tensor, axis: Any, keepdims: bool, mask: Any) -> Tensor:
    """How many elements the mask leaves."""
    return reduce.reduce_sum(shape.broadcast_to(OPS["not_equal"](mask, 0), a.shape), axis, keepdims)


def _over(a: Tensor, count: Tensor) -> Tensor:
    """A sum by a count, in the sum's dtype; a count may be beyond float16."""
    if a.dtype == np.float16:
        return cast(OPS["divide"](cast(a, np.float32), cast(count, np.float32)), a.dtype)
    return OPS["divide"](a, cast(count, a.dtype))


@implements(np.var)
def var(
    a: Any, axis: Any = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False, *,
    where: Any = True, mean: Any = None, correction: Any = None,
) -> Tensor:  # fmt: skip
    a = in_dtype(a, dtype)
    if dtype is not None and a.dtype.kind != "f":
        raise DTypeError(f"dtype={a.dtype}: a variance is a float.")
    if correction is not None and ddof != 0:
        raise UnsupportedError("ddof= and correction= are two names of one argument: give one of them.")
    ddof = ddof if correction is None else correction
    if where is True and mean is None:
        return reduce.variance(a, axis, ddof, keepdims)
    a = _left(as_inexact(a), where, 0)  # what is left out may be NaN, which would enter the gradient
    centre = _mean(a, axis, where) if mean is None else mean
    squares = reduce.squared_length(OPS["subtract"](a, centre))
    if squares.dtype != a.dtype and a.dtype.kind != "c":
        raise DTypeError(f"mean= is {as_tensor(mean).dtype}, the tensor {a.dtype}: cast one of them.")
    count = OPS["maximum"](OPS["subtract"](_count(a, axis, keepdims, where), ddof), 0)
    return _over(total(squares, axis, None, keepdims, where=where), count)


def _mean(a: Tensor, axis: Any, mask: Any) -> Tensor:
    return mean(a, axis, keepdims=True, where=mask)


@implements(np.std)
def std(
    a: Any, axis: Any = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False, *,
    where: Any = True, mean: Any = None, correction: Any = None,
) -> Tensor:  # fmt: skip
    return _root(var(a, axis, dtype, ddof, keepdims, where=where, mean=mean, correction=correction))


def _root(variance: Tensor) -> Tensor:
    """The root of a variance; its derivative where all elements are equal is 0, not infinity times 0."""
    none = OPS["equal"](variance, 0)
    return where(none, 0, OPS["sqrt"](where(none, 1, variance)))


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    return reduce.reduce_sum(OPS["not_equal"](a, 0), axis, keepdims)


@implements(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    a = as_tensor(a)
    if weights is None:
        result = reduce.reduce_mean(a, axis, keepdims)
        return (result, np.full(result.shape, a.size / max(result.size, 1), result.dtype)) if returned else result
    weights = as_tensor(weights)
    if weights.shape != a.shape:
        weights = _along(a, axis, weights)
    dtypes = (a.dtype, weights.dtype, *(() if a.dtype.kind in "fc" else (np.dtype(float),)))
    dtype = np.result_type(*dtypes)
    a, weights = (cast(t, np.float32 if dtype == np.float16 else dtype) for t in (a, weights))
    weight = reduce.reduce_sum(shape.broadcast_to(weights, a.shape), axis, keepdims)
    result = cast(OPS["divide"](reduce.reduce_sum(OPS["multiply"](a, weights), axis, keepdims), weight), dtype)
    return (result, cast(weight, dtype)) if returned else result


def _along(a: Tensor, axis: Any, weights: Tensor) -> Tensor:
    """Weights of some axes, shaped to broadcast over the others."""
    axes = [] if axis is None else [int(i) % a.ndim for i in (axis if isinstance(axis, tuple) else (axis,))]
    if weights.shape != tuple(a.shape[i] for i in axes):
        raise ShapeError(f"np.average: weights of shape {weights.shape} for values of shape {a.shape} along axis {axis}.")
    weights = shape.transpose(weights, np.argsort(axes).tolist())
    return shape.reshape(weights, [n if i in axes else 1 for i, n in enumerate(a.shape)])


# ---- without NaN


def _not_nan(a: Any, mask: Any) -> Tensor:
    known = OPS["logical_not"](OPS["isnan"](a))
    return known if mask is True else OPS["logical_and"](known, mask)


@implements(np.nansum)
def nansum(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
    return total(a, axis, dtype, keepdims, initial, _not_nan(a, where))


@implements(np.nanprod)
def nanprod(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
    return prod(a, axis, dtype, keepdims, initial, _not_nan(a, where))


@implements(np.nanmean)
def nanmean(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, *, where: Any = True) -> Tensor:
    if dtype is not None and np.dtype(dtype).kind not in "fc":
        raise DTypeError(f"dtype={dtype!r}: a mean without NaN is a float.")
    return mean(a, axis, dtype, keepdims, where=_not_nan(a, where))


@implements(np.nanvar)
def nanvar(
    a: Any, axis: Any = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False, *, where: Any = True, correction: Any = None
) -> Tensor:
    return var(a, axis, dtype, ddof, keepdims, where=_not_nan(a, where), correction=correction)


@implements(np.nanstd)
def nanstd(
    a: Any, axis: Any = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False, *, where: Any = True, correction: Any = None
) -> Tensor:
    return _root(nanvar(a, axis, dtype, ddof, keepdims, where=where, correction=correction))


def _extreme_without_nan(name: str, function: Callable[..., Tensor], bottom: float) -> Callable[..., Tensor]:
    def reduction(a: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
        a = real_only(name, a)
        if a.dtype.kind != "f":
            return function(a, axis, keepdims)
        is_nan = OPS["isnan"](a)
        extreme = function(where(is_nan, a.dtype.type(bottom), a), axis, keepdims)
        return where(reduce.reduce_all(is_nan, axis, keepdims), a.dtype.type(np.nan), extreme)

    return reduction


implements(np.nanmax)(_extreme_without_nan("np.nanmax", highest, -np.inf))
implements(np.nanmin)(_extreme_without_nan("np.nanmin", lowest, np.inf))

# ---- running


def _running(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def running(a: Any, axis: Any = None, dtype: Any = None) -> Tensor:
        a = in_dtype(a, dtype)
        result = op(shape.reshape(a, (-1,)), 0) if axis is None else op(a, axis)
        return result if dtype is None else cast(result, dtype)

    return running


cumsum = implements(np.cumsum)(_running(reduce.cumsum))
cumprod = implements(np.cumprod)(_running(reduce.cumprod))
implements(np.nancumsum)(lambda a, axis=None, dtype=None: cumsum(_left(as_tensor(a), _not_nan(a, True), 0), axis, dtype))
implements(np.nancumprod)(lambda a, axis=None, dtype=None: cumprod(_left(as_tensor(a), _not_nan(a, True), 1), axis, dtype))


def _cumulative(function: Callable[..., Tensor], first: int) -> Callable[..., Tensor]:
    def running(x: Any, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
        x = as_tensor(x)
        if axis is None and x.ndim != 1:
            raise ShapeError(f"a running sum or product over {x.ndim} axes: say along which, with axis=.")
        along = axis_of("cumulative_sum", 0 if axis is None else axis, x.ndim)
        result = function(x, along, dtype)
        if not include_initial:
            return result
        initial = np.full((*result.shape[:along], 1, *result.shape[along + 1 :]), first, result.dtype)
        return shape.concatenate([initial, result], along)

    return running


implements(np.cumulative_sum)(_cumulative(cumsum, 0))
implements(np.cumulative_prod)(_cumulative(cumprod, 1))
