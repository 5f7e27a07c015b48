"""NumPy's kernels of the LSTM; see `dagtrain.ops.recurrent_kernels`.

The gates of weights are i, f, g, o; those that are kept are i, f, o, g, and after them tanh of the new cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.ops.recurrent_kernels import Mask, Projection, Shape, apart, by_weights, fill, flat, halved, is_short, order, previous, room

__all__ = ["forward", "forward_shapes", "gradient", "gradient_shapes"]


def forward_shapes(x: Any, recurrent: Any, keep: bool) -> list[Shape]:
    """The work space: copies of inputs and weights, that of a step, and room for what is not kept."""
    (_, rows, features), (units, width) = x.shape, recurrent.shape
    spare: list[Shape] = [] if keep else [(2, rows, units), (1, 5, rows, units)]
    weights: list[Shape] = [(rows, width), (0,), (0,)] if is_short(x, recurrent) else [(features, width), (units, width), (width,)]
    return [*Projection.shapes(x, width), *weights, (rows, width), (rows, units), (2, rows, units), *spare]


def _side_by_side(source: Any, units: int) -> tuple[Any, Any, Any]:
    """The gates i and f, o, g of weights or products with the gates i, f, g, o."""
    return source[..., : 2 * units], source[..., 3 * units :], source[..., 2 * units : 3 * units]


def forward(
    x: Any,
    kernel: Any,
    recurrent: Any,
    bias: Any,
    h: Any,
    c: Any,
    mask: Any = None,
    out: Any = None,
    scratch: Any = None,
    *,
    reverse: bool,
    keep: bool,
) -> tuple[Any, ...]:
    """The outputs of all steps, the last output and the last cell; with `keep` also the cells and gates of all steps."""
    (steps, rows, _), (units, _) = x.shape, recurrent.shape
    work = room(scratch, forward_shapes(x, recurrent, keep), x.dtype)
    copy, products, by_x, by_h, b, z, new, spare = work[:8]
    sizes: list[Shape] = [(steps, rows, units), (rows, units), (rows, units)]
    sizes += [(steps, rows, units), (steps, 5, rows, units)] if keep else []
    if out is None or keep:
        out = room(out, sizes, x.dtype)
    outputs, last, last_cell = out[:3]
    cells, gates = out[3:] if keep else work[8:]
    short, halves = is_short(x, recurrent), (0.5, 0.5, 1.0)
    turned = by_x if short else z
    if short:
        by_x, by_h, b = kernel, recurrent, bias
    else:
        for target, source in ((by_x, kernel), (by_h, recurrent), (b, bias)):
            fill(target, _side_by_side(source, units), halves)
    projection, masked, turned_apart = Projection(x, by_x, b, copy, products), Mask(mask), apart(turned, 4)
    for count, t in enumerate(order(steps, reverse)):
        step = gates[t if keep else 0]
        i, f, o, g, tanh = step
        next_c = cells[t if keep else count % 2]
        next_h = spare[count % 2] if outputs is None else outputs[t]
        np.matmul(h, by_h, out=z)
        np.add(z, projection[t], out=z)
        if short:
            fill(turned, _side_by_side(z, units), halves)
        np.tanh(turned, out=turned)
        halved(turned_apart[:3], step[:3])
        np.copyto(g, turned_apart[3])
        np.multiply(f, c, out=next_c)
        np.multiply(i, g, out=new)
        np.add(next_c, new, out=next_c)
        np.tanh(next_c, out=tanh)
        np.multiply(o, tanh, out=next_h)
        masked.keep(t, next_c, c)
        masked.keep(t, next_h, h)
        h, c = next_h, next_c
    for target, value in ((last, h), (last_cell, c)):
        if target is not None:
            np.copyto(target, value)
    return tuple(out)


def gradient_shapes(x: Any, recurrent: Any) -> list[Shape]:
    """The work space: copies of inputs and states, the cotangents of all gates, and that of a step."""
    (steps, rows, _), (units, width) = x.shape, recurrent.shape
    each = (rows, units)
    return [x.shape, (steps, rows, units), (steps, rows, width), (3, *each), (4, *each), *[each] * 5, (width, units)]


def gradient(*arrays: Any, out: Any = None, scratch: Any = None, reverse: bool) -> tuple[Any, ...]:
    """The cotangents of x, kernel, recurrent kernel, bias, first output and first cell."""
    x, kernel, recurrent, h, c, *mask, outputs, cells, gates, gy, gh, gc = arrays
    steps, (_, width) = len(x), recurrent.shape
    work = room(scratch, gradient_shapes(x, recurrent), x.dtype)
    copy, before, dz, slopes, gs, dh, dc, next_dh, next_dc, part, across = work
    if out is None:
        out = room(None, [x.shape, kernel.shape, recurrent.shape, (width,), h.shape, c.shape], x.dtype)
    gx, gkernel, grecurrent, gbias, gh0, gc0 = out
    np.copyto(across, recurrent.T)
    np.copyto(dh, gh)
    np.copyto(dc, gc)
    masked, one = Mask(mask[0] if mask else None), x.dtype.type(1)
    di, df, dg, do = gs
    for t in order(steps, not reverse):
        i, f, o, g, tanh = gates[t]
        first = t == (steps - 1 if reverse else 0)
        np.multiply(gates[t][:3], gates[t][:3], out=slopes)
        np.subtract(gates[t][:3], slopes, out=slopes)
        np.add(dh, gy[t], out=dh)
        np.multiply(dh, tanh, out=do)
        np.multiply(do, slopes[2], out=do)
        np.multiply(tanh, tanh, out=part)
        np.subtract(one, part, out=part)
        np.multiply(part, o, out=part)
        np.multiply(part, dh, out=part)
        np.add(dc, part, out=next_dc)
        np.multiply(g, g, out=part)
        np.subtract(one, part, out=part)
        np.multiply(part, i, out=part)
        np.multiply(part, next_dc, out=dg)
        np.multiply(next_dc, g, out=di)
        np.multiply(next_dc, c if first else cells[t + 1 if reverse else t - 1], out=df)
        np.multiply(gs[:2], slopes[:2], out=gs[:2])
        np.multiply(next_dc, f, out=next_dc)
        np.copyto(apart(dz[t], 4), gs)
        masked.keep(t, dz[t], 0)
        masked.keep(t, next_dc, dc)
        np.matmul(dz[t], across, out=next_dh)
        masked.keep(t, next_dh, dh)
        dh, next_dh, dc, next_dc = next_dh, dh, next_dc, dc
    every = dz.reshape(-1, width)
    by_weights(flat(x, copy), every, kernel, gx, gkernel, gbias)
    if grecurrent is not None:
        np.matmul(previous(outputs, h, reverse, before).T, every, out=grecurrent)
    for target, value in ((gh0, dh), (gc0, dc)):
        if target is not None:
            np.copyto(target, value)
    return tuple(out)
