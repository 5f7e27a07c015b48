"""Ops that choose and place elements by integer positions.

Positions count from 0, negative ones from the end, as in NumPy; positions out of bounds raise IndexError when the kernel runs.
Scatter-add adds in the order of the positions, so its bits do not depend on timing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Spec, Tensor, held, make_spec
from dagtrain.ops.record import ZERO, Draw, Op, Sample, as_tensor, axis_of, cleared, written


def _whole(name: str, indices: Spec) -> None:
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"{name}: positions must be integers, got {indices.dtype}. Cast with x.astype(np.int64).")


def positions(indices: Any) -> Any:
    """Positions as they are; an empty list as no positions, where NumPy would see floats."""
    return np.asarray(indices, np.intp) if isinstance(indices, list | tuple | range) and not np.size(indices) else indices


# ---- take: whole slices along one axis


def _take_spec(a: Spec, indices: Spec, *, axis: int) -> Spec:
    _whole("take", indices)
    return Spec((*a.shape[:axis], *indices.shape, *a.shape[axis + 1 :]), a.dtype)


_take = Op(
    "take",
    lambda a, indices, out=None, *, axis: np.take(a, indices, axis, out=out),
    _take_spec,
    lambda g, y, a, i, *, axis: (_take_transpose(g, i, axis=axis, shape=a.shape), None),
    (
        Sample((Draw((5, 3)), Draw((4,), 0, 5, "i8")), {"axis": 0}),
        Sample((Draw((3, 5)), Draw((2, 2), 0, 5, "i8")), {"axis": 1}),
    ),
    flops=lambda *_, **__: 0.0,
)


def _take_transpose_kernel(g: Any, indices: Any, out: Any = None, *, axis: int, shape: tuple[int, ...]) -> Any:
    out = cleared(out, shape, g.dtype)
    np.add.at(out, (*(slice(None),) * axis, indices), g)
    return out


_take_transpose: Op = Op(
    "take_transpose",
    _take_transpose_kernel,
    lambda g, indices, *, axis, shape: make_spec(shape, g.dtype),
    lambda h, y, g, i, *, axis, shape: (_take(h, i, axis=axis), None),
    (Sample((Draw((4, 3)), Draw((4,), 0, 5, "i8")), {"axis": 0, "shape": (5, 3)}),),
    flops=lambda spec, g, *_, **__: float(g.size),
)

# ---- take_along_axis: one element for each line


def _along_spec(a: Spec, indices: Spec, *, axis: int) -> Spec:
    _whole("take_along_axis", indices)
    fits = indices.ndim == a.ndim and all(m in (1, n) for i, (m, n) in enumerate(zip(indices.shape, a.shape, strict=True)) if i != axis)
    if not fits:
        raise ShapeError(f"take_along_axis: positions of shape {indices.shape} do not fit values of shape {a.shape} along axis {axis}.")
    return Spec(tuple(indices.shape[axis] if i == axis else n for i, n in enumerate(a.shape)), a.dtype)


def _grid(shape: tuple[int, ...], indices: Any, axis: int) -> tuple[Any, ...]:
    lines = _lines(shape, axis)
    return (*lines[:axis], indices, *lines[axis:])


@lru_cache(maxsize=256)
def _lines(shape: tuple[int, ...], axis: int) -> tuple[Any, ...]:
    """Positions along every axis but one, each shaped to broadcast."""
    ndim = len(shape)
    return tuple(np.arange(n).reshape(tuple(-1 if j == i else 1 for j in range(ndim))) for i, n in enumerate(shape) if i != axis)


def _along_kernel(a: Any, indices: Any, out: Any = None, *, axis: int) -> Any:
    return written(a[_grid(a.shape, indices, axis)], out)


_along = Op(
    "take_along_axis",
    _along_kernel,
    _along_spec,
    lambda g, y, a, i, *, axis: (take_along_axis_transpose(g, i, axis=axis, shape=a.shape), None),
    (
        Sample((Draw((3, 5)), Draw((3, 2), 0, 5, "i8")), {"axis": 1}),
        Sample((Draw((5, 3)), Draw((1, 3), 0, 5, "i8")), {"axis": 0}),
    ),
    flops=lambda *_, **__: 0.0,
)


def _along_transpose_kernel(g: Any, indices: Any, out: Any = None, *, axis: int, shape: tuple[int, ...]) -> Any:
    out = cleared(out, shape, g.dtype)
    if indices.shape[axis] == 1:  # one element a line: no position occurs twice, so assignment is enough
        out[_grid(shape, indices, axis)] = g
    else:
        np.add.at(out, _grid(shape, indices, axis), g)
    return out


take_along_axis_transpose: Op = Op(
    "take_along_axis_transpose",
    _along_transpose_kernel,
    lambda g, indices, *, axis, shape: make_spec(shape, g.dtype),
    lambda h, y, g, i, *, axis, shape: (_along(h, i, axis=axis), None),
    (Sample((Draw((3, 2)), Draw((3, 2), 0, 5, "i8")), {"axis": 1, "shape": (3, 5)}),),
    flops=lambda spec, g, *_, **__: float(g.size),
)

# ---- gather and scatter_add: one position for each of the leading axes


def gathered_spec(a: Spec, *indices: Spec) -> Spec:
    """The spec of ``a[indices]``."""
    for i in indices:
        _whole("gather", i)
    if len(indices) > a.ndim:
        raise ShapeError(f"gather: {len(indices)} position tensors for a tensor of {a.ndim} axes.")
    try:
        shape = np.broadcast_shapes(*(i.shape for i in indices))
    except ValueError:
        raise ShapeError(f"gather: positions of shapes {', '.join(str(i.shape) for i in indices)} do not broadcast.") from None
    return Spec((*shape, *a.shape[len(indices) :]), a.dtype)


def _gather_kernel(a: Any, *indices: Any, out: Any = None, from_end: bool = True) -> Any:
    if not from_end and any(i.size and i.min() < 0 for i in indices):
        raise IndexError(f"a number is from 0 to {len(a) - 1}, got {min(i.min() for i in indices if i.size)}.")
    return written(a[indices], out)


_gather = Op(
    "gather",
    _gather_kernel,
    lambda a, *indices, **_: gathered_spec(a, *indices),
    lambda g, y, a, *i, **_: (_scatter(g, *i, shape=a.shape), *(None,) * len(i)),
    (
        Sample((Draw((5, 3)), Draw((4,), 0, 5, "i8"))),
        Sample((Draw((5, 3)), Draw((4,), 0, 5, "i8"), Draw((4,), 0, 3, "i8"))),
    ),
    flops=lambda *_, **__: 0.0,
)


def _scatter_kernel(g: Any, *indices: Any, out: Any = None, shape: tuple[int, ...]) -> Any:
    out = cleared(out, shape, g.dtype)
    np.add.at(out, indices, g)
    return out


_scatter: Op = Op(
    "scatter_add",
    _scatter_kernel,
    lambda g, *i, shape: make_spec(shape, g.dtype),
    lambda h, y, g, *i, shape: (_gather(h, *i), *(None,) * len(i)),
    (Sample((Draw((4, 3)), Draw((4,), 0, 5, "i8")), {"shape": (5, 3)}),),
    flops=lambda spec, g, *_, **__: float(g.size),
)


def _one_hot_kernel(labels: Any, out: Any = None, *, classes: int, dtype: str) -> Any:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise IndexError(f"one_hot: labels range from {labels.min()} to {labels.max()}, but there are {classes} classes.")
    hot = labels[..., None] == np.arange(classes)
    return hot.astype(dtype) if out is None else written(hot, out)


_one_hot = Op(
    "one_hot",
    _one_hot_kernel,
    lambda labels, *, classes, dtype: Spec((*labels.shape, classes), np.dtype(dtype)),
    ZERO,
    (Sample((Draw((4,), 0, 3, "i8"),), {"classes": 3, "dtype": "<f8"}),),
    flops=lambda *_, **__: 0.0,
)


def take(a: Tensor, indices: Any, axis: int | None = None) -> Tensor:
    """Whole slices at these positions along an axis, as numpy.take."""
    from dagtrain.ops.shape import reshape

    if axis is None:
        a, axis = reshape(a, (-1,)), 0
    return _take(a, as_tensor(positions(indices)), axis=axis_of("take", axis, a.ndim))


def take_along_axis(a: Tensor, indices: Any, axis: int = -1) -> Tensor:
    """For each line along an axis, the elements at that line's positions, as numpy.take_along_axis."""
    return _along(a, as_tensor(indices), axis=axis_of("take_along_axis", axis, a.ndim))


def gather(a: Any, *indices: Any) -> Tensor:
    """``a[i, j, ...]`` with integer tensors for the leading axes."""
    return _gather(as_tensor(a), *(as_tensor(positions(i)) for i in indices))


def scatter_add(a: Any, indices: Any, updates: Any) -> Tensor:
    """`a` with `updates` added at ``a[indices]``; equal positions add up, in their order.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.scatter_add(np.zeros(3), np.array([0, 2, 0]), dt.array([1.0, 2.0, 3.0])).compute()
    array([4., 0., 2.])
    """
    a = as_tensor(a)
    places = tuple(as_tensor(positions(i)) for i in (indices if isinstance(indices, tuple) else (indices,)))
    spec = gathered_spec(a.spec, *(i.spec for i in places))
    updates = as_tensor(updates)
    from dagtrain.ops.shape import broadcast_to

    total: Tensor = a + _scatter(broadcast_to(updates, spec.shape), *places, shape=a.shape)
    return total


def one_hot(labels: Any, classes: int, dtype: Any = np.float32) -> Tensor:
    """1 at each label's position of a new last axis, 0 at all others."""
    labels = as_tensor(labels)
    _whole("one_hot", labels.spec)
    return _one_hot(labels, classes=int(classes), dtype=held(dtype).str)


__all__ = ["gather", "gathered_spec", "one_hot", "positions", "scatter_add", "take", "take_along_axis", "take_along_axis_transpose"]
