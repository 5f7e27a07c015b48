"""NumPy's functions that reshape, turn, repeat, pick and surround elements, and those that need only shape and dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError, UnsupportedError
from dagtrain.graph import Array, Tensor, make_spec
from dagtrain.numpy_api.calls import implements
from dagtrain.ops import as_tensor, index, shape
from dagtrain.ops.elementwise import cast, where
from dagtrain.ops.record import axes_of, axis_of

__all__ = ["astype", "at_least_1d", "at_least_2d", "diagonal", "ravel", "repeat", "reshape", "take"]

# ---- shape and dtype alone

implements(np.shape)(lambda a: as_tensor(a).shape)
implements(np.ndim)(lambda a: as_tensor(a).ndim)
implements(np.iscomplexobj)(lambda x: as_tensor(x).dtype.kind == "c")
implements(np.isrealobj)(lambda x: as_tensor(x).dtype.kind != "c")
implements(np.result_type)(lambda *arrays_and_dtypes: np.result_type(*map(_dtype_of, arrays_and_dtypes)))
implements(np.can_cast)(lambda from_, to, casting="safe": np.can_cast(_dtype_of(from_), _dtype_of(to), casting))


@implements(np.tril_indices_from)
def tril_indices_from(arr: Any, k: int = 0) -> tuple[Array, Array]:
    rows, columns = _two_axes("np.tril_indices_from", arr)
    return np.tril_indices(rows, k, columns)


@implements(np.triu_indices_from)
def triu_indices_from(arr: Any, k: int = 0) -> tuple[Array, Array]:
    rows, columns = _two_axes("np.triu_indices_from", arr)
    return np.triu_indices(rows, k, columns)


def _two_axes(name: str, a: Any) -> tuple[int, ...]:
    lengths = as_tensor(a).shape
    if len(lengths) != 2:
        raise ShapeError(f"{name} needs two axes, got shape {lengths}.")
    return lengths


def _dtype_of(value: Any) -> Any:
    return value.dtype if isinstance(value, Tensor) else value


@implements(np.size)
def size(a: Any, axis: Any = None) -> int:
    a = as_tensor(a)
    return a.size if axis is None else shape.size_of(a.shape, axes_of("np.size", axis, a.ndim))


@implements(np.full_like)
def full_like(a: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    spec = make_spec(as_tensor(a).shape if shape is None else shape, as_tensor(a).dtype if dtype is None else dtype)
    if isinstance(fill_value, Tensor):
        return _broadcast_to(cast(fill_value, spec.dtype), spec.shape)
    return np.full(spec.shape, fill_value, spec.dtype)


implements(np.zeros_like)(lambda a, dtype=None, shape=None: full_like(a, 0, dtype, shape))
implements(np.empty_like)(lambda prototype, dtype=None, shape=None: full_like(prototype, 0, dtype, shape))
implements(np.ones_like)(lambda a, dtype=None, shape=None: full_like(a, 1, dtype, shape))


def converted(a: Any, dtype: Any, casting: Any) -> Tensor:
    """The same numbers in a dtype; DTypeError if this kind of casting does not allow it."""
    a = as_tensor(a)
    target = make_spec((), dtype).dtype
    if not np.can_cast(a.dtype, target, casting):
        raise DTypeError(f"casting={casting!r} does not allow {a.dtype} to become {target}.")
    return cast(a, target)


@implements(np.astype)
def astype(x: Any, dtype: Any, casting: str = "unsafe") -> Tensor:
    return converted(x, dtype, casting)


@implements(np.copy)
def copy(a: Any) -> Tensor:
    return as_tensor(a)


# ---- another shape


@implements(np.reshape)
def reshape(a: Any, shape: Any = None, order: str = "C") -> Tensor:
    if shape is None:
        raise ShapeError("reshape needs a shape.")
    return _in_order(as_tensor(a), shape, order)


@implements(np.ravel)
def ravel(a: Any, order: str = "C") -> Tensor:
    return _in_order(as_tensor(a), (-1,), order)


def _in_order(a: Tensor, to: Any, order: str) -> Tensor:
    if order == "C":
        return shape.reshape(a, to)
    if order != "F":
        raise UnsupportedError(
            f"order={order!r}: tensors have no order in memory. Elements are read in order 'C' (the last axis first) or 'F'."
        )
    lengths = (to,) if isinstance(to, int | np.integer) else tuple(to)
    return shape.transpose(shape.reshape(shape.transpose(a), lengths[::-1]))


def _broadcast_to(a: Any, to: Any) -> Tensor:
    return shape.broadcast_to(as_tensor(a), to)


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any) -> Tensor:
    return _broadcast_to(array, shape)


implements(np.transpose)(lambda a, axes=None: shape.transpose(as_tensor(a), axes))
implements(np.matrix_transpose, np.linalg.matrix_transpose)(lambda x: shape.swapaxes(as_tensor(x), -1, -2))
implements(np.swapaxes)(lambda a, axis1, axis2: shape.swapaxes(as_tensor(a), axis1, axis2))
implements(np.moveaxis)(lambda a, source, destination: shape.moveaxis(as_tensor(a), source, destination))
implements(np.expand_dims)(lambda a, axis: shape.expand_dims(as_tensor(a), axis))
implements(np.squeeze)(lambda a, axis=None: shape.squeeze(as_tensor(a), axis))
implements(np.flip)(lambda m, axis=None: shape.flip(as_tensor(m), axis))
implements(np.flipud)(lambda m: shape.flip(as_tensor(m), 0))
implements(np.fliplr)(lambda m: shape.flip(as_tensor(m), 1))


@implements(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Tensor:
    a = as_tensor(a)
    place = axis_of("rollaxis", axis, a.ndim)
    if not -a.ndim <= start <= a.ndim:
        raise ShapeError(f"rollaxis: start={start} is not from {-a.ndim} to {a.ndim}.")
    start = start + a.ndim if start < 0 else start
    return shape.moveaxis(a, place, start - (place < start))


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any) -> tuple[Tensor, ...]:
    common = np.broadcast_shapes(*map(np.shape, args))
    return tuple(_broadcast_to(a, common) for a in args)


@implements(np.meshgrid)
def meshgrid(*xi: Any, sparse: bool = False, indexing: str = "xy") -> tuple[Tensor, ...]:
    if indexing not in ("xy", "ij"):
        raise UnsupportedError(f"np.meshgrid: indexing is 'xy' or 'ij', got indexing={indexing!r}.")
    places = list(range(len(xi)))
    if indexing == "xy":
        places[:2] = places[:2][::-1]
    lines = [as_tensor(x) for x in xi]
    grids = [shape.reshape(x, [x.size if i == place else 1 for i in range(len(xi))]) for x, place in zip(lines, places, strict=True)]
    return tuple(grids) if sparse else broadcast_arrays(*grids)


def _each(function: Any) -> Any:
    """One tensor for one, a tuple for several."""

    def of_all(*arys: Any) -> Any:
        return function(as_tensor(arys[0])) if len(arys) == 1 else tuple(function(as_tensor(a)) for a in arys)

    return of_all


def at_least_1d(a: Any) -> Tensor:
    """A number as a vector."""
    a = as_tensor(a)
    return a if a.ndim else shape.reshape(a, (1,))


def at_least_2d(a: Any) -> Tensor:
    """A number or vector as a row."""
    a = as_tensor(a)
    return a if a.ndim >= 2 else shape.reshape(a, (1, a.size))


def at_least_3d(a: Any) -> Tensor:
    """A matrix as one of depth 1, and so on."""
    a = as_tensor(a)
    return a if a.ndim >= 3 else shape.reshape(a, (*(1,) * (a.ndim < 2), *a.shape, *(1,) * (2 if a.ndim == 0 else 1)))


implements(np.atleast_1d)(_each(at_least_1d))
implements(np.atleast_2d)(_each(at_least_2d))
implements(np.atleast_3d)(_each(at_least_3d))


@implements(np.rot90)
def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    if k % 4 == 0:
        return as_tensor(m)
    if k % 4 == 2:
        return shape.flip(as_tensor(m), tuple(axes))
    turned = shape.swapaxes(as_tensor(m), *axes)
    return shape.flip(turned, axes[0] if k % 4 == 1 else axes[1])


# ---- repeating and picking

implements(np.tile)(lambda A, reps: shape.tile(as_tensor(A), reps))
implements(np.roll)(lambda a, shift, axis=None: shape.roll(as_tensor(a), shift, axis))
implements(np.take_along_axis)(lambda arr, indices, axis=-1: _along(arr, indices, axis))


@implements(np.take)
def take(a: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Tensor:
    if mode not in ("raise", "clip", "wrap"):
        raise UnsupportedError(f"np.take has the modes 'raise', 'clip' and 'wrap', not mode={mode!r}.")
    a = as_tensor(a)
    places = as_tensor(index.positions(indices))
    length = a.size if axis is None else a.shape[axis_of("take", axis, a.ndim)]
    if mode == "clip":
        places = as_tensor(np.clip(places, 0, length - 1))
    elif mode == "wrap":
        places = places % length
    return index.take(a, places, axis)


def _along(a: Any, indices: Any, axis: int | None) -> Tensor:
    a = as_tensor(a)
    return index.take_along_axis(shape.reshape(a, (-1,)), indices, 0) if axis is None else index.take_along_axis(a, indices, axis)


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Tensor:
    a = as_tensor(a)
    a, axis = (shape.reshape(a, (a.size,)), 0) if axis is None else (a, axis_of("repeat", axis, a.ndim))
    if isinstance(repeats, int | np.integer):
        return shape.repeat_axis(a, int(repeats), axis)
    if isinstance(repeats, Tensor):
        raise UnsupportedError("np.repeat on tensors takes numbers of repeats that are known beforehand: the shape depends on them.")
    return index.take(a, np.repeat(np.arange(a.shape[axis]), repeats), axis)


@implements(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    a = shape.moveaxis(as_tensor(a), (axis1, axis2), (0, 1))
    start = (max(-offset, 0), max(offset, 0))
    n = max(min(a.shape[0] - start[0], a.shape[1] - start[1]), 0)
    picked = index.gather(a, np.arange(n) + start[0], np.arange(n) + start[1])
    return shape.moveaxis(picked, 0, -1)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Tensor:
    v = as_tensor(v)
    if v.ndim != 1:
        _two_axes("np.diag", v)
        return diagonal(v, k)
    size = v.shape[0] + abs(k)
    line = shape.pad(v, (0, abs(k)))
    return where(np.eye(size, k=k, dtype=bool), shape.reshape(line, (-1, 1) if k >= 0 else (1, -1)), v.dtype.type(0))


def _below(m: Tensor, k: int) -> Array:
    """Where a matrix, or a square one made of a vector, is on its k-th diagonal or below."""
    if not m.ndim:
        raise ShapeError("np.tril and np.triu need at least one axis, got shape ().")
    return np.tri(m.shape[-2] if m.ndim > 1 else m.size, m.shape[-1], k, dtype=bool)


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Tensor:
    m = as_tensor(m)
    return where(_below(m, k), m, m.dtype.type(0))


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Tensor:
    m = as_tensor(m)
    return where(~_below(m, k - 1), m, m.dtype.type(0))


# ---- surrounding


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    padded = as_tensor(array)
    widths = _pairs("pad_width", pad_width, padded.ndim)
    if mode in ("edge", "reflect", "symmetric", "wrap"):
        for axis, width in enumerate(widths):
            if width != (0, 0):
                padded = index.take(padded, np.pad(np.arange(padded.shape[axis]), width, mode), axis)  # type: ignore[call-overload]  # one of four
        return padded
    if mode != "constant":
        raise UnsupportedError(f"np.pad on tensors pads with constants, or by mode edge, reflect, symmetric or wrap, not mode={mode!r}.")
    if isinstance(constant_values, dict):
        raise UnsupportedError("np.pad: constant_values is no dict, which only pad_width may be.")
    values = _pairs("constant_values", constant_values, padded.ndim)
    if len({v for pair in values for v in pair}) <= 1:
        return shape.pad(padded, widths, values[0][0] if values else 0)
    for axis, (pair, width) in enumerate(zip(values, widths, strict=True)):
        for value, sides in zip(pair, ((width[0], 0), (0, width[1])), strict=True):
            padded = shape.pad(padded, [sides if i == axis else (0, 0) for i in range(padded.ndim)], value)
    return padded


def _pairs(name: str, value: Any, ndim: int) -> list[tuple[Any, Any]]:
    """A pair for each axis, of one value for all, a pair for all, one for each axis, or a dict by axis."""
    if isinstance(value, dict):
        pairs = [(0, 0)] * ndim
        for axis, pair in value.items():
            pairs[axis_of(name, axis, ndim)] = tuple(np.broadcast_to(pair, (2,)).tolist())
        return pairs
    if isinstance(value, Tensor):
        raise UnsupportedError(f"np.pad on tensors takes {name}= that is known beforehand.")
    return [tuple(pair) for pair in np.broadcast_to(np.asarray(value), (ndim, 2)).tolist()]
