"""NumPy's kernels of the GRU with the reset after the product; see `dagtrain.ops.recurrent_kernels`.

The gates of weights are z, r, n; those that are kept are n, z, r and q, the product that r scales. So the cotangents of n, z, r belong to
the inputs, and those of z, r, q, beside them, to the state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.ops.recurrent_kernels import Mask, Projection, Shape, apart, fill, flat, halved, is_short, order, previous, room, sum_rows

__all__ = ["forward", "forward_shapes", "gradient", "gradient_shapes"]


def forward_shapes(x: Any, recurrent: Any, keep: bool) -> list[Shape]:
    """The work space: copies of inputs and weights, that of a step, and room for what is not kept."""
    (_, rows, features), (units, width) = x.shape, recurrent.shape
    spare: list[Shape] = [] if keep else [(1, 4, rows, units)]
    weights: list[Shape] = [(0,), (0,)] if is_short(x, recurrent) else [(features, width), (units, width)]
    weights += [(width,), (units,)]
    return [*Projection.shapes(x, width), *weights, (rows, width), (rows, units), (2, rows, units), *spare]


def _parts(source: Any, units: int) -> tuple[Any, Any]:
    """Of weights z and r together, and n."""
    return source[..., : 2 * units], source[..., 2 * units :]


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
    keep: bool,
) -> tuple[Any, ...]:
    """The outputs of all steps and the last one; with `keep` also the gates of all steps."""
    (steps, rows, _), (units, _) = x.shape, recurrent.shape
    work = room(scratch, forward_shapes(x, recurrent, keep), x.dtype)
    copy, products, by_x, by_h, b, b_q, by_state, part, spare = work[:9]
    if out is None or keep:
        out = room(out, [(steps, rows, units), (rows, units), *([(steps, 4, rows, units)] if keep else [])], x.dtype)
    outputs, last = out[:2]
    gates = out[2] if keep else work[9]
    short, half = is_short(x, recurrent), x.dtype.type(0.5)
    if short:
        by_x, by_h = kernel, recurrent
    else:
        fill(by_x, _parts(kernel, units), (0.5, 1.0))
        fill(by_h, _parts(recurrent, units), (0.5, 1.0))
    np.copyto(b, bias[0])
    np.add(b[: 2 * units], bias[1, : 2 * units], out=b[: 2 * units])
    if not short:
        np.multiply(b[: 2 * units], half, out=b[: 2 * units])
    np.copyto(b_q, bias[1, 2 * units :])
    projection, masked, apart_by_state = Projection(x, by_x, b, copy, products), Mask(mask), apart(by_state, 3)
    for count, t in enumerate(order(steps, reverse)):
        step, by_input = gates[t if keep else 0], projection[t]
        n, z, r, q = step
        both = by_state[:, : 2 * units]
        np.matmul(h, by_h, out=by_state)
        np.add(both, by_input[:, : 2 * units], out=both)
        if short:
            np.multiply(both, half, out=both)
        np.tanh(both, out=both)
        halved(apart_by_state[:2], step[1:3])
        np.add(apart_by_state[2], b_q, out=q)
        np.multiply(r, q, out=part)
        np.add(part, by_input[:, 2 * units :], out=n)
        np.tanh(n, out=n)
        next_h = spare[count % 2] if outputs is None else outputs[t]
        np.subtract(h, n, out=part)
        np.multiply(part, z, out=part)
        np.add(part, n, out=next_h)
        masked.keep(t, next_h, h)
        h = next_h
    if last is not None:
        np.copyto(last, h)
    return tuple(out)


def gradient_shapes(x: Any, recurrent: Any) -> list[Shape]:
    """The work space: copies of inputs, states and weights, the cotangents of all gates, and that of a step."""
    (steps, rows, features), (units, width) = x.shape, recurrent.shape
    each, weights = (rows, units), (features, width)
    states: list[Shape] = [(steps, *each), (steps, rows, 4 * units), (4, *each), *[each] * 3]
    return [x.shape, *states, (width, units), weights, weights, (4 * units,)]


def gradient(*arrays: Any, out: Any = None, scratch: Any = None, reverse: bool) -> tuple[Any, ...]:
    """The cotangents of x, kernel, recurrent kernel, bias and first output."""
    x, kernel, recurrent, h, *mask, outputs, gates, gy, gh = arrays
    steps, (units, width) = len(x), recurrent.shape
    work = room(scratch, gradient_shapes(x, recurrent), x.dtype)
    copy, before, cotangents, gs, dh, next_dh, part, across, weights, slopes, sums = work
    if out is None:
        out = room(None, [x.shape, kernel.shape, recurrent.shape, (2, width), h.shape], x.dtype)
    gx, gkernel, grecurrent, gbias, gh0 = out
    np.copyto(across, recurrent.T)
    np.copyto(dh, gh)
    states = previous(outputs, h, reverse, before)
    masked, one = Mask(mask[0] if mask else None), x.dtype.type(1)
    dn, dz, dr, dq = gs
    for t in order(steps, not reverse):
        n, z, r, q = gates[t]
        np.add(dh, gy[t], out=dh)
        np.multiply(n, n, out=dn)
        np.subtract(one, dn, out=dn)
        np.subtract(one, z, out=part)
        np.multiply(dn, part, out=dn)
        np.multiply(dn, dh, out=dn)
        np.multiply(part, z, out=part)
        np.subtract(before[t], n, out=dz)
        np.multiply(dz, part, out=dz)
        np.multiply(dz, dh, out=dz)
        np.multiply(dn, r, out=dq)
        np.subtract(one, r, out=part)
        np.multiply(part, q, out=part)
        np.multiply(part, dq, out=dr)
        np.copyto(apart(cotangents[t], 4), gs)
        masked.keep(t, cotangents[t], 0)
        np.matmul(cotangents[t][:, units:], across, out=next_dh)
        np.multiply(dh, z, out=part)
        np.add(next_dh, part, out=next_dh)
        masked.keep(t, next_dh, dh)
        dh, next_dh = next_dh, dh
    every = cotangents.reshape(-1, 4 * units)
    if gx is not None:
        fill(weights, _parts(kernel, units)[::-1], (1.0, 1.0))
        np.matmul(every[:, :width], weights.T, out=gx.reshape(-1, x.shape[-1]))
    if gkernel is not None:
        np.matmul(flat(x, copy).T, every[:, :width], out=slopes)
        fill(gkernel, (slopes[:, units:], slopes[:, :units]), (1.0, 1.0))
    if grecurrent is not None:
        np.matmul(states.T, every[:, units:], out=grecurrent)
    if gbias is not None:
        sum_rows(every, sums)
        gbias[:, : 2 * units] = sums[units:width]
        gbias[0, 2 * units :] = sums[:units]
        gbias[1, 2 * units :] = sums[width:]
    if gh0 is not None:
        np.copyto(gh0, dh)
    return tuple(out)
