"""Normalisation of each feature over the samples, in blocks of rows that stay in the cache.

    y, mean, variance       = batch_norm(x, scale, offset)       z = (x - mean) / root(variance + epsilon),    y = z * scale + offset
    dx, dscale, doffset     = batch_norm_gradient(g, x, scale, mean, variance)

Features are the last axis; all others count samples. Rows of few features are seen as longer rows of several samples each, since NumPy
goes along 512 numbers in nearly the time of 32.

Source: Ioffe and Szegedy, "Batch normalization", arXiv:1502.03167, algorithm 1 and section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.bodies import several
from dagtrain.ops.elementwise import sqrt
from dagtrain.ops.layer_norm import parts_in_single, wide
from dagtrain.ops.record import Draw, Drawn, Kernel, Op, Sample, part
from dagtrain.ops.reduce import is_half, reduce_mean, reduce_sum

__all__ = ["batch_norm", "batch_norm_gradient"]

_BLOCK, _WIDE = 65536, 512
"""Elements that all passes are made over before the next ones are read, and the length of a row of several samples."""


def _shape(x: Any) -> tuple[int, int, int]:
    """Samples, features, and how many samples stand in one row."""
    features = x.shape[-1]
    samples = math.prod(x.shape[:-1])
    return samples, features, max(1, min(_WIDE // max(features, 1), samples))


def _scratch(x: Any, lines: int) -> tuple[Spec, ...]:
    """A block, ones for its rows, and rows."""
    _, features, joined = _shape(x)
    rows = max(1, _BLOCK // max(joined * features, 1))
    sizes = (rows * joined * features, rows, *(lines * (joined * features,)))
    return tuple(Spec((n,), wide(x.dtype)) for n in sizes)


class _Blocks:
    """Rows of several samples, block by block, and a last block of the samples that are left over."""

    def __init__(self, x: Any) -> None:
        self.samples, self.features, self.joined = _shape(x)
        self.whole = self.samples - self.samples % self.joined

    def of(self, *arrays: Any) -> Iterator[tuple[Any, ...]]:
        """The same block of each array: (rows, width)."""
        flat = [a.reshape(self.samples, self.features) for a in arrays]
        width = self.joined * self.features
        long, rows = [a[: self.whole].reshape(self.whole // self.joined, width) for a in flat], max(1, _BLOCK // max(width, 1))
        for start in range(0, len(long[0]), rows):
            yield tuple(a[start : start + rows] for a in long)
        if self.whole < self.samples:
            yield tuple(a[self.whole :].reshape(1, -1) for a in flat)

    def spread(self, line: Any, value: Any) -> Any:
        """A value for each feature, repeated for the samples of a row."""
        line.reshape(self.joined, self.features)[...] = value
        return line

    def add(self, total: Any, block: Any, ones: Any, line: Any) -> None:
        """Add the sum of a block's samples to a total for each feature."""
        width = block.shape[1]
        sums = np.dot(ones[: len(block)], block, out=line[:width])
        total += np.add.reduce(sums.reshape(width // max(self.features, 1), self.features), 0)


def _kernel(x: Any, scale: Any, offset: Any, out: Any = None, scratch: Any = None, *, epsilon: float) -> tuple[Any, ...]:
    if x.itemsize == 2 and is_half(x):
        return parts_in_single(_kernel, (x, scale, offset), out, 1, epsilon=epsilon)
    b = _Blocks(x)
    results = [np.empty(shape, x.dtype) for shape in (x.shape, (b.features,), (b.features,))] if out is None else list(out)
    work, ones, line, centre, factors, offsets = scratch or [np.empty(s.shape, x.dtype) for s in _scratch(x, 4)]
    mean, variance = (np.empty(b.features, x.dtype) if r is None else r for r in results[1:])
    ones[...], mean[...], variance[...] = 1, 0, 0
    for (block,) in b.of(x):
        b.add(mean, block, ones, line)
    np.divide(mean, x.dtype.type(b.samples), out=mean)
    b.spread(centre, mean)
    for (block,) in b.of(x):
        centred = work[: block.size].reshape(block.shape)
        np.subtract(block, centre[: block.shape[1]], out=centred)
        b.add(variance, np.multiply(centred, centred, out=centred), ones, line)
    np.divide(variance, x.dtype.type(b.samples), out=variance)
    if results[0] is not None:
        b.spread(factors, scale / np.sqrt(variance + x.dtype.type(epsilon)))
        b.spread(offsets, offset)
        y = results[0] if results[0].flags.c_contiguous else np.empty(x.shape, x.dtype)
        for block, filled in b.of(x, y):
            n = block.shape[1]
            np.subtract(block, centre[:n], out=filled)
            np.multiply(filled, factors[:n], out=filled)
            np.add(filled, offsets[:n], out=filled)
        if y is not results[0]:
            results[0][...] = y
    results[1:] = [value if r is None and out is None else r for r, value in zip(results[1:], (mean, variance), strict=True)]
    return tuple(results)


def _spec(x: Spec, scale: Spec, offset: Spec, *, epsilon: float) -> Spec:
    if x.dtype.kind != "f":
        raise DTypeError(f"batch_norm is defined for real floats, not {x.dtype}. Cast with x.astype(np.float32) first.")
    if x.ndim < 2:
        raise ShapeError(f"batch_norm needs samples and features, got {x}.")
    for name, spec in (("scale", scale), ("offset", offset)):
        if spec.shape and (spec.shape != x.shape[-1:] or spec.dtype != x.dtype):
            raise ShapeError(f"batch_norm: for x of {x}, {name} is {x.dtype}[{x.shape[-1]}] or one number, got {spec}.")
    line = Spec(x.shape[-1:], wide(x.dtype))
    return several((x, line, line))


def _gradient(
    cotangents: Sequence[Tensor | None], node: Tensor, x: Tensor, scale: Tensor, offset: Tensor, *, epsilon: float
) -> tuple[Tensor | None, ...]:  # fmt: skip
    g, by_mean, by_variance = cotangents
    mean, variance = part(node, index=1), part(node, index=2)
    share = x.shape[-1] / max(x.size, 1)
    dx: Any = None
    dscale = doffset = None
    if g is not None:
        back = batch_norm_gradient(g, x, scale, mean, variance, epsilon=epsilon)
        dx, dscale, doffset = (part(back, index=i) for i in range(3))
    if by_mean is not None:
        dx = by_mean * share + (0 * x if dx is None else dx)
    if by_variance is not None:
        dx = by_variance * (2 * share) * (x - mean) + (0 if dx is None else dx)
    return dx, dscale, doffset


_SHAPES = ((9, 4), (2, 3, 5, 4))

batch_norm: Op = Op(
    "batch_norm",
    Kernel(_kernel, scratch=lambda x, *_, epsilon: _scratch(x, 4)),
    _spec,
    _gradient,
    tuple(Sample((Draw(shape), *(Draw(line) for line in lines)), {"epsilon": 0.1})
          for shape, lines in zip(_SHAPES, (((4,), (4,)), ((), ())), strict=True)),
    flops=lambda spec, x, *_, **__: 7.0 * x.size,
    drawn=lambda node: Drawn("batch_norm", ("normalised", "means", "variances")),
)  # fmt: skip

# ---- the gradient


def _gradient_kernel(
    g: Any, x: Any, scale: Any, mean: Any, variance: Any, out: Any = None, scratch: Any = None, *, epsilon: float
) -> tuple[Any, ...]:  # fmt: skip
    if x.itemsize == 2 and is_half(x):
        return parts_in_single(_gradient_kernel, (g, x, scale, mean, variance), out, 3, epsilon=epsilon)
    b = _Blocks(x)
    results = [np.empty(shape, x.dtype) for shape in (x.shape, (b.features,), (b.features,))] if out is None else list(out)
    work, ones, line, centre, factors, slopes, shifts = scratch or [np.empty(s.shape, x.dtype) for s in _scratch(x, 5)]
    dscale, doffset = (np.empty(b.features, x.dtype) if r is None else r for r in results[1:])
    ones[...], dscale[...], doffset[...] = 1, 0, 0
    b.spread(centre, mean)
    for gs, block in b.of(g, x):
        centred = work[: block.size].reshape(block.shape)
        np.subtract(block, centre[: block.shape[1]], out=centred)
        b.add(dscale, np.multiply(centred, gs, out=centred), ones, line)
        b.add(doffset, gs, ones, line)
    inverse = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    np.multiply(dscale, inverse, out=dscale)
    if results[0] is not None:
        # dx = scale * inverse * (g - mean of g - z * mean of g * z)
        factor, share = scale * inverse, x.dtype.type(1 / max(b.samples, 1))
        b.spread(factors, factor)
        b.spread(slopes, factor * inverse * dscale * share)
        b.spread(shifts, factor * doffset * share)
        dx = results[0] if results[0].flags.c_contiguous else np.empty(x.shape, x.dtype)
        for gs, block, filled in b.of(g, x, dx):
            n = block.shape[1]
            centred = work[: block.size].reshape(block.shape)
            np.multiply(np.subtract(block, centre[:n], out=centred), slopes[:n], out=centred)
            np.multiply(gs, factors[:n], out=filled)
            np.subtract(filled, centred, out=filled)
            np.subtract(filled, shifts[:n], out=filled)
        if dx is not results[0]:
            results[0][...] = dx
    results[1:] = [value if r is None and out is None else r for r, value in zip(results[1:], (dscale, doffset), strict=True)]
    return tuple(results)


def _gradient_expanded(g: Tensor, x: Tensor, scale: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float) -> list[Tensor]:
    samples = tuple(range(x.ndim - 1))
    inverse: Any = 1 / sqrt(variance + epsilon)
    z = (x - mean) * inverse
    dx = scale * inverse * (g - reduce_mean(g, samples, False) - z * reduce_mean(g * z, samples, False))
    return [dx, reduce_sum(g * z, samples, False), reduce_sum(g, samples, False)]


batch_norm_gradient: Op = Op(
    "batch_norm_gradient",
    Kernel(_gradient_kernel, scratch=lambda g, x, *_, epsilon: _scratch(x, 5)),
    lambda g, x, scale, *_, epsilon: several((x, *(2 * (Spec(x.shape[-1:], x.dtype),)))),
    None,
    tuple(Sample((Draw(shape), Draw(shape), Draw(line), Draw((4,)), Draw((4,), 0.5, 2.0)), {"epsilon": 0.1})
          for shape, line in zip(_SHAPES, ((4,), ()), strict=True)),
    flops=lambda spec, g, x, *_, **__: 11.0 * x.size,
    expand=_gradient_expanded,
    drawn=lambda node: Drawn("gradient of batch_norm", ("by x", "by scale", "by offset")),
)  # fmt: skip
