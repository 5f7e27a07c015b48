"""Pooling: the greatest element or the sum of each window, and the ops that are their derivatives.

    y, position = max_pool(x)          of equal elements the first
    x' = max_unpool(g, position)       ◀── derivative ──▶   y' = max_pick(x, position)
    y  = sum_pool(x)                   ◀── derivative ──▶   x' = sum_unpool(g)

A position counts the elements of its window, in their order, from 0. Elements outside of x are never the greatest, and add nothing.
Arrays are (samples, *lengths, channels).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Spec, Tensor, make_spec
from dagtrain.ops.bodies import several
from dagtrain.ops.record import Draw, Drawn, Kernel, Op, Sample, part
from dagtrain.ops.windows import Lengths, Padding, Tap, counts_of, taps

__all__ = ["max_pick", "max_pool", "max_unpool", "sum_pool", "sum_unpool"]

BLOCK = 64 * 1024
"""Elements of x that are worked on at once, so that they stay in the cache for all elements of the window."""


def _counts(x: Any, name: str, window: Lengths, strides: Lengths, padding: Padding) -> Lengths:
    if len(x.shape) != len(window) + 2:
        raise ShapeError(f"{name}: a window of {len(window)} axes takes (samples, *lengths, channels) with as many lengths, got {x.shape}.")
    if any(max(low, high) >= k for k, (low, high) in zip(window, padding, strict=True)):
        raise ShapeError(f"{name}: with the padding {padding}, windows {window} would lie outside of x.")
    return counts_of(name, x.shape[1:-1], window, strides, padding, (1,) * len(window))


def _taps(lengths: Sequence[int], counts: Sequence[int], window: Lengths, strides: Lengths, padding: Padding) -> tuple[Tap, ...]:
    return taps(tuple(lengths), tuple(counts), window, strides, padding, (1,) * len(window))


def _samples(shape: Sequence[int]) -> Iterator[slice]:
    """Slices of the samples that are worked on at once."""
    size = max(1, BLOCK // max(1, math.prod(shape[1:])))
    for first in range(0, shape[0], size):
        yield slice(first, first + size)


def _at(a: Any, samples: slice, slices: tuple[slice, ...]) -> Any:
    return a[samples, *slices]


def _number(tap: Tap, window: Lengths) -> int:
    """The position that stands for a tap."""
    return int(np.ravel_multi_index(tap.place, window))


def _is_even(lengths: Sequence[int], counts: Sequence[int], window: Lengths, strides: Lengths, padding: Padding) -> bool:
    """Whether each element is in exactly one window."""
    return window == strides and not any(map(any, padding)) and all(n == c * k for n, c, k in zip(lengths, counts, window, strict=True))


def _taken(scratch: Any, specs: Sequence[Spec]) -> Any:
    return tuple(np.empty(s.shape, s.dtype) for s in specs) if scratch is None else scratch


# ---- maximum


def position_dtype(window: Lengths) -> Any:
    """Whole numbers for the positions in a window."""
    return np.min_scalar_type(max(0, math.prod(window) - 1))


@lru_cache(maxsize=256)
def _first_positions(lengths: Lengths, counts: Lengths, window: Lengths, strides: Lengths, padding: Padding) -> Any:
    """The first element of each window that lies in x: (*counts, 1)."""
    first = np.zeros((*counts, 1), position_dtype(window))
    for tap in reversed(_taps(lengths, counts, window, strides, padding)):
        first[tap.windows] = _number(tap, window)
    return first


def _max_scratch(x: Spec, *, window: Lengths, strides: Lengths, padding: Padding) -> tuple[Spec, ...]:
    samples = next(_samples(x.shape), slice(0, 0)).stop
    block = (samples, *_counts(x, "max_pool", window, strides, padding), x.shape[-1])
    return Spec(block, np.dtype(bool)), Spec(block, position_dtype(window))


def _max_kernel(x: Any, out: Any = None, scratch: Any = None, *, window: Lengths, strides: Lengths, padding: Padding) -> tuple[Any, ...]:
    counts, lengths = _counts(x, "max_pool", window, strides, padding), tuple(x.shape[1:-1])
    shape = (x.shape[0], *counts, x.shape[-1])
    values, positions = (np.empty(shape, x.dtype), np.empty(shape, position_dtype(window))) if out is None else out
    best = np.empty(shape, x.dtype) if values is None else values
    masks, numbers = _taken(scratch, _max_scratch(Spec(x.shape, x.dtype), window=window, strides=strides, padding=padding))
    first, *others = _taps(lengths, counts, window, strides, padding)
    everywhere = all(w == slice(0, n) for tap in (first, *others) for w, n in zip(tap.windows, counts, strict=True))
    lowest = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    for samples in _samples(x.shape):
        if everywhere:
            np.copyto(best[samples], _at(x, samples, first.elements))
        else:
            best[samples] = lowest
        if positions is not None:
            positions[samples] = 0 if everywhere else _first_positions(lengths, counts, window, strides, padding)
        for tap in others if everywhere else (first, *others):
            element, target = _at(x, samples, tap.elements), _at(best, samples, tap.windows)
            if positions is not None:
                count = slice(0, len(element))
                mask, number = _at(masks, count, tap.windows), _at(numbers, count, tap.windows)
                np.greater(element, target, out=mask)
                np.multiply(mask, numbers.dtype.type(_number(tap, window)), out=number)
                place = _at(positions, samples, tap.windows)
                np.maximum(place, number, out=place)  # later elements have greater numbers
            np.maximum(target, element, out=target)
    return values, positions


def _max_spec(x: Spec, *, window: Lengths, strides: Lengths, padding: Padding) -> Spec:
    counts = _counts(x, "max_pool", window, strides, padding)
    if x.dtype.kind not in "fiu":
        raise DTypeError(f"max_pool is defined for real numbers, not {x.dtype}.")
    shape = (x.shape[0], *counts, x.shape[-1])
    return several((make_spec(shape, x.dtype), make_spec(shape, position_dtype(window))))


def _max_gradient(cotangents: Sequence[Tensor | None], node: Tensor, x: Tensor, **attributes: Any) -> tuple[Tensor | None]:
    g = cotangents[0]
    return (None if g is None else max_unpool(g, part(node, index=1), lengths=x.shape[1:-1], **attributes),)


_PLAIN: dict[str, Any] = {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
_OVER: dict[str, Any] = {"window": (3, 2), "strides": (2, 1), "padding": ((1, 1), (1, 0))}
_LINE: dict[str, Any] = {"window": (3,), "strides": (2,), "padding": ((0, 1),)}
_CASES = (((2, 4, 6, 2), (2, 2, 3, 2), _PLAIN), ((2, 4, 3, 2), (2, 2, 3, 2), _OVER), ((2, 7, 3), (2, 3, 3), _LINE))
"""Shapes of x and y, and the attributes."""

max_pool: Op = Op(
    "max_pool",
    Kernel(_max_kernel, scratch=_max_scratch),
    _max_spec,
    _max_gradient,
    tuple(Sample((Draw(x),), attributes) for x, _, attributes in _CASES),
    flops=lambda spec, x, *, window, **_: float(spec.parts[0].size * math.prod(window)),
    drawn=lambda node: Drawn("max_pool", ("greatest", "positions")),
)


def _pairs(lengths: Sequence[int], a: Any, window: Lengths, strides: Lengths, padding: Padding) -> Iterator[tuple[slice, Tap]]:
    """Samples that are worked on at once, with each element of the window."""
    order = _taps(lengths, a.shape[1:-1], window, strides, padding)
    shape = (a.shape[0], *lengths, a.shape[-1])
    return ((samples, tap) for samples in _samples(shape) for tap in order)


def _unpool_scratch(g: Spec, positions: Spec, *, lengths: Lengths, **_: Any) -> tuple[Spec, ...]:
    samples = next(_samples((g.shape[0], *lengths, g.shape[-1])), slice(0, 0)).stop
    return Spec((samples, *g.shape[1:]), np.dtype(bool)), Spec((samples, *g.shape[1:]), g.dtype)


def _unpool_kernel(
    g: Any, positions: Any, out: Any = None, scratch: Any = None, *, lengths: Lengths, window: Lengths, strides: Lengths, padding: Padding
) -> Any:
    out = np.empty((g.shape[0], *lengths, g.shape[-1]), g.dtype) if out is None else out
    masks, parts = _taken(scratch, _unpool_scratch(Spec(g.shape, g.dtype), Spec(g.shape, g.dtype), lengths=lengths))
    even = _is_even(lengths, g.shape[1:-1], window, strides, padding)
    if not even:
        out[...] = 0
    for samples, tap in _pairs(lengths, g, window, strides, padding):
        place = _at(positions, samples, tap.windows)
        count = slice(0, len(place))
        mask, target = _at(masks, count, tap.windows), _at(out, samples, tap.elements)
        np.equal(place, positions.dtype.type(_number(tap, window)), out=mask)
        if even:
            np.multiply(_at(g, samples, tap.windows), mask, out=target)
        else:
            product = np.multiply(_at(g, samples, tap.windows), mask, out=_at(parts, count, tap.windows))
            np.add(target, product, out=target)
    return out


def _unpool_spec(g: Spec, positions: Spec, *, lengths: Lengths, window: Lengths, strides: Lengths, padding: Padding) -> Spec:
    return make_spec((g.shape[0], *lengths, g.shape[-1]), g.dtype)


def _positions_draw(shape: Lengths, window: Any) -> Draw:
    return Draw(shape, 0, math.prod(window), position_dtype(window).str)


# Samples have no padding: there, a position drawn at random may lie outside of x.
_INNER = (_CASES[0], ((2, 5, 4, 2), (2, 2, 3, 2), {"window": (3, 2), "strides": (2, 1), "padding": ((0, 0), (0, 0))}))

max_unpool: Op = Op(
    "max_unpool",
    Kernel(_unpool_kernel, scratch=_unpool_scratch),
    _unpool_spec,
    lambda h, y, g, positions, *, lengths, **attributes: (max_pick(h, positions, **attributes), None),
    tuple(Sample((Draw(y), _positions_draw(y, a["window"])), {"lengths": x[1:-1], **a}) for x, y, a in _INNER),
    flops=lambda spec, g, positions, *, window, **_: 2.0 * g.size * math.prod(window),
)


def _pick_kernel(x: Any, positions: Any, out: Any = None, *, window: Lengths, strides: Lengths, padding: Padding) -> Any:
    out = np.empty(positions.shape, x.dtype) if out is None else out
    out[...] = 0
    for samples, tap in _pairs(x.shape[1:-1], positions, window, strides, padding):
        mask = _at(positions, samples, tap.windows) == _number(tap, window)
        np.copyto(_at(out, samples, tap.windows), _at(x, samples, tap.elements), where=mask)
    return out


max_pick: Op = Op(
    "max_pick",
    _pick_kernel,
    lambda x, positions, **_: Spec(positions.shape, x.dtype),
    lambda h, y, x, positions, **attributes: (max_unpool(h, positions, lengths=x.shape[1:-1], **attributes), None),
    tuple(Sample((Draw(x), _positions_draw(y, a["window"])), a) for x, y, a in _INNER),
    flops=lambda spec, x, positions, *, window, **_: float(spec.size * math.prod(window)),
)

# ---- sum


def _sum_kernel(x: Any, out: Any = None, *, window: Lengths, strides: Lengths, padding: Padding) -> Any:
    counts = _counts(x, "sum_pool", window, strides, padding)
    out = np.empty((x.shape[0], *counts, x.shape[-1]), x.dtype) if out is None else out
    first, *others = _taps(x.shape[1:-1], counts, window, strides, padding)
    everywhere = all(w == slice(0, n) for w, n in zip(first.windows, counts, strict=True))
    for samples in _samples(x.shape):
        if everywhere:
            np.copyto(out[samples], _at(x, samples, first.elements))
        else:
            out[samples] = 0
        for tap in others if everywhere else (first, *others):
            target = _at(out, samples, tap.windows)
            np.add(target, _at(x, samples, tap.elements), out=target)
    return out


def _sum_spec(x: Spec, *, window: Lengths, strides: Lengths, padding: Padding) -> Spec:
    return make_spec((x.shape[0], *_counts(x, "sum_pool", window, strides, padding), x.shape[-1]), x.dtype)


sum_pool: Op = Op(
    "sum_pool",
    _sum_kernel,
    _sum_spec,
    lambda g, y, x, **attributes: (sum_unpool(g, lengths=x.shape[1:-1], **attributes),),
    tuple(Sample((Draw(x),), attributes) for x, _, attributes in _CASES),
    flops=lambda spec, x, *, window, **_: float(spec.size * math.prod(window)),
)


def _sum_unpool_kernel(g: Any, out: Any = None, *, lengths: Lengths, window: Lengths, strides: Lengths, padding: Padding) -> Any:
    out = np.empty((g.shape[0], *lengths, g.shape[-1]), g.dtype) if out is None else out
    even = _is_even(lengths, g.shape[1:-1], window, strides, padding)
    if not even:
        out[...] = 0
    for samples, tap in _pairs(lengths, g, window, strides, padding):
        target, source = _at(out, samples, tap.elements), _at(g, samples, tap.windows)
        if even:
            np.copyto(target, source)
        else:
            np.add(target, source, out=target)
    return out


sum_unpool: Op = Op(
    "sum_unpool",
    _sum_unpool_kernel,
    lambda g, *, lengths, **_: make_spec((g.shape[0], *lengths, g.shape[-1]), g.dtype),
    lambda h, y, g, *, lengths, **attributes: (sum_pool(h, **attributes),),
    tuple(Sample((Draw(y),), {"lengths": x[1:-1], **attributes}) for x, y, attributes in _CASES),
    flops=lambda spec, g, *, window, **_: float(g.size * math.prod(window)),
)
