"""Ops that order elements along an axis: `sort` with positions, and the first few of the order from the top.

Equal elements keep their order, so that the bits are the same for every processor; NaN is greater than all numbers, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.arguments import whole
from dagtrain.errors import ShapeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.bodies import several, written_parts
from dagtrain.ops.index import take_along_axis_transpose
from dagtrain.ops.record import Draw, Drawn, Op, Sample, as_tensor, axis_of, part

__all__ = ["argsort", "sort", "top_k"]


def _sort_kernel(a: Any, out: Any = None, *, axis: int) -> Any:
    if out is not None and out[1] is None:
        return written_parts((np.sort(a, axis, kind="stable"), None), out)
    order = np.argsort(a, axis, kind="stable")
    return written_parts((np.take_along_axis(a, order, axis), order), out)


def _positions_gradient(cotangents: Sequence[Tensor | None], node: Tensor, a: Tensor, *, axis: int, **_: Any) -> tuple[Tensor | None]:
    """An element's cotangent is that of the place that it went to."""
    g = cotangents[0]
    return (None if g is None else take_along_axis_transpose(g, part(node, index=1), axis=axis, shape=a.shape),)


_sort = Op(
    "sort",
    _sort_kernel,
    lambda a, *, axis: several((a, Spec(a.shape, np.dtype(np.intp)))),
    _positions_gradient,
    (Sample((Draw((3, 5)),), {"axis": 1}), Sample((Draw((4, 3)),), {"axis": 0})),
    flops=lambda spec, a, **_: a.size * max(np.log2(max(a.size, 2)), 1.0),
    drawn=lambda node: Drawn("sort", ("sorted", "positions")),
)


def _top_kernel(a: Any, out: Any = None, *, k: int, axis: int) -> Any:
    # The order of the reversed line from its end: descending, and equal elements keep their order.
    order = np.argsort(np.flip(a, axis), axis, kind="stable")
    last = a.shape[axis] - 1
    positions = last - np.flip(order, axis)[(slice(None),) * axis + (slice(0, k),)]
    return written_parts((np.take_along_axis(a, positions, axis), positions), out)


def _top_spec(a: Spec, *, k: int, axis: int) -> Spec:
    if not 0 <= k <= a.shape[axis]:
        raise ShapeError(f"top_k: there are {a.shape[axis]} elements along axis {axis} of shape {a.shape}, not {k}.")
    shape = (*a.shape[:axis], k, *a.shape[axis + 1 :])
    return several((Spec(shape, a.dtype), Spec(shape, np.dtype(np.intp))))


_top_k = Op(
    "top_k",
    _top_kernel,
    _top_spec,
    _positions_gradient,
    (Sample((Draw((3, 5)),), {"k": 2, "axis": 1}), Sample((Draw((4, 3)),), {"k": 4, "axis": 0})),
    flops=lambda spec, a, **_: a.size * max(np.log2(max(a.size, 2)), 1.0),
    drawn=lambda node: Drawn("top_k", ("greatest", "positions")),
)


def sort(a: Any, axis: int = -1) -> Tensor:
    """The elements in ascending order along an axis."""
    a = as_tensor(a)
    return part(_sort(a, axis=axis_of("sort", axis, a.ndim)), index=0)


def argsort(a: Any, axis: int = -1) -> Tensor:
    """Positions that sort along an axis; equal elements keep their order."""
    a = as_tensor(a)
    return part(_sort(a, axis=axis_of("argsort", axis, a.ndim)), index=1)


def top_k(a: Any, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k greatest elements along an axis, in descending order, and their positions; of equal elements the first comes first.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> values, positions = dt.top_k(np.array([1.0, 4.0, 2.0, 4.0]), 3)
    >>> values.compute(), positions.compute()
    (array([4., 4., 2.]), array([1, 3, 2]))
    """
    a = as_tensor(a)
    if not a.ndim:
        raise ShapeError("top_k: a number has no axis along which to order.")
    node = _top_k(a, k=whole("k of top_k", k, 0), axis=axis_of("top_k", axis, a.ndim))
    return part(node, index=0), part(node, index=1)
