"""Strides, windows and padding as users write them, checked and written out for each length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagtrain.arguments import is_whole, one_of, whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Tensor, spec_of
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["Numbers", "PaddingArgument", "applied", "each", "lengths_of", "pads", "spans"]

Numbers = int | Sequence[int]
"""A whole number for all lengths, or one for each."""
PaddingArgument = str | int | Sequence[int | Sequence[int]]
Pads = tuple[tuple[int, int], ...]


def each(name: str, value: Any, count: int, least: int = 1) -> tuple[int, ...]:
    """A whole number for each of so many lengths.

    Examples
    --------
    >>> each("strides", 2, 2), each("strides", (1, 2), 2)
    ((2, 2), (1, 2))
    """
    if isinstance(value, tuple | list):
        if len(value) != count:
            raise ArgumentError(f"{name} is one number, or one for each of {count} lengths, got {value!r}.")
        return tuple(whole(name, n, least) for n in value)
    return (whole(name, value, least),) * count


def spans(window: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Elements from the first of a window to its last."""
    return tuple(d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True))


def pads(
    name: str,
    padding: Any,
    lengths: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    causal: bool = False,
) -> Pads:
    """Elements before and after each length.

    Examples
    --------
    >>> pads("padding", "same", (5, 6), (3, 2), (2, 1), (1, 1)), pads("padding", (1, (0, 2)), (5, 5), (3, 3), (1, 1), (1, 1))
    (((1, 1), (0, 1)), ((1, 1), (0, 2)))
    """
    if isinstance(padding, str):
        one_of(name, padding, ("valid", "same", "causal") if causal else ("valid", "same"))
        reach = spans(window, dilation)
        if padding == "valid":
            return ((0, 0),) * len(reach)
        if padding == "causal":
            return tuple((r - 1, 0) for r in reach)
        totals = [max(0, (-(-n // s) - 1) * s + r - n) for n, s, r in zip(lengths, strides, reach, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    count = len(window)
    entries = (padding,) * count if is_whole(padding) else padding
    if not isinstance(entries, tuple | list) or len(entries) != count:
        raise ArgumentError(
            f"{name} is 'valid', 'same', a whole number, or for each of {count} lengths a number or a pair (before, after), "
            f"got {padding!r}."
        )
    result = []
    for entry in entries:
        pair = entry if isinstance(entry, tuple | list) else (entry, entry)
        if len(pair) != 2:
            raise ArgumentError(f"{name}: for a length it is a number or a pair (before, after), got {entry!r}.")
        result.append((whole(name, pair[0], 0), whole(name, pair[1], 0)))
    return tuple(result)


def lengths_of(name: str, x: Values, count: int | None = None) -> tuple[int, ...]:
    """The lengths between samples and channels; `count` says how many there must be."""
    if x.ndim < 3 or (count is not None and x.ndim != count + 2):
        axes = {1: "(samples, length, channels)", 2: "(samples, height, width, channels)", 3: "(samples, depth, height, width, channels)"}
        raise ShapeError(
            f"{name} takes {axes.get(count or 0, '(samples, *lengths, channels)')}, got the shape {tuple(x.shape)}."
            f"{' Add an axis of channels with x[..., None].' if x.ndim == (count or 1) + 1 else ''}"
        )
    return tuple(x.shape[1:-1])


def applied(op: str, *values: Values, **attributes: Any) -> Values:
    """An op on tensors or arrays; shapes of arrays are checked too."""
    record = find_op(op)
    if not any(isinstance(value, Tensor) for value in values):
        record.infer(*map(spec_of, values), **attributes)
    return apply_op(record, *values, **attributes)
