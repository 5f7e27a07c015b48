"""NumPy's kernels of the simple recurrent network; see `dagtrain.ops.recurrent_kernels`."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.ops.recurrent_kernels import Mask, Projection, Shape, by_weights, flat, order, previous, room

__all__ = ["forward", "forward_shapes", "gradient", "gradient_shapes"]


def forward_shapes(x: Any, recurrent: Any) -> list[Shape]:
    """The work space: a copy of inputs, products of several steps and of one, and outputs that nothing reads."""
    (_, rows, _), (units, _) = x.shape, recurrent.shape
    return [*Projection.shapes(x, units), (2, rows, units), (rows, units)]


def forward(
    x: Any,
    kernel: Any,
    recurrent: Any,
    bias: Any,
    h: Any,
    mask: Any = None,
    out: Any = None,
    scratch: Any = None,
    *,
    reverse: bool,
) -> tuple[Any, ...]:
    """The outputs of all steps and the last one."""
    copy, products, spare, product = room(scratch, forward_shapes(x, recurrent), x.dtype)
    if out is None:
        out = room(None, [(*x.shape[:2], len(recurrent)), h.shape], x.dtype)
    outputs, last = out
    projection, masked = Projection(x, kernel, bias, copy, products), Mask(mask)
    for count, t in enumerate(order(len(x), reverse)):
        y = spare[count % 2] if outputs is None else outputs[t]
        np.matmul(h, recurrent, out=product)
        np.add(product, projection[t], out=y)
        np.tanh(y, out=y)
        masked.keep(t, y, h)
        h = y
    if last is not None:
        np.copyto(last, h)
    return tuple(out)


def gradient_shapes(x: Any, recurrent: Any) -> list[Shape]:
    """The work space: copies of inputs and states, the cotangents of all products, and that of a step."""
    (steps, rows, _), (units, _) = x.shape, recurrent.shape
    return [x.shape, (steps, rows, units), (steps, rows, units), *[(rows, units)] * 2, (units, units)]


def gradient(*arrays: Any, out: Any = None, scratch: Any = None, reverse: bool) -> tuple[Any, ...]:
    """The cotangents of x, kernel, recurrent kernel, bias and first output."""
    x, kernel, recurrent, h, *mask, outputs, gy, gh = arrays
    work = room(scratch, gradient_shapes(x, recurrent), x.dtype)
    copy, before, dz, dh, next_dh, across = work
    if out is None:
        out = room(None, [x.shape, kernel.shape, recurrent.shape, h.shape[1:], h.shape], x.dtype)
    gx, gkernel, grecurrent, gbias, gh0 = out
    np.copyto(across, recurrent.T)
    np.copyto(dh, gh)
    masked, one = Mask(mask[0] if mask else None), x.dtype.type(1)
    for t in order(len(x), not reverse):
        np.add(dh, gy[t], out=dh)
        np.multiply(outputs[t], outputs[t], out=dz[t])
        np.subtract(one, dz[t], out=dz[t])
        np.multiply(dz[t], dh, out=dz[t])
        masked.keep(t, dz[t], 0)
        np.matmul(dz[t], across, out=next_dh)
        masked.keep(t, next_dh, dh)
        dh, next_dh = next_dh, dh
    every = dz.reshape(-1, dz.shape[-1])
    by_weights(flat(x, copy), every, kernel, gx, gkernel, gbias)
    if grecurrent is not None:
        np.matmul(previous(outputs, h, reverse, before).T, every, out=grecurrent)
    if gh0 is not None:
        np.copyto(gh0, dh)
    return tuple(out)
