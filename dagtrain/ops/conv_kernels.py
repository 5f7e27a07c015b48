"""NumPy's kernels of convolution: windows are copied side by side, a block that fits the cache at a time, and multiplied by the kernel.

    x ──copy──▶ patches (rows of a block, elements of a window) ──matmul──▶ rows of y                    forward
    patches transposed × rows of g, summed over blocks                                                    by the kernel
    g ──forward, with the kernel turned and transposed──▶ by x              strides of 1                  by x
    rows of g × kernel transposed = patches ──added to their places──▶      longer strides

A window of one element is one product. Shapes alone decide, so that the same shapes give the same bits. Where each filter sees one channel,
products have nothing to sum: see `dagtrain.ops.depthwise_kernels`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dagtrain.graph import Spec
from dagtrain.ops.windows import Lengths, Padding, blocks, cells, padded, taps, views

__all__ = [
    "BLOCK", "Shapes", "blocks_of", "by_input", "by_input_scratch", "by_kernel", "by_kernel_scratch", "forward", "forward_scratch",
    "slab_spec", "taken", "turn",
]  # fmt: skip

BLOCK = 384 * 1024
"""Elements of the patches of a block: 1.5 MB of float32. Smaller ones stay in the second cache, but make thin products slower."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """All that the blocks of one convolution derive from, computed once for equal shapes."""

    samples: int
    lengths: Lengths
    channels: int
    window: Lengths
    filters: int
    groups: int
    counts: Lengths
    strides: Lengths
    padding: Padding
    dilation: Lengths

    @cached_property
    def elements(self) -> int:
        """Elements of a window in one group: the terms of each sum."""
        return math.prod(self.window) * self.channels // self.groups

    @cached_property
    def is_product(self) -> bool:
        """Whether the windows are the elements themselves."""
        plain = math.prod(self.window) == 1 and self.groups == 1 and not self.is_padded
        return plain and self.counts == self.lengths

    @cached_property
    def is_padded(self) -> bool:
        """Whether there is padding, or less than none."""
        return any(map(any, self.padding))

    @cached_property
    def is_depthwise(self) -> bool:
        """Whether each output sums over one channel alone."""
        return self.groups == self.channels > 1

    @cached_property
    def by_rows(self) -> bool:
        """Whether the rows of windows are longer than what lies side by side in a window, so that patches are copied in runs of rows."""
        return self.counts[-1] >= 2 * self.window[-1] * self.channels // self.groups

    @cached_property
    def slab(self) -> Lengths:
        """Lengths of the padded input of all rows of a block."""
        counts = (self.block[1], *self.counts[1:])
        return tuple((n - 1) * s + d * (k - 1) + 1 for n, s, k, d in zip(counts, self.strides, self.window, self.dilation, strict=True))

    @cached_property
    def block(self) -> tuple[int, int]:
        """Samples and rows of a block."""
        row = math.prod(self.counts[1:]) * (self.channels * 4 if self.is_depthwise else self.elements * self.groups)
        return blocks(self.samples, self.counts[0], row, BLOCK)

    @cached_property
    def turned(self) -> Shapes | None:
        """The convolution that gives the gradient by x from that of y, if the strides are 1."""
        if any(stride > 1 for stride in self.strides):
            return None
        reach = [d * (k - 1) for k, d in zip(self.window, self.dilation, strict=True)]
        padding = tuple(
            (r - low, n + low - count) for r, (low, _), n, count in zip(reach, self.padding, self.lengths, self.counts, strict=True)
        )
        return replace(self, lengths=self.counts, counts=self.lengths, channels=self.filters, filters=self.channels, padding=padding)


def taken(scratch: Any, specs: tuple[Spec, ...]) -> Any:
    """The work space, new if there is none."""
    return tuple(np.empty(spec.shape, spec.dtype) for spec in specs) if scratch is None else scratch


def blocks_of(x: Any, s: Shapes, slab: Any) -> Iterator[tuple[slice, slice, Any]]:
    """For each block its samples, its rows and its windows: (groups, samples, rows, *counts, *window, channels of a group)."""
    if not s.is_padded:
        whole = views(x, s.counts, s.window, s.strides, s.dilation, s.groups)
        for samples, rows in cells(s.samples, s.counts[0], s.block):
            yield samples, rows, whole[:, samples, rows]
        return
    whole = views(slab, (s.block[1], *s.counts[1:]), s.window, s.strides, s.dilation, s.groups)
    before = [low for low, _ in s.padding]
    for samples, rows in cells(s.samples, s.counts[0], s.block):
        count = samples.stop - samples.start
        padded(slab[:count], x[samples], (before[0] - rows.start * s.strides[0], *before[1:]))
        yield samples, rows, whole[:, :count, : rows.stop - rows.start]


def _patches(x: Any, s: Shapes, slab: Any, room: Any) -> Iterator[tuple[slice, slice, Any]]:
    """For each block its samples, its rows and its windows as the rows of a matrix for each group."""
    k = len(s.window)
    for samples, rows, windows in blocks_of(x, s, slab):
        if s.by_rows:  # (groups, *window, channels of a group, samples, rows, *counts)
            windows = windows.transpose(0, *range(k + 2, 2 * k + 3), *range(1, k + 2))
        patches = room[: windows.size].reshape(windows.shape)
        np.copyto(patches, windows)
        if s.by_rows:
            yield samples, rows, patches.reshape(s.groups, s.elements, -1).transpose(0, 2, 1)
        else:
            yield samples, rows, patches.reshape(s.groups, -1, s.elements)


def slab_spec(s: Shapes, dtype: Any) -> Spec:
    """Room for the padded input of a block."""
    return Spec((s.block[0], *s.slab, s.channels) if s.is_padded else (0,), dtype)


def _room(s: Shapes, dtype: Any) -> Spec:
    """Room for the patches of a block."""
    samples, rows = s.block
    return Spec((samples * rows * math.prod(s.counts[1:]) * s.elements * s.groups,), dtype)


def _matrices(kernel: Any, s: Shapes) -> Any:
    """The kernel as a matrix for each group: (groups, elements, filters of a group)."""
    return kernel.reshape(s.elements, s.groups, s.filters // s.groups).transpose(1, 0, 2)


def _rows_of(y: Any, samples: slice, rows: slice, s: Shapes) -> Any:
    """A block of outputs as a matrix for each group: (groups, windows, filters of a group)."""
    return y[samples, rows].reshape(-1, s.groups, s.filters // s.groups).transpose(1, 0, 2)


# ---- forward


def forward_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `forward`."""
    if s.is_product:
        return ()
    return slab_spec(s, dtype), _room(s, dtype)


def forward(x: Any, kernel: Any, out: Any, scratch: Any, s: Shapes) -> Any:
    """The convolution, in `out`."""
    work = taken(scratch, forward_scratch(s, out.dtype))
    if s.is_product:
        np.matmul(x.reshape(-1, s.channels), kernel.reshape(s.channels, s.filters), out=out.reshape(-1, s.filters))
    else:
        matrices = _matrices(kernel, s)
        for samples, rows, patches in _patches(x, s, *work):
            np.matmul(patches, matrices, out=_rows_of(out, samples, rows, s))
    return out


# ---- the gradient by the kernel


def by_kernel_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `by_kernel`."""
    if s.is_product:
        return ()
    return slab_spec(s, dtype), _room(s, dtype), Spec((s.groups, s.elements, s.filters // s.groups), dtype)


def by_kernel(x: Any, g: Any, out: Any, scratch: Any, s: Shapes) -> Any:
    """The gradient by the kernel, in `out`, from the cotangent g of the output."""
    work = taken(scratch, by_kernel_scratch(s, out.dtype))
    if s.is_product:
        np.matmul(x.reshape(-1, s.channels).T, g.reshape(-1, s.filters), out=out.reshape(s.channels, s.filters))
        return out
    slab, room, part = work
    result = _matrices(out, s)
    result[...] = 0
    for samples, rows, patches in _patches(x, s, slab, room):
        np.matmul(patches.transpose(0, 2, 1), _rows_of(g, samples, rows, s), out=part)
        np.add(result, part, out=result)
    return out


# ---- the gradient by the input


def by_input_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `by_input`."""
    if s.is_product:
        return ()
    turned = s.turned
    if turned is not None:
        return Spec((*s.window, s.filters // s.groups, s.channels), dtype), *forward_scratch(turned, dtype)
    return (_room(s, dtype),)


def turn(kernel: Any, out: Any, s: Shapes) -> None:
    """Fill `out` with the kernel of the turned convolution: windows reversed, channels and filters of each group exchanged."""
    reverse = kernel[(slice(None, None, -1),) * len(s.window)]
    source = reverse.reshape(*s.window, s.channels // s.groups, s.groups, s.filters // s.groups)
    by_group = out.reshape(*s.window, s.filters // s.groups, s.groups, s.channels // s.groups)
    np.copyto(by_group, np.moveaxis(source, (-1, -2, -3), (-3, -2, -1)))


def by_input(g: Any, kernel: Any, out: Any, scratch: Any, s: Shapes) -> Any:
    """The gradient by x, in `out`, from the cotangent g of the output."""
    work = taken(scratch, by_input_scratch(s, out.dtype))
    if s.is_product:
        np.matmul(g.reshape(-1, s.filters), kernel.reshape(s.channels, s.filters).T, out=out.reshape(-1, s.channels))
        return out
    turned = s.turned
    if turned is not None:
        turn(kernel, work[0], s)
        return forward(g, work[0], out, work[1:], turned)
    out[...] = 0
    matrices = _matrices(kernel, s).transpose(0, 2, 1)
    for samples, rows in cells(s.samples, s.counts[0], s.block):
        count, height = samples.stop - samples.start, rows.stop - rows.start
        shape = (s.groups, count, height, *s.counts[1:], *s.window, s.channels // s.groups)
        patches = work[0][: math.prod(shape)].reshape(shape)
        np.matmul(_rows_of(g, samples, rows, s), matrices, out=patches.reshape(s.groups, -1, s.elements))
        _add_back(patches, out[samples], rows, s)
    return out


def _add_back(patches: Any, out: Any, rows: slice, s: Shapes) -> None:
    """Add patches to the elements that they cover."""
    by_group = out.reshape(*out.shape[:-1], s.groups, -1)
    for tap in taps(s.lengths, s.counts, s.window, s.strides, s.padding, s.dilation):
        first, stop = max(tap.windows[0].start, rows.start), min(tap.windows[0].stop, rows.stop)
        if first >= stop:
            continue
        at = tap.elements[0].start + (first - tap.windows[0].start) * s.strides[0]
        target = by_group[:, at : at + (stop - first - 1) * s.strides[0] + 1 : s.strides[0], *tap.elements[1:]]
        source = patches[:, :, first - rows.start : stop - rows.start, *tap.windows[1:], *tap.place]
        np.add(target, np.moveaxis(source, 0, -2), out=target)
