"""Ops that reduce along axes.

Sums of float16 are accumulated in float32: in float16 alone a sum of ones ends at 2,048, and a mean of 300 times 500 is infinite.
Ties in `max` and `min` share the gradient equally. The gradient of `norm` at the zero vector is zero; `logsumexp` shares
its own equally among equal infinities. `argmax` and `argmin` have derivative zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.elementwise import absolute, cast, exp, finite, imag, part_of_length, real, square, stop_gradient, where
from dagtrain.ops.record import OPS, ZERO, Draw, Op, Sample, as_tensor, axes_of, axis_of, size_of, written

Axes = tuple[int, ...]
# Called by position, which is faster; NumPy's type stubs lack that form.
add_reduce: Any = np.add.reduce
_multiply_reduce: Any = np.multiply.reduce
maximum_reduce: Any = np.maximum.reduce
_minimum_reduce: Any = np.minimum.reduce


def reduced_shape(shape: tuple[int, ...], axis: Axes, keepdims: bool) -> tuple[int, ...]:
    """Shape after reducing these axes."""
    return tuple(1 if i in axis else n for i, n in enumerate(shape) if keepdims or i not in axis)


def _spec(kind: Any = None) -> Any:
    def infer(a: Spec, *, axis: Axes, keepdims: bool) -> Spec:
        dtype = a.dtype
        if kind == "sum" and dtype.kind in "biu":
            dtype = np.add.reduce(np.zeros(1, dtype)).dtype
        elif kind == "mean" and dtype.kind in "biu":
            dtype = np.dtype(float)
        elif isinstance(kind, np.dtype):
            dtype = kind
        if kind == "extreme" and size_of(a.shape, axis) == 0:
            raise ShapeError(f"max and min of nothing: shape {a.shape} along axes {axis} holds no element.")
        return Spec(reduced_shape(a.shape, axis, keepdims), dtype)

    return infer


_SAMPLES = tuple(
    Sample((Draw((3, 4), 0.5, 2.0),), {"axis": axis, "keepdims": keepdims})
    for axis, keepdims in [((0, 1), False), ((0,), False), ((1,), True)]
)


def _reduction(name: str, kind: str, kernel: Any, gradient: Any, flops: float = 1.0) -> Op:
    """The record of a reduction with so many operations for each element."""
    return Op(name, kernel, _spec(kind), gradient, _SAMPLES, flops=lambda spec, a, **_: flops * a.size)


def _expanded(y: Tensor, a: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    """`y` with the reduced axes put back as length 1."""
    from dagtrain.ops.shape import reshape

    return y if keepdims else reshape(y, reduced_shape(a.shape, axis, True))


def _spread(g: Tensor, a: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    from dagtrain.ops.shape import broadcast_to

    return broadcast_to(_expanded(g, a, axis, keepdims), a.shape)


def is_half(a: Any) -> bool:
    """Whether an array or a tensor is of float16; kernels ask for `a.itemsize` before, which is several times faster."""
    return bool(a.dtype.char == "e")


def in_single(kernel: Any, arrays: tuple[Any, ...], out: Any, **attributes: Any) -> Any:
    """What a kernel makes of float16 arrays, computed in float32."""
    return written(np.asarray(kernel(*(a.astype(np.float32) if is_half(a) else a for a in arrays), **attributes)).astype(np.float16), out)


_TALL, _NARROW, _WIDE = 1 << 16, 64, 512


def _is_tall(a: Any, axis: Axes) -> bool:
    """Whether many short rows are added up, as pixels with their channels are. The shape alone decides."""
    return a.size >= _TALL and a.dtype.kind == "f" and axis == tuple(range(len(axis))) and 1 < math.prod(a.shape[len(axis) :]) <= _NARROW


def _tall_sum(a: Any, out: Any, *, axis: Axes, keepdims: bool) -> Any:
    """The sum of short rows: first of long rows made of several, since NumPy adds 512 numbers in nearly the time of 32."""
    columns = math.prod(a.shape[len(axis) :])
    rows = a.reshape(-1, columns)
    several = _WIDE // columns
    whole = len(rows) - len(rows) % several
    total = add_reduce(add_reduce(rows[:whole].reshape(-1, several * columns), 0).reshape(several, columns), 0)
    if whole < len(rows):
        total += add_reduce(rows[whole:], 0)
    return written(total.reshape(reduced_shape(a.shape, axis, keepdims)), out)


def _sum_kernel(a: Any, out: Any = None, *, axis: Axes, keepdims: bool) -> Any:
    if a.itemsize == 2 and is_half(a):
        return in_single(_sum_kernel, (a,), out, axis=axis, keepdims=keepdims)
    if a.size >= _TALL and _is_tall(a, axis):
        return _tall_sum(a, out, axis=axis, keepdims=keepdims)
    return add_reduce(a, axis, None, out, keepdims)


_sum = _reduction("sum", "sum", _sum_kernel, lambda g, y, a, *, axis, keepdims: (_spread(g, a, axis, keepdims),))


def _mean_kernel(a: Any, out: Any = None, *, axis: Axes, keepdims: bool) -> Any:
    if a.itemsize == 2 and is_half(a):
        return in_single(_mean_kernel, (a,), out, axis=axis, keepdims=keepdims)
    if a.size >= _TALL and _is_tall(a, axis):
        total = _tall_sum(a, out, axis=axis, keepdims=keepdims)
    else:
        total = add_reduce(a, axis, None if a.dtype.kind in "fc" else np.float64, out, keepdims)
    return np.divide(total, total.dtype.type(size_of(a.shape, axis)), out=out)


def _mean_gradient(g: Tensor, y: Tensor, a: Tensor, *, axis: Axes, keepdims: bool) -> tuple[Tensor]:
    return (_spread(g * (1.0 / max(size_of(a.shape, axis), 1)), a, axis, keepdims),)


_mean = _reduction("mean", "mean", _mean_kernel, _mean_gradient)


def _prod_gradient(g: Tensor, y: Tensor, a: Tensor, *, axis: Axes, keepdims: bool) -> tuple[Tensor]:
    # Product of the others = product before * product after, also right where elements are zero.
    from dagtrain.ops.shape import reshape, transpose

    rest = tuple(i for i in range(a.ndim) if i not in axis)
    order = (*rest, *axis)
    flat = reshape(transpose(a, order), (size_of(a.shape, rest), size_of(a.shape, axis)))
    others = _products_of_others(flat)
    back = transpose(reshape(others, tuple(a.shape[i] for i in order)), tuple(int(i) for i in np.argsort(order)))
    return (_expanded(g, a, axis, keepdims) * back,)


def _products_of_others(flat: Tensor) -> Tensor:
    from dagtrain.ops.shape import concatenate, flip

    if not flat.shape[1]:
        return flat
    ones = np.ones((flat.shape[0], 1), flat.dtype)
    before = cumprod(concatenate([ones, flat[:, :-1]], 1), 1)
    after = flip(cumprod(concatenate([ones, flip(flat[:, 1:], (1,))], 1), 1), (1,))
    products: Tensor = before * after
    return products


_prod = _reduction("prod", "sum", lambda a, out=None, *, axis, keepdims: _multiply_reduce(a, axis, None, out, keepdims), _prod_gradient)


def _extreme_gradient(g: Tensor, y: Tensor, a: Tensor, *, axis: Axes, keepdims: bool) -> tuple[Tensor]:
    hit = (a == _expanded(y, a, axis, keepdims)).astype(g.dtype)
    return (hit * (_expanded(g, a, axis, keepdims) / reduce_sum(hit, axis, True)),)


_max = _reduction("max", "extreme", lambda a, out=None, *, axis, keepdims: maximum_reduce(a, axis, None, out, keepdims), _extreme_gradient)
_min = _reduction("min", "extreme", lambda a, out=None, *, axis, keepdims: _minimum_reduce(a, axis, None, out, keepdims), _extreme_gradient)
_any = Op("any", lambda a, out=None, *, axis, keepdims: np.any(a, axis, out=out, keepdims=keepdims), _spec(np.dtype(bool)), ZERO, _SAMPLES)
_all = Op("all", lambda a, out=None, *, axis, keepdims: np.all(a, axis, out=out, keepdims=keepdims), _spec(np.dtype(bool)), ZERO, _SAMPLES)


def _as_float(a: Any) -> Any:
    """Integers and truth values as float64, in which their differences and squares are right."""
    return a.astype(np.float64) if a.dtype.kind in "biu" else a


def _logsumexp_kernel(a: Any, out: Any = None, *, axis: Axes, keepdims: bool) -> Any:
    if a.itemsize == 2 and is_half(a):
        return in_single(_logsumexp_kernel, (a,), out, axis=axis, keepdims=keepdims)
    a = _as_float(a)
    top = maximum_reduce(a.real if np.iscomplexobj(a) else a, axis, None, None, True)
    top = np.where(np.isfinite(top), top, 0).astype(top.dtype)
    with np.errstate(divide="ignore"):  # the sum of nothing is 0, as is that of exp(-inf)
        total = np.log(add_reduce(np.exp(a - top), axis, None, None, True)) + top
    total = total if keepdims else total.reshape(reduced_shape(a.shape, axis, False))
    return written(total, out)


def _logsumexp_gradient(g: Tensor, y: Tensor, a: Tensor, *, axis: Axes, keepdims: bool) -> tuple[Tensor]:
    # Not exp(a - y), in which the logarithm of the number of terms is lost where a is large, and which is not defined for infinities.
    a = finite(a)
    if len(axis) == 1:
        shares = OPS["softmax"](a, axis=axis[0])
    else:
        terms = exp(a - stop_gradient(reduce_max(a, axis, True)))
        shares = terms / reduce_sum(terms, axis, True)
    return (_expanded(g, a, axis, keepdims) * shares,)


_logsumexp = _reduction("logsumexp", "mean", _logsumexp_kernel, _logsumexp_gradient, flops=12.0)


def _norm_kernel(a: Any, out: Any = None, *, axis: Axes, keepdims: bool) -> Any:
    if a.itemsize == 2 and is_half(a):
        return in_single(_norm_kernel, (a,), out, axis=axis, keepdims=keepdims)
    return np.sqrt(add_reduce(np.square(_as_float(a)), axis, None, None, keepdims), out=out)


def _norm_gradient(g: Tensor, y: Tensor, a: Tensor, *, axis: Axes, keepdims: bool) -> tuple[Tensor]:
    return (_expanded(g, a, axis, keepdims) * part_of_length(a, _expanded(y, a, axis, keepdims)),)


_norm = _reduction("norm", "mean", _norm_kernel, _norm_gradient, flops=2.0)

# ---- along one axis, without change of shape


def _same(a: Spec, **_: Any) -> Spec:
    dtype = np.add.reduce(np.zeros(1, a.dtype)).dtype if a.dtype.kind in "biu" else a.dtype
    return Spec(a.shape, dtype)


def _cumsum_gradient(g: Tensor, y: Tensor, a: Tensor, *, axis: int) -> tuple[Tensor]:
    from dagtrain.ops.shape import flip

    return (flip(cumsum(flip(g, (axis,)), axis), (axis,)),)


def _cumprod_gradient(g: Tensor, y: Tensor, a: Tensor, *, axis: int) -> tuple[Tensor]:
    # Sum over j >= i of g_j times the product of the others up to j: a triangle of products, also right at zeros.
    from dagtrain.ops.shape import expand_dims, moveaxis

    last = moveaxis(a, axis, -1)
    n = last.shape[-1]
    eye = np.eye(n, dtype=bool)
    with_one = where(eye, 1, expand_dims(last, (last.ndim - 1,)))  # [..., i, k]: a_k, and 1 at k = i
    products = cumprod(with_one, with_one.ndim - 1)  # [..., i, j]
    upper = np.triu(np.ones((n, n), bool))
    terms = where(upper, expand_dims(moveaxis(g, axis, -1), (last.ndim - 1,)) * products, 0)  # also where a product is infinite
    grads = reduce_sum(terms, (with_one.ndim - 1,), False)
    return (moveaxis(grads, -1, axis),)


_LINES = tuple(Sample((Draw((3, 4), 0.5, 2.0),), {"axis": axis}) for axis in (0, 1))


def _accumulation(name: str, accumulate: Any, gradient: Any) -> Op:
    def kernel(a: Any, out: Any = None, *, axis: int) -> Any:
        return accumulate(a, axis, _same(Spec(a.shape, a.dtype)).dtype if out is None else out.dtype, out)

    return Op(name, kernel, _same, gradient, _LINES)


_cumsum = _accumulation("cumsum", np.add.accumulate, _cumsum_gradient)
_cumprod = _accumulation("cumprod", np.multiply.accumulate, _cumprod_gradient)


def _position(name: str, function: Any) -> Op:
    def kernel(a: Any, out: Any = None, *, axis: int, keepdims: bool) -> Any:
        return function(a, axis, out=out, keepdims=keepdims)

    def infer(a: Spec, *, axis: int, keepdims: bool) -> Spec:
        if a.shape[axis] == 0:
            raise ShapeError(f"{name} of nothing: axis {axis} of shape {a.shape} is empty.")
        return Spec(reduced_shape(a.shape, (axis,), keepdims), np.dtype(np.intp))

    return Op(name, kernel, infer, ZERO, (Sample((Draw(),), {"axis": 1, "keepdims": False}),), flops=lambda spec, a, **_: float(a.size))


_argmax, _argmin = _position("argmax", np.argmax), _position("argmin", np.argmin)


# ---- functions that check the axis


def _call(op: Op, a: Any, axis: Any, keepdims: bool) -> Tensor:
    a = as_tensor(a)
    return op(a, axis=axes_of(op.name, axis, a.ndim), keepdims=bool(keepdims))


def reduce_sum(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum along axes."""
    return _call(_sum, a, axis, keepdims)


def reduce_mean(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Mean along axes."""
    return _call(_mean, a, axis, keepdims)


def reduce_prod(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Product along axes."""
    return _call(_prod, a, axis, keepdims)


def reduce_max(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest element along axes; ties share the gradient equally."""
    return _call(_max, a, axis, keepdims)


def reduce_min(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Smallest element along axes; ties share the gradient equally."""
    return _call(_min, a, axis, keepdims)


def reduce_any(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether any element along axes is true."""
    return _call(_any, a, axis, keepdims)


def reduce_all(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all elements along axes are true."""
    return _call(_all, a, axis, keepdims)


def variance(a: Tensor, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Mean squared distance from the mean; `ddof` is taken from the divisor."""
    axes = axes_of("var", axis, a.ndim)
    if is_half(a):
        return cast(variance(cast(a, np.float32), axes, ddof, keepdims), a.dtype)
    squares = squared_length(a - reduce_mean(a, axes, True))
    count = size_of(a.shape, axes)
    if ddof == 0:
        return reduce_mean(squares, axes, keepdims)
    spread: Tensor = reduce_sum(squares, axes, keepdims) / max(count - ddof, 0)
    return spread


def squared_length(a: Tensor) -> Tensor:
    """Squares; of complex numbers, those of their absolute values."""
    squares: Tensor = square(real(a)) + square(imag(a)) if a.dtype.kind == "c" else a * a
    return squares


def logsumexp(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(a))) without overflow."""
    return _call(_logsumexp, a, axis, keepdims)


def norm(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Euclidean length along axes; its gradient at zero is zero."""
    return _call(_norm, absolute(a) if a.dtype.kind == "c" else a, axis, keepdims)


def cumsum(a: Tensor, axis: int) -> Tensor:
    """Running sum along an axis."""
    return _cumsum(a, axis=axis_of("cumsum", axis, a.ndim))


def cumprod(a: Tensor, axis: int) -> Tensor:
    """Running product along an axis."""
    return _cumprod(a, axis=axis_of("cumprod", axis, a.ndim))


def argmax(a: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    """Position of the first largest element along an axis."""
    return _argmax(a, axis=axis_of("argmax", axis, a.ndim), keepdims=bool(keepdims))


def argmin(a: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    """Position of the first smallest element along an axis."""
    return _argmin(a, axis=axis_of("argmin", axis, a.ndim), keepdims=bool(keepdims))
