"""NumPy's functions on tensors, one line each; any other function raises an error that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from dagtrain.errors import ShapeError, UnsupportedError
from dagtrain.graph import Tensor
from dagtrain.ops import OPS, as_tensor, index, linalg, reduce, shape, sorting
from dagtrain.ops.elementwise import cast, where

Function = TypeVar("Function", bound=Callable[..., Any])
FUNCTIONS: dict[Any, Callable[..., Any]] = {}


def implements(*numpy_functions: Any) -> Callable[[Function], Function]:
    """Register a function as the implementation of NumPy functions on tensors."""

    def put(function: Function) -> Function:
        for numpy_function in numpy_functions:
            FUNCTIONS[numpy_function] = function
        return function

    return put


def apply_function(function: Any, args: Any, kwargs: Any) -> Any:
    """Implement `Tensor.__array_function__`."""
    implementation = FUNCTIONS.get(function)
    module = getattr(function, "__module__", "numpy").replace("numpy", "np", 1)
    name = f"{module}.{getattr(function, '__name__', function)}"
    if implementation is None:
        raise UnsupportedError(f"{name} is not supported on tensors. Supported: {', '.join(sorted(f.__name__ for f in FUNCTIONS))}.")
    return call_named(name, implementation, *args, **kwargs)


def call_named(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call an implementation; an argument that it lacks raises an error that names it."""
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        if "unexpected keyword" in str(error) or "positional argument" in str(error):
            raise UnsupportedError(f"{name} on tensors: {error}") from error
        raise


def _reduction(op: Callable[..., Tensor], join: str, neutral: int) -> Callable[..., Tensor]:
    """A sum or product; `where` replaces elements by the neutral one."""

    def reduction(
        a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: Any = False, initial: Any = None, where: Any = None
    ) -> Tensor:
        no_out(out)
        a = as_tensor(a) if dtype is None else cast(as_tensor(a), dtype)
        result = op(a if where is None else choose(where, a, neutral), axis, bool(keepdims) if keepdims is not np._NoValue else False)
        return result if initial is None else OPS[join](result, initial)

    return reduction


def _extreme(op: Callable[..., Tensor], join: str) -> Callable[..., Tensor]:
    """An extreme element, `initial` included; `where` replaces elements by `initial`, so it needs one."""

    def reduction(a: Any, axis: Any = None, out: None = None, keepdims: Any = False, initial: Any = None, where: Any = None) -> Tensor:
        no_out(out)
        a = as_tensor(a)
        if where is not None:
            if initial is None:
                raise UnsupportedError("where= needs initial= here: the value if nothing is left.")
            a = choose(where, a, initial)
        result = op(a, axis, keepdims is True)
        return result if initial is None else OPS[join](result, initial)

    return reduction


def _truth(op: Callable[..., Tensor], neutral: bool) -> Callable[..., Tensor]:
    def reduction(a: Any, axis: Any = None, out: None = None, keepdims: Any = False, *, where: Any = None) -> Tensor:
        no_out(out)
        a = as_tensor(a)
        return op(a if where is None else choose(where, a != 0, neutral), axis, keepdims is True)

    return reduction


def no_out(out: Any) -> None:
    """Refuse ``out=``."""
    if out is not None:
        raise UnsupportedError("out=...: tensors never change. Use the result instead, as in x = np.sum(y).")


total = implements(np.sum)(_reduction(reduce.reduce_sum, "add", 0))
prod = implements(np.prod)(_reduction(reduce.reduce_prod, "multiply", 1))
highest = implements(np.max, np.amax)(_extreme(reduce.reduce_max, "maximum"))
lowest = implements(np.min, np.amin)(_extreme(reduce.reduce_min, "minimum"))
any_ = implements(np.any)(_truth(reduce.reduce_any, False))
all_ = implements(np.all)(_truth(reduce.reduce_all, True))


@implements(np.mean)
def mean(a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: Any = False, *, where: Any = None) -> Tensor:
    no_out(out)
    a = as_tensor(a) if dtype is None else cast(as_tensor(a), dtype)
    if where is None:
        return reduce.reduce_mean(a, axis, keepdims is True)
    a = a if a.dtype.kind == "f" else cast(a, np.float64)
    count = reduce.reduce_sum(shape.broadcast_to(as_tensor(where), a.shape), axis, keepdims is True)
    return OPS["divide"](total(a, axis, keepdims=keepdims is True, where=where), cast(count, a.dtype))


@implements(np.var)
def var(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0, keepdims: Any = False, *, correction: Any = None
) -> Tensor:
    no_out(out)
    a = as_tensor(a) if dtype is None else cast(as_tensor(a), dtype)
    return reduce.variance(a, axis, ddof if correction is None else correction, keepdims is True)


@implements(np.std)
def std(a: Any, *args: Any, **kwargs: Any) -> Tensor:
    variance = var(a, *args, **kwargs)
    none = variance == 0  # the derivative of equal elements is 0, not infinity times 0
    return where(none, 0, OPS["sqrt"](where(none, 1, variance)))


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    return reduce.reduce_sum(as_tensor(a) != 0, axis, keepdims)


@implements(np.argmax)
def argmax(a: Any, axis: Any = None, out: None = None, *, keepdims: Any = False) -> Tensor:
    no_out(out)
    return _flat_or(reduce.argmax, a, axis, keepdims)


@implements(np.argmin)
def argmin(a: Any, axis: Any = None, out: None = None, *, keepdims: Any = False) -> Tensor:
    no_out(out)
    return _flat_or(reduce.argmin, a, axis, keepdims)


def _flat_or(op: Callable[..., Tensor], a: Any, axis: Any, keepdims: Any) -> Tensor:
    a = as_tensor(a)
    return op(shape.reshape(a, (-1,)), 0) if axis is None else op(a, axis, keepdims is True)


@implements(np.argsort)
def argsort(a: Any, axis: int | None = -1, kind: Any = None, order: None = None, *, stable: Any = None) -> Tensor:
    a = as_tensor(a)
    return sorting.argsort(shape.reshape(a, (-1,)), 0) if axis is None else sorting.argsort(a, axis)


@implements(np.sort)
def sort(a: Any, axis: int | None = -1, kind: Any = None, order: None = None, *, stable: Any = None) -> Tensor:
    a = as_tensor(a)
    if axis is None:
        a, axis = shape.reshape(a, (-1,)), 0
    return sorting.sort(a, axis)


@implements(np.cumsum)
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: None = None) -> Tensor:
    no_out(out)
    a = as_tensor(a) if dtype is None else cast(as_tensor(a), dtype)
    return reduce.cumsum(shape.reshape(a, (-1,)), 0) if axis is None else reduce.cumsum(a, axis)


@implements(np.cumprod)
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: None = None) -> Tensor:
    no_out(out)
    a = as_tensor(a) if dtype is None else cast(as_tensor(a), dtype)
    return reduce.cumprod(shape.reshape(a, (-1,)), 0) if axis is None else reduce.cumprod(a, axis)


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    a = as_tensor(a)
    ends = [
        end if end is None or np.ndim(end) else np.full([1 if i == axis % a.ndim else m for i, m in enumerate(a.shape)], end)
        for end in (prepend, append)
    ]
    a = shape.concatenate([part for part in (ends[0], a, ends[1]) if part is not None], axis)
    for _ in range(n):
        first, last = (shape.split(a, [cut], axis) for cut in (a.shape[axis] - 1, 1))
        a = last[1] - first[0]
    return as_tensor(a)


@implements(np.clip)
def clip(a: Any, a_min: Any = None, a_max: Any = None, out: None = None, *, min: Any = None, max: Any = None) -> Tensor:
    no_out(out)
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    above = as_tensor(a) if low is None else OPS["maximum"](a, low)
    return above if high is None else OPS["minimum"](above, high)


@implements(np.where)
def choose(condition: Any, x: Any = None, y: Any = None) -> Tensor:
    if x is None or y is None:
        raise UnsupportedError("np.where(condition) alone gives a shape that is not known beforehand. Use np.where(condition, x, y).")
    return where(condition, x, y)


@implements(np.round, np.around)
def round_(a: Any, decimals: int = 0, out: None = None) -> Tensor:
    no_out(out)
    tensor = as_tensor(a)
    if tensor.dtype.kind in "iu" and decimals >= 0:
        return tensor
    if decimals == 0:
        return OPS["rint"](tensor)
    scale = float(10**decimals)
    return cast(OPS["divide"](OPS["rint"](tensor * scale), scale), tensor.dtype)


@implements(np.matrix_transpose)
def matrix_transpose(x: Any) -> Tensor:
    return shape.swapaxes(as_tensor(x), -1, -2)


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    x = as_tensor(x)
    if ord in (None, "fro") or (ord == 2 and (isinstance(axis, int) or (axis is None and x.ndim == 1))):
        return reduce.norm(x, axis, keepdims)
    if ord == 1 and (isinstance(axis, int) or (axis is None and x.ndim == 1)):
        return reduce.reduce_sum(abs(x), axis, keepdims)
    if ord == np.inf and (isinstance(axis, int) or (axis is None and x.ndim == 1)):
        return reduce.reduce_max(abs(x), axis, keepdims)
    raise UnsupportedError(f"np.linalg.norm on tensors supports the vector norms 1, 2, inf and 'fro', not ord={ord!r}.")


@implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    return reduce.reduce_sum(diagonal(a, offset, axis1, axis2), -1)


@implements(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    a = shape.moveaxis(as_tensor(a), (axis1, axis2), (0, 1))
    start = (max(-offset, 0), max(offset, 0))
    n = max(min(a.shape[0] - start[0], a.shape[1] - start[1]), 0)
    picked = index.gather(a, np.arange(n) + start[0], np.arange(n) + start[1])
    return shape.moveaxis(picked, 0, -1)


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Tensor:
    m = as_tensor(m)
    return where(np.tri(m.shape[-2], m.shape[-1], k, dtype=bool), m, 0)


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Tensor:
    m = as_tensor(m)
    return where(~np.tri(m.shape[-2], m.shape[-1], k - 1, dtype=bool), m, 0)


@implements(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Tensor:
    if returned:
        raise UnsupportedError("np.average(..., returned=True) is not supported on tensors.")
    if weights is None:
        return reduce.reduce_mean(as_tensor(a), axis, keepdims is True)
    a, weights = as_tensor(a), as_tensor(weights)
    if weights.shape != a.shape and axis is not None:
        weights = shape.reshape(weights, [n if i == axis % a.ndim else 1 for i, n in enumerate(a.shape)])
    total = reduce.reduce_sum(shape.broadcast_to(weights, a.shape), axis, keepdims is True)
    return OPS["divide"](reduce.reduce_sum(a * weights, axis, keepdims is True), total)


def _full_like(fill: float | None) -> Callable[..., Any]:
    def like(a: Tensor, *args: Any, **kwargs: Any) -> Any:
        value = args[0] if fill is None else fill
        rest = args[1:] if fill is None else args
        dtype = kwargs.get("dtype") or (rest[0] if rest else None) or a.dtype
        return np.full(kwargs.get("shape") or a.shape, value, dtype)

    return like


FUNCTIONS[np.zeros_like] = FUNCTIONS[np.empty_like] = _full_like(0)
FUNCTIONS[np.ones_like] = _full_like(1)
FUNCTIONS[np.full_like] = _full_like(None)
FUNCTIONS[np.shape] = lambda a: a.shape
FUNCTIONS[np.ndim] = lambda a: a.ndim
FUNCTIONS[np.size] = lambda a, axis=None: a.size if axis is None else a.shape[axis]
FUNCTIONS[np.reshape] = lambda a, shape_=None, order="C", *, shape=None, newshape=None, copy=None: _reshape(
    a, shape_ if shape is None else shape, order
)
FUNCTIONS[np.ravel] = lambda a, order="C": _reshape(a, (-1,), order)
FUNCTIONS[np.transpose] = lambda a, axes=None: shape.transpose(as_tensor(a), axes)
FUNCTIONS[np.swapaxes] = lambda a, axis1, axis2: shape.swapaxes(as_tensor(a), axis1, axis2)
FUNCTIONS[np.moveaxis] = lambda a, source, destination: shape.moveaxis(as_tensor(a), source, destination)
FUNCTIONS[np.broadcast_to] = lambda array, shape_=None, subok=False, *, shape=None: _broadcast_to(array, shape_ if shape is None else shape)
FUNCTIONS[np.expand_dims] = lambda a, axis: shape.expand_dims(as_tensor(a), axis)
FUNCTIONS[np.squeeze] = lambda a, axis=None: shape.squeeze(as_tensor(a), axis)
FUNCTIONS[np.flip] = lambda m, axis=None: shape.flip(as_tensor(m), axis)
FUNCTIONS[np.flipud] = lambda m: shape.flip(as_tensor(m), 0)
FUNCTIONS[np.fliplr] = lambda m: shape.flip(as_tensor(m), 1)
FUNCTIONS[np.concatenate] = lambda arrays, axis=0, out=None, **_: shape.concatenate(list(arrays), axis)
FUNCTIONS[np.stack] = lambda arrays, axis=0, out=None, **_: shape.stack(list(arrays), axis)
FUNCTIONS[np.hstack] = lambda tup, **_: shape.concatenate(list(tup), 0 if as_tensor(tup[0]).ndim == 1 else 1)
FUNCTIONS[np.split] = lambda ary, indices_or_sections, axis=0: shape.split(as_tensor(ary), indices_or_sections, axis)
FUNCTIONS[np.tile] = lambda A, reps: shape.tile(as_tensor(A), reps)
FUNCTIONS[np.roll] = lambda a, shift, axis=None: shape.roll(as_tensor(a), shift, axis)
FUNCTIONS[np.take] = lambda a, indices, axis=None, out=None, mode="raise": index.take(as_tensor(a), indices, axis)
FUNCTIONS[np.take_along_axis] = lambda arr, indices, axis=-1: index.take_along_axis(as_tensor(arr), indices, axis)
FUNCTIONS[np.dot] = lambda a, b, out=None: linalg.dot(a, b)
FUNCTIONS[np.vdot] = lambda a, b: linalg.dot(shape.reshape(as_tensor(a), (-1,)), shape.reshape(as_tensor(b), (-1,)))
FUNCTIONS[np.inner] = linalg.inner
FUNCTIONS[np.outer] = lambda a, b, out=None: linalg.outer(a, b)
FUNCTIONS[np.tensordot] = linalg.tensordot
FUNCTIONS[np.einsum] = lambda subscripts, *operands, out=None, optimize=False: linalg.einsum(subscripts, *operands)  # noqa: PLW0108  # drops two arguments
FUNCTIONS[np.astype] = lambda x, dtype, **_: cast(x, dtype)
FUNCTIONS[np.copy] = lambda a, order="K", subok=False: as_tensor(a)
FUNCTIONS[np.isclose] = lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: abs(as_tensor(a) - b) <= atol + rtol * abs(as_tensor(b))


@implements(np.atleast_2d)
def at_least_2d(a: Any) -> Tensor:
    a = as_tensor(a)
    return a if a.ndim >= 2 else shape.reshape(a, (1, -1))


FUNCTIONS[np.vstack] = lambda tup, **_: shape.concatenate([at_least_2d(t) for t in tup], 0)


@implements(np.atleast_1d)
def at_least_1d(a: Any) -> Tensor:
    a = as_tensor(a)
    return a if a.ndim else shape.reshape(a, (1,))


@implements(np.repeat)
def repeat(a: Any, repeats: int, axis: Any = None) -> Tensor:
    a = as_tensor(a)
    if not isinstance(repeats, int | np.integer):
        raise UnsupportedError("np.repeat on tensors takes one whole number of repeats.")
    return shape.repeat_axis(shape.reshape(a, (-1,)) if axis is None else a, int(repeats), 0 if axis is None else axis)


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0, **kwargs: Any) -> Tensor:
    padded = as_tensor(array)
    if mode in ("edge", "reflect", "symmetric", "wrap") and not kwargs:
        widths = np.broadcast_to(np.asarray(pad_width), (padded.ndim, 2))
        for axis, width in enumerate(widths.tolist()):
            if width != [0, 0]:
                padded = index.take(padded, np.pad(np.arange(padded.shape[axis]), width, mode), axis)  # type: ignore[call-overload]  # one of four
        return padded
    if mode != "constant" or kwargs or not isinstance(constant_values, int | float):
        raise UnsupportedError(
            f"np.pad on tensors pads with one constant, or by mode edge, reflect, symmetric or wrap, not mode={mode!r} {kwargs or ''}."
        )
    return shape.pad(padded, pad_width, constant_values)


def _reshape(a: Any, to: Any, order: str) -> Tensor:
    if order not in ("C", "K", "A"):
        raise UnsupportedError(f"reshape on tensors is in C order, not order={order!r}.")
    if to is None:
        raise ShapeError("reshape needs a shape.")
    return shape.reshape(as_tensor(a), to)


def _broadcast_to(a: Any, to: Any) -> Tensor:
    return shape.broadcast_to(as_tensor(a), to)
