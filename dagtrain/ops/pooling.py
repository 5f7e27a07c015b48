"""Pooling: the greatest element or the sum of each window, and the ops that are their derivatives.

    y, position = max_pool(x)          of equal elements the first
    x' = max_unpool(g, position)       ◀── derivative ──▶   y' = max_pick(x, position)
    y  = sum_pool(x)                   ◀── derivative ──▶   x' = sum_unpool(g)

A position counts the elements of its window, in their order, from 0. Elements outside of x are never the greatest, and add nothing.
Arrays are (samples, *lengths, channels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Spec, Tensor, make_spec
from dagtrain.ops.bodies import several
from dagtrain.ops.pool_kernels import (
    Shapes,
    greatest,
    greatest_scratch,
    pick,
    places_scratch,
    position_dtype,
    spread,
    spread_scratch,
    total,
    total_scratch,
    unpool,
)
from dagtrain.ops.record import Draw, Drawn, Kernel, Op, Sample, part
from dagtrain.ops.reduce import in_single, is_half
from dagtrain.ops.windows import Lengths, Padding, counts_of

__all__ = ["max_pick", "max_pool", "max_unpool", "sum_pool", "sum_unpool"]


def _shapes(a: Any, name: str, **geometry: Any) -> Shapes:
    """The shapes for x, or with `lengths` for what has the windows' shape."""
    return _shapes_of(a.shape, name, **geometry)


@lru_cache(maxsize=64)  # each holds the places of a block, up to a megabyte
def _shapes_of(shape: Lengths, name: str, window: Lengths, strides: Lengths, padding: Padding, lengths: Lengths | None = None) -> Shapes:
    if len(shape) != len(window) + 2:
        raise ShapeError(f"{name}: a window of {len(window)} axes takes (samples, *lengths, channels) with as many lengths, got {shape}.")
    if any(max(low, high) >= k for k, (low, high) in zip(window, padding, strict=True)):
        raise ShapeError(f"{name}: with the padding {padding}, windows {window} would lie outside of x.")
    inner = shape[1:-1]
    counts = counts_of(name, inner, window, strides, padding, (1,) * len(window)) if lengths is None else inner
    return Shapes(shape[0], inner if lengths is None else lengths, counts, shape[-1], window, strides, padding)


def _of_windows(s: Shapes) -> tuple[int, ...]:
    return (s.samples, *s.counts, s.channels)


def _of_x(s: Shapes) -> tuple[int, ...]:
    return (s.samples, *s.lengths, s.channels)


# ---- maximum


def _max_kernel(x: Any, out: Any = None, scratch: Any = None, **geometry: Any) -> tuple[Any, ...]:
    s = _shapes(x, "max_pool", **geometry)
    values, positions = (np.empty(_of_windows(s), x.dtype), np.empty(_of_windows(s), position_dtype(s.window))) if out is None else out
    greatest(x, np.empty(_of_windows(s), x.dtype) if values is None else values, positions, scratch, s)
    return values, positions


def _max_spec(x: Spec, **geometry: Any) -> Spec:
    s = _shapes(x, "max_pool", **geometry)
    if x.dtype.kind not in "fiu":
        raise DTypeError(f"max_pool is defined for real numbers, not {x.dtype}.")
    return several((make_spec(_of_windows(s), x.dtype), make_spec(_of_windows(s), position_dtype(s.window))))


def _max_gradient(cotangents: Sequence[Tensor | None], node: Tensor, x: Tensor, **geometry: Any) -> tuple[Tensor | None]:
    g = cotangents[0]
    return (None if g is None else max_unpool(g, part(node, index=1), lengths=x.shape[1:-1], **geometry),)


_PLAIN: dict[str, Any] = {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
_OVER: dict[str, Any] = {"window": (3, 2), "strides": (2, 1), "padding": ((1, 1), (1, 0))}
_LINE: dict[str, Any] = {"window": (3,), "strides": (2,), "padding": ((0, 1),)}
_CASES = (((2, 4, 6, 2), (2, 2, 3, 2), _PLAIN), ((2, 4, 3, 2), (2, 2, 3, 2), _OVER), ((2, 7, 3), (2, 3, 3), _LINE))
"""Shapes of x and y, and the attributes."""

max_pool: Op = Op(
    "max_pool",
    Kernel(_max_kernel, scratch=lambda x, **geometry: greatest_scratch(_shapes(x, "max_pool", **geometry), x.dtype)),
    _max_spec,
    _max_gradient,
    tuple(Sample((Draw(x),), attributes) for x, _, attributes in _CASES),
    flops=lambda spec, x, *, window, **_: float(spec.parts[0].size * math.prod(window)),
    drawn=lambda node: Drawn("max_pool", ("greatest", "positions")),
)


def _unpool_kernel(g: Any, positions: Any, out: Any = None, scratch: Any = None, **geometry: Any) -> Any:
    s = _shapes(g, "max_unpool", **geometry)
    out = np.empty(_of_x(s), g.dtype) if out is None else out
    unpool(g, positions, out, scratch, s)
    return out


def _positions_draw(shape: Lengths, window: Any) -> Draw:
    return Draw(shape, 0, math.prod(window), position_dtype(window).str)


# Samples have no padding: there, a position drawn at random may lie outside of x.
_INNER = (_CASES[0], ((2, 5, 4, 2), (2, 2, 3, 2), {"window": (3, 2), "strides": (2, 1), "padding": ((0, 0), (0, 0))}))

max_unpool: Op = Op(
    "max_unpool",
    Kernel(_unpool_kernel, scratch=lambda g, _, **geometry: places_scratch(_shapes(g, "max_unpool", **geometry))),
    lambda g, positions, **geometry: make_spec(_of_x(_shapes(g, "max_unpool", **geometry)), g.dtype),
    lambda h, y, g, positions, *, lengths, **attributes: (max_pick(h, positions, **attributes), None),
    tuple(Sample((Draw(y), _positions_draw(y, a["window"])), {"lengths": x[1:-1], **a}) for x, y, a in _INNER),
    flops=lambda spec, g, positions, *, window, **_: 2.0 * g.size * math.prod(window),
)


def _pick_kernel(x: Any, positions: Any, out: Any = None, scratch: Any = None, **geometry: Any) -> Any:
    out = np.empty(positions.shape, x.dtype) if out is None else out
    pick(x, positions, out, scratch, _shapes(x, "max_pick", **geometry))
    return out


max_pick: Op = Op(
    "max_pick",
    Kernel(_pick_kernel, scratch=lambda x, _, **geometry: places_scratch(_shapes(x, "max_pick", **geometry))),
    lambda x, positions, **_: Spec(positions.shape, x.dtype),
    lambda h, y, x, positions, **attributes: (max_unpool(h, positions, lengths=x.shape[1:-1], **attributes), None),
    tuple(Sample((Draw(x), _positions_draw(y, a["window"])), a) for x, y, a in _INNER),
    flops=lambda spec, x, positions, *, window, **_: float(spec.size * math.prod(window)),
)

# ---- sum


def _sum_kernel(x: Any, out: Any = None, scratch: Any = None, **geometry: Any) -> Any:
    if x.itemsize == 2 and is_half(x):
        return in_single(_sum_kernel, (x,), out, **geometry)
    s = _shapes(x, "sum_pool", **geometry)
    out = np.empty(_of_windows(s), x.dtype) if out is None else out
    total(x, out, scratch, s)
    return out


sum_pool: Op = Op(
    "sum_pool",
    Kernel(_sum_kernel, scratch=lambda x, **geometry: total_scratch(_shapes(x, "sum_pool", **geometry), x.dtype)),
    lambda x, **geometry: make_spec(_of_windows(_shapes(x, "sum_pool", **geometry)), x.dtype),
    lambda g, y, x, **attributes: (sum_unpool(g, lengths=x.shape[1:-1], **attributes),),
    tuple(Sample((Draw(x),), attributes) for x, _, attributes in _CASES),
    flops=lambda spec, x, *, window, **_: float(spec.size * math.prod(window)),
)


def _sum_unpool_kernel(g: Any, out: Any = None, scratch: Any = None, **geometry: Any) -> Any:
    s = _shapes(g, "sum_unpool", **geometry)
    out = np.empty(_of_x(s), g.dtype) if out is None else out
    spread(g, out, scratch, s)
    return out


sum_unpool: Op = Op(
    "sum_unpool",
    Kernel(_sum_unpool_kernel, scratch=lambda g, **geometry: spread_scratch(_shapes(g, "sum_unpool", **geometry), g.dtype)),
    lambda g, **geometry: make_spec(_of_x(_shapes(g, "sum_unpool", **geometry)), g.dtype),
    lambda h, y, g, *, lengths, **attributes: (sum_pool(h, **attributes),),
    tuple(Sample((Draw(y),), {"lengths": x[1:-1], **attributes}) for x, y, attributes in _CASES),
    flops=lambda spec, g, *, window, **_: float(g.size * math.prod(window)),
)
