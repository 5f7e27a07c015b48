"""NumPy's kernels of pooling. Windows are boxes, so a maximum or a sum is taken along one length after the other.

    x ──▶ along the last length ──▶ … ──▶ along the first ──▶ y          with positions: rows of a window before the window
    x ──▶ along the first ──▶ … ──▶ along the last ──▶ y                 without: the longest runs of memory first

A few samples are worked on at once, so that what lies between stays in the cache.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, NamedTuple

import numpy as np

from dagtrain.graph import Spec
from dagtrain.ops.windows import Lengths, Padding, taps

__all__ = [
    "Shapes",
    "greatest",
    "greatest_scratch",
    "pick",
    "position_dtype",
    "spread",
    "spread_scratch",
    "total",
    "total_scratch",
    "unpool",
]

BLOCK = 128 * 1024
"""Elements of x that are worked on at once."""


class Line(NamedTuple):
    """The elements of the window along one length, as indices of arrays (samples, *lengths, channels).

    Attributes
    ----------
    outside
        Indices of the windows that begin before the first element.
    first_element
        Index of the first element along the length.
    taps
        For each element: its number in the window, the windows for which it is there, where it is.
    paired
        Whether all windows have the first two elements: one pass does for them what takes two.
    """

    outside: tuple[Any, ...]
    first_element: Any
    taps: tuple[tuple[int, Any, Any], ...]
    paired: bool


@dataclass(frozen=True, eq=False)
class Shapes:
    """All that the parts of one pooling derive from, computed once for equal shapes."""

    samples: int
    lengths: Lengths
    counts: Lengths
    channels: int
    window: Lengths
    strides: Lengths
    padding: Padding

    @cached_property
    def block(self) -> int:
        """Samples that are worked on at once."""
        return max(1, min(self.samples, BLOCK // max(1, math.prod(self.lengths) * self.channels)))

    @property
    def blocks(self) -> Iterator[slice]:
        """The samples that are worked on at once, in order."""
        return (slice(first, min(first + self.block, self.samples)) for first in range(0, self.samples, self.block))

    @cached_property
    def is_even(self) -> bool:
        """Whether each element is in exactly one window."""
        fits = all(n == c * k for n, c, k in zip(self.lengths, self.counts, self.window, strict=True))
        return fits and self.window == self.strides and not any(map(any, self.padding))

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The elements of the window along each length."""
        result = []
        for axis, (n, count, k, stride, pads) in enumerate(
            zip(self.lengths, self.counts, self.window, self.strides, self.padding, strict=True)
        ):
            before = (slice(None),) * (axis + 1)
            parts = taps((n,), (count,), (k,), (stride,), (pads,), (1,))
            outside = range(min(-(-pads[0] // stride), count))
            result.append(
                Line(
                    tuple((*before, slice(window, window + 1)) for window in outside),
                    (*before, slice(0, 1)),
                    tuple((tap.place[0], (*before, tap.windows[0]), (*before, tap.elements[0])) for tap in parts),
                    len(parts) > 1 and all(tap.place == (i,) and tap.windows == (slice(0, count),) for i, tap in enumerate(parts[:2])),
                )
            )
        return tuple(result)

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Elements from one to the next along each length, in the memory of x."""
        return tuple(math.prod(self.lengths[i + 1 :]) * self.channels for i in range(len(self.lengths)))

    @cached_property
    def offsets(self) -> Any:
        """For each position in a window, the elements from the window's first to it."""
        return np.array([sum(map(operator.mul, place, self.steps)) for place in np.ndindex(*self.window)], np.intp)

    @cached_property
    def origins(self) -> Any:
        """Where the windows of a block begin in the memory of x: (samples, *counts, channels)."""
        sample = math.prod(self.lengths) * self.channels
        starts = [np.arange(self.block) * sample]
        for count, stride, (low, _), step in zip(self.counts, self.strides, self.padding, self.steps, strict=True):
            starts.append((np.arange(count) * stride - low) * step)
        return reduce(np.add.outer, [*starts, np.arange(self.channels)])

    @cached_property
    def turned(self) -> Shapes:
        """From windows to elements."""
        return replace(self, lengths=self.counts, counts=self.lengths)

    def between(self, order: Sequence[int]) -> list[tuple[int, ...]]:
        """The shapes of a block after each length but the last of this order."""
        shape, shapes = [self.block, *self.lengths, self.channels], []
        for axis in order[:-1]:
            shape[axis + 1] = self.counts[axis]
            shapes.append(tuple(shape))
        return shapes


def position_dtype(window: Lengths) -> np.dtype[Any]:
    """Whole numbers for the positions in a window."""
    return np.dtype(np.min_scalar_type(max(0, math.prod(window) - 1)))


def _room(scratch: Any, specs: Sequence[Spec]) -> list[Any]:
    return [np.empty(spec.shape, spec.dtype) for spec in specs] if scratch is None else list(scratch)


# ---- maximum


def greatest_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `greatest`: values and positions in between, then masks and numbers."""
    order, number = range(len(s.window))[::-1], position_dtype(s.window)
    shapes = s.between(order)
    largest = max(math.prod(shape) for shape in (*shapes, (s.block, *s.counts, s.channels)))
    of_values = max((math.prod(shape) for shape in s.between(order[::-1])), default=0)
    sizes = [max(math.prod(shape), of_values) for shape in shapes]
    between = [
        spec for shape, size in zip(shapes, sizes, strict=True) for spec in (Spec((size,), dtype), Spec((math.prod(shape),), number))
    ]
    return *between, Spec((largest,), np.dtype(bool)), Spec((largest,), number)


def greatest(x: Any, values: Any, positions: Any, scratch: Any, s: Shapes) -> None:
    """Fill `values`, and `positions` unless it is None."""
    *between, masks, numbers = _room(scratch, greatest_scratch(s, x.dtype))
    order = range(len(s.window)) if positions is None else range(len(s.window))[::-1]
    by_axis, shapes = s.lines, s.between(order)
    for samples in s.blocks:
        block, places, inner, count = x[samples], None, 1, samples.stop - samples.start
        for i, axis in enumerate(order):
            shape = (count, *shapes[i][1:]) if i < len(shapes) else None
            best = values[samples] if shape is None else between[2 * i][: math.prod(shape)].reshape(shape)
            if positions is None:
                _greatest_along(block, best, by_axis[axis])
            else:
                found = positions[samples] if shape is None else between[2 * i + 1][: math.prod(shape)].reshape(shape)
                _first_along(block, places, best, found, by_axis[axis], inner, masks, numbers)
                places = found
            block, inner = best, inner * s.window[axis]


def _begin(a: Any, out: Any, line: Line) -> None:
    """Fill `out` with the first element of each window that is there."""
    for window in line.outside:
        np.copyto(out[window], a[line.first_element])
    _, windows, elements = line.taps[0]
    np.copyto(out[windows], a[elements])


def _greatest_along(block: Any, best: Any, line: Line) -> None:
    if line.paired:
        np.maximum(block[line.taps[0][2]], block[line.taps[1][2]], out=best)
    else:
        _begin(block, best, line)
    for _, windows, elements in line.taps[2 if line.paired else 1 :]:
        target = best[windows]
        np.maximum(target, block[elements], out=target)


def _first_along(block: Any, places: Any, best: Any, found: Any, line: Line, inner: int, masks: Any, numbers: Any) -> None:
    """The greatest elements along a length with their positions, of equal ones the first."""
    kind = found.dtype.type
    if line.paired:
        (_, _, first), (_, _, second) = line.taps[:2]
        mask = np.greater(block[second], block[first], out=masks[: best.size].reshape(best.shape))
        np.maximum(block[first], block[second], out=best)
        _choose(mask, found, None if places is None else places[first], None if places is None else places[second], kind(inner), found)
    else:
        _begin(block, best, line)
        if places is None:
            found[...] = 0
        else:
            _begin(places, found, line)
        for window in line.outside:
            number = next(number for number, windows, _ in line.taps if windows[-1].start <= window[-1].start)
            np.add(found[window], kind(inner * number), out=found[window])
    for number, windows, elements in line.taps[2 if line.paired else 1 :]:
        element, target, place = block[elements], best[windows], found[windows]
        mask = np.greater(element, target, out=masks[: target.size].reshape(target.shape))
        np.maximum(target, element, out=target)
        change = numbers[: target.size].reshape(target.shape)
        _choose(mask, change, place, 0 if places is None else places[elements], kind(inner * number), place)


def _choose(mask: Any, change: Any, place: Any, other: Any, more: Any, out: Any) -> None:
    """`out` is `other` + `more` where the mask is set, else `place`; None for zeros. `change` is room for numbers."""
    # By numbers that wrap around: a choice by mask is slower.
    if place is None:
        np.multiply(mask, more, out=out)
        return
    np.subtract(other, place, out=change)
    np.add(change, more, out=change)
    np.multiply(change, mask, out=change)
    np.add(place, change, out=out)


def places_scratch(s: Shapes) -> tuple[Spec, ...]:
    """Work space of `unpool` and `pick`."""
    return (Spec((s.block, *s.counts, s.channels), np.dtype(np.intp)),)


def _places(positions: Any, room: Any, s: Shapes) -> Any:
    """Where the elements at these positions of some samples lie in the memory of these samples, in one line."""
    places = room[: len(positions)]
    np.take(s.offsets, positions, out=places, mode="clip")
    np.add(places, s.origins[: len(positions)], out=places)
    return places.reshape(-1)


def unpool(g: Any, positions: Any, out: Any, scratch: Any, s: Shapes) -> None:
    """Fill `out` with zeros, and add g where its positions are, in their order."""
    (room,) = _room(scratch, places_scratch(s))
    for samples in s.blocks:
        line = out[samples].reshape(-1)
        line[...] = 0
        np.add.at(line, _places(positions[samples], room, s), g[samples].reshape(-1))


def pick(x: Any, positions: Any, out: Any, scratch: Any, s: Shapes) -> None:
    """Fill `out` with the elements at these positions."""
    (room,) = _room(scratch, places_scratch(s))
    for samples in s.blocks:
        np.take(x[samples].reshape(-1), _places(positions[samples], room, s), out=out[samples].reshape(-1), mode="clip")


# ---- sum


def total_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `total`."""
    return tuple(Spec((math.prod(shape),), dtype) for shape in s.between(range(len(s.window))))


def total(x: Any, out: Any, scratch: Any, s: Shapes) -> None:
    """Fill `out` with the sums of windows."""
    order = range(len(s.window))
    between, shapes, by_axis = _room(scratch, total_scratch(s, x.dtype)), s.between(order), s.lines
    for samples in s.blocks:
        block = x[samples]
        for i, line in enumerate(by_axis):
            shape = (len(block), *shapes[i][1:]) if i < len(shapes) else None
            target = out[samples] if shape is None else between[i][: math.prod(shape)].reshape(shape)
            if line.paired:
                np.add(block[line.taps[0][2]], block[line.taps[1][2]], out=target)
            else:
                target[...] = 0
            for _, windows, elements in line.taps[2 if line.paired else 0 :]:
                part = target[windows]
                np.add(part, block[elements], out=part)
            block = target


def spread_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `spread`."""
    shapes = s.turned.between(range(len(s.window))[::-1])
    return tuple(Spec((s.block * math.prod(shape[1:]),), dtype) for shape in shapes)


def spread(g: Any, out: Any, scratch: Any, s: Shapes) -> None:
    """Fill `out` with the sum of the g of all windows that an element is in."""
    order = range(len(s.window))[::-1]
    between, by_axis = _room(scratch, spread_scratch(s, g.dtype)), s.lines
    shapes, even = s.turned.between(order), s.is_even
    for samples in s.blocks:
        block = g[samples]
        for i, axis in enumerate(order):
            shape = (len(block), *shapes[i][1:]) if i < len(shapes) else None
            target = out[samples] if shape is None else between[i][: math.prod(shape)].reshape(shape)
            if not even:
                target[...] = 0
            for _, windows, elements in by_axis[axis].taps:
                part = target[elements]
                if even:
                    np.copyto(part, block[windows])
                else:
                    np.add(part, block[windows], out=part)
            block = target
