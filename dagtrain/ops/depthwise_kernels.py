"""NumPy's kernels of convolution where each filter sees one channel: sums of a few products, with nothing for a matrix product to sum.

    y = Σ over the window of elements · kernel                              forward, and by the kernel: einsum
    x' += g · one element of the kernel, at its elements                    by x, where the forward of the turned kernel is none

Neighbouring windows with strides of 1 are one element apart, so a row of windows is multiplied as one run of memory, by the kernel repeated
along the row. Filters of one channel are computed one after the other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.graph import Spec
from dagtrain.ops.conv_kernels import BLOCK, Shapes, blocks_of, slab_spec, taken, turn
from dagtrain.ops.windows import taps

__all__ = ["by_input", "by_input_scratch", "by_kernel", "by_kernel_scratch", "forward", "forward_scratch"]


def _multiplier(s: Shapes) -> int:
    """Filters of each channel."""
    return s.filters // s.groups


def _whole_rows(s: Shapes) -> bool:
    """Whether a row of windows is one run of memory for each element of the window."""
    return s.strides[-1] == 1 and s.filters == s.channels


def _operand(windows: Any, s: Shapes) -> Any:
    """Windows as (samples, *counts, *window, channels), or with whole rows as (samples, *counts but the last, *window, row)."""
    k, first = len(s.window), np.moveaxis(windows[..., 0], 0, -1)
    if not _whole_rows(s):
        return first
    shape = (*first.shape[:k], *first.shape[k + 1 : -1], first.shape[k] * first.shape[-1])
    steps = (*first.strides[:k], *first.strides[k + 1 :])
    return np.lib.stride_tricks.as_strided(first, shape, steps, writeable=False)


def _subscripts(s: Shapes) -> tuple[str, str, str]:
    """Of windows, kernel and outputs: n for samples, letters from a for counts, from p for the window, z for channels or a row."""
    counts, window = "abcdefgh"[: len(s.window) - _whole_rows(s)], "pqrstuvw"[: len(s.window)]
    return f"n{counts}{window}z", f"{window}z", f"n{counts}z"


def _filter(a: Any, number: int, s: Shapes) -> Any:
    """The outputs of one filter of each channel: (..., channels), or with whole rows (..., row)."""
    return a.reshape(*a.shape[:-2], -1) if _whole_rows(s) else a[..., number :: _multiplier(s)]


def forward_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `forward`."""
    return slab_spec(s, dtype), Spec((*s.window, s.counts[-1] if _whole_rows(s) else 0, s.channels), dtype)


def forward(x: Any, kernel: Any, out: Any, scratch: Any, s: Shapes) -> Any:
    """The convolution, in `out`."""
    slab, repeated = taken(scratch, forward_scratch(s, out.dtype))
    of_x, of_kernel, of_y = _subscripts(s)
    by_filter = kernel.reshape(*s.window, s.channels, _multiplier(s))
    if _whole_rows(s):
        np.copyto(repeated, by_filter[..., None, :, 0])
    for samples, rows, windows in blocks_of(x, s, slab):
        operand = _operand(windows, s)
        for i in range(_multiplier(s)):
            weights = repeated.reshape(*s.window, -1) if _whole_rows(s) else by_filter[..., i]
            np.einsum(f"{of_x},{of_kernel}->{of_y}", operand, weights, out=_filter(out[samples, rows], i, s))
    return out


def by_kernel_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `by_kernel`."""
    row = s.counts[-1] * s.channels if _whole_rows(s) else s.channels
    return slab_spec(s, dtype), Spec((_multiplier(s), *s.window, row), dtype), Spec((*s.window, row), dtype)


def by_kernel(x: Any, g: Any, out: Any, scratch: Any, s: Shapes) -> Any:
    """The gradient by the kernel, in `out`, from the cotangent g of the output."""
    slab, totals, part = taken(scratch, by_kernel_scratch(s, out.dtype))
    of_x, of_kernel, of_y = _subscripts(s)
    totals[...] = 0
    for samples, rows, windows in blocks_of(x, s, slab):
        operand = _operand(windows, s)
        for i, total in enumerate(totals):
            np.einsum(f"{of_x},{of_y}->{of_kernel}", operand, _filter(g[samples, rows], i, s), out=part)
            np.add(total, part, out=total)
    by_filter = out.reshape(*s.window, s.channels, _multiplier(s))
    for i, total in enumerate(totals):
        np.add.reduce(total.reshape(*s.window, -1, s.channels), -2, out=by_filter[..., i])
    return out


def _samples(s: Shapes) -> int:
    """Samples whose gradients by x are worked on at once."""
    return max(1, min(s.samples, BLOCK // 4 // max(1, math.prod(s.lengths) * s.channels)))


def _is_turned(s: Shapes) -> bool:
    return s.turned is not None and s.filters == s.channels


def by_input_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `by_input`."""
    if _is_turned(s):
        assert s.turned is not None
        return Spec((*s.window, 1, s.channels), dtype), *forward_scratch(s.turned, dtype)
    return (Spec((_samples(s) * math.prod(s.counts) * s.channels,), dtype),)


def by_input(g: Any, kernel: Any, out: Any, scratch: Any, s: Shapes) -> Any:
    """The gradient by x, in `out`, from the cotangent g of the output."""
    room, *others = taken(scratch, by_input_scratch(s, out.dtype))
    if _is_turned(s):
        assert s.turned is not None
        turn(kernel, room, s)
        return forward(g, room, out, others, s.turned)
    multiplier, by_filter = _multiplier(s), kernel.reshape(*s.window, s.channels, _multiplier(s))
    for first in range(0, s.samples, _samples(s)):
        block, cotangents = out[first : first + _samples(s)], g[first : first + _samples(s)]
        block[...] = 0
        for tap in taps(s.lengths, s.counts, s.window, s.strides, s.padding, s.dilation):
            target = block[:, *tap.elements]
            product = room[: target.size].reshape(target.shape)
            for i in range(multiplier):
                np.multiply(cotangents[:, *tap.windows, i::multiplier], by_filter[*tap.place, :, i], out=product)
                np.add(target, product, out=target)
    return out
