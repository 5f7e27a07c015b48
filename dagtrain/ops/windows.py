"""Windows that slide over the axes between samples and channels: how many there are, and which elements each one covers.

    x   (samples, *lengths, channels)          windows start every `strides` elements, `padding` elements before the first;
    y   (samples, *counts, ...)                their elements are `dilation` apart: element t of window o lies at
                                               o * stride + t * dilation - padding[0]

Channels are the last axis, and there are one, two, three or more axes of windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from dagtrain.errors import ShapeError

__all__ = ["Lengths", "Padding", "Tap", "blocks", "cells", "counts_of", "padded", "taps", "views"]

Lengths = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


def counts_of(name: str, lengths: Sequence[int], window: Lengths, strides: Lengths, padding: Padding, dilation: Lengths) -> Lengths:
    """How many windows there are along each axis.

    Raises
    ------
    ShapeError
        If there is no room for one.
    """
    spans = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    rooms = [n + low + high for n, (low, high) in zip(lengths, padding, strict=True)]
    if any(room < span for room, span in zip(rooms, spans, strict=True)):
        raise ShapeError(
            f"{name}: a window over {tuple(spans)} elements does not fit into {tuple(lengths)}"
            f"{f' with the padding {padding}' if any(map(any, padding)) else ''}: take a smaller window, or padding='same'."
        )
    return tuple((room - span) // s + 1 for room, span, s in zip(rooms, spans, strides, strict=True))


class Tap(NamedTuple):
    """One element of the window: the windows for which it lies in the array, and where it lies there.

    Attributes
    ----------
    place
        Its position in the window.
    windows, elements
        For each axis, slices of equal length.
    """

    place: Lengths
    windows: tuple[slice, ...]
    elements: tuple[slice, ...]


@lru_cache(maxsize=1024)
def taps(lengths: Lengths, counts: Lengths, window: Lengths, strides: Lengths, padding: Padding, dilation: Lengths) -> tuple[Tap, ...]:
    """The elements of the window that lie in the array for any window, in order."""
    return tuple(_taps(lengths, counts, window, strides, padding, dilation))


def _taps(lengths: Lengths, counts: Lengths, window: Lengths, strides: Lengths, padding: Padding, dilation: Lengths) -> Iterator[Tap]:
    for place in itertools.product(*map(range, window)):
        windows, elements = [], []
        for t, n, count, s, (low, _), d in zip(place, lengths, counts, strides, padding, dilation, strict=True):
            start = t * d - low
            first, stop = max(0, -(start // s)), min(count, (n - 1 - start) // s + 1)
            windows.append(slice(first, max(first, stop)))
            at = first * s + start
            elements.append(slice(at, at + (stop - first - 1) * s + 1 if stop > first else at, s))
        if all(w.stop > w.start for w in windows):
            yield Tap(place, tuple(windows), tuple(elements))


def views(a: Any, counts: Lengths, window: Lengths, strides: Lengths, dilation: Lengths, groups: int = 1) -> Any:
    """The windows of an array that is padded already, as a view: (groups, samples, *counts, *window, channels of a group)."""
    item = a.shape[-1] // groups
    by_axis = a.strides[1:-1]
    steps = (
        item * a.strides[-1],
        a.strides[0],
        *(b * s for b, s in zip(by_axis, strides, strict=True)),
        *(b * d for b, d in zip(by_axis, dilation, strict=True)),
        a.strides[-1],
    )
    return np.lib.stride_tricks.as_strided(a, (groups, a.shape[0], *counts, *window, item), steps, writeable=False)


def padded(target: Any, a: Any, low: Sequence[int]) -> None:
    """Fill `target`, whose element 0 lies `low` elements before the array's along each axis, with the array and zeros around it."""
    target[...] = 0
    to, source = [slice(None)], [slice(None)]
    for room, n, before in zip(target.shape[1:-1], a.shape[1:-1], low, strict=True):
        first, stop = max(0, before), min(room, n + before)
        to.append(slice(first, max(first, stop)))
        source.append(slice(first - before, max(first, stop) - before))
    target[tuple(to)] = a[tuple(source)]


def blocks(samples: int, rows: int, cost: int, most: int) -> tuple[int, int]:
    """How many samples and how many rows of each are worked on at once, if a row costs so much and all may cost so much."""
    if rows * cost <= most:
        return _even(samples, most // max(1, rows * cost)), rows
    return 1, _even(rows, most // cost)


def _even(count: int, most: int) -> int:
    """The size of nearly equal parts of at most this size, at least 1."""
    return -(-count // -(-count // max(1, min(count, most)))) if count else 1


def cells(samples: int, rows: int, block: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """The blocks in order: slices of the samples and of the rows."""
    for first in range(0, samples, block[0]):
        for row in range(0, rows, block[1]):
            yield slice(first, min(first + block[0], samples)), slice(row, min(row + block[1], rows))
