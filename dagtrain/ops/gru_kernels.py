"""NumPy's kernels of the GRU with the reset after the product; gates lie in memory as n, z, r and q, the product that r scales.

Those of weights are z, r, n. So the cotangents of n, z, r belong to the inputs, and those of z, r, q, beside them, to the state. See
`dagtrain.ops.recurrent_kernels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.graph import Spec
from dagtrain.ops.recurrent_kernels import Mask, Shape, fill, flat, halved, order, previous, room

__all__ = ["forward", "forward_scratch", "gradient", "gradient_scratch"]


def _forward_shapes(x: Any, recurrent: Any, keep: bool) -> list[Shape]:
    (steps, rows, features), (units, width) = x.shape, recurrent.shape
    spare: list[Shape] = [] if keep else [(steps, rows, 4 * units)]
    return [x.shape, (features, width), (units, width), (4 * units,), (rows, width), (rows, units), (2, rows, units), *spare]


def forward_scratch(x: Spec, kernel: Spec, recurrent: Spec, *_: Spec, keep: bool, **__: Any) -> list[Spec]:
    """Copies of inputs and weights, the work space of a step, and room for what is not kept."""
    return [Spec(shape, x.dtype) for shape in _forward_shapes(x, recurrent, keep)]


def _thirds(source: Any, units: int) -> tuple[Any, ...]:
    return tuple(source[..., k * units : (k + 1) * units] for k in range(3))


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
    (steps, rows, _), (units, width) = x.shape, recurrent.shape
    work = room(scratch, _forward_shapes(x, recurrent, keep), x.dtype)
    copy, by_x, by_h, b, products, part, spare = work[:7]
    if out is None or keep:
        out = room(out, [(steps, rows, units), (rows, units), *([(steps, rows, 4 * units)] if keep else [])], x.dtype)
    outputs, last = out[:2]
    gates = out[2] if keep else work[7]
    z, r, n = _thirds(kernel, units)
    fill(by_x, (n, z, r), (1.0, 0.5, 0.5))
    fill(by_h, _thirds(recurrent, units), (0.5, 0.5, 1.0))
    fill(b, (bias[0, 2 * units :], bias[0, : 2 * units], bias[1, 2 * units :]), (1.0, 0.5, 1.0))
    np.add(b[units:width], bias[1, : 2 * units] * x.dtype.type(0.5), out=b[units:width])
    np.matmul(flat(x, copy), by_x, out=gates.reshape(-1, 4 * units)[:, :width])
    masked = Mask(mask)
    for count, t in enumerate(order(steps, reverse)):
        n, z, r, q = (gates[t][:, k * units : (k + 1) * units] for k in range(4))
        both = gates[t][:, units:width]
        np.matmul(h, by_h, out=products)
        np.add(both, products[:, : 2 * units], out=both)
        np.add(both, b[units:width], out=both)
        np.tanh(both, out=both)
        halved(both)
        np.add(products[:, 2 * units :], b[width:], out=q)
        np.multiply(r, q, out=part)
        np.add(part, b[:units], out=part)
        np.add(n, part, out=n)
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


def _gradient_shapes(x: Any, recurrent: Any) -> list[Shape]:
    (steps, rows, features), (units, width) = x.shape, recurrent.shape
    each, weights = (rows, units), (features, width)
    return [x.shape, (steps, rows, units), (steps, rows, 4 * units), *[each] * 3, (width, units), weights, weights, (4 * units,)]


def gradient_scratch(x: Spec, kernel: Spec, recurrent: Spec, *_: Spec, **__: Any) -> list[Spec]:
    """Copies of inputs, states and weights, the cotangents of all gates, and the work space of a step."""
    return [Spec(shape, x.dtype) for shape in _gradient_shapes(x, recurrent)]


def gradient(*arrays: Any, out: Any = None, scratch: Any = None, reverse: bool) -> tuple[Any, ...]:
    """The cotangents of x, kernel, recurrent kernel, bias and first output."""
    x, kernel, recurrent, h, *mask, outputs, gates, gy, gh = arrays
    steps, (units, width) = len(x), recurrent.shape
    work = room(scratch, _gradient_shapes(x, recurrent), x.dtype)
    copy, before, cotangents, dh, next_dh, part, across, weights, slopes, sums = work
    if out is None:
        out = room(None, [x.shape, kernel.shape, recurrent.shape, (2, width), h.shape], x.dtype)
    gx, gkernel, grecurrent, gbias, gh0 = out
    np.copyto(across, recurrent.T)
    np.copyto(dh, gh)
    states = previous(outputs, h, reverse, before)
    masked, one = Mask(mask[0] if mask else None), x.dtype.type(1)
    for t in order(steps, not reverse):
        n, z, r, q = (gates[t][:, k * units : (k + 1) * units] for k in range(4))
        dn, dz, dr, dq = (cotangents[t][:, k * units : (k + 1) * units] for k in range(4))
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
        masked.keep(t, cotangents[t], 0)
        np.matmul(cotangents[t][:, units:], across, out=next_dh)
        np.multiply(dh, z, out=part)
        np.add(next_dh, part, out=next_dh)
        masked.keep(t, next_dh, dh)
        dh, next_dh = next_dh, dh
    every = cotangents.reshape(-1, 4 * units)
    if gx is not None:
        zr, new = kernel[:, : 2 * units], kernel[:, 2 * units :]
        fill(weights, (new, zr), (1.0, 1.0))
        np.matmul(every[:, :width], weights.T, out=gx.reshape(-1, x.shape[-1]))
    if gkernel is not None:
        np.matmul(flat(x, copy).T, every[:, :width], out=slopes)
        fill(gkernel, (slopes[:, units:], slopes[:, :units]), (1.0, 1.0))
    if grecurrent is not None:
        np.matmul(states.T, every[:, units:], out=grecurrent)
    if gbias is not None:
        np.add.reduce(every, 0, out=sums)
        gbias[:, : 2 * units] = sums[units:width]
        gbias[0, 2 * units :] = sums[:units]
        gbias[1, 2 * units :] = sums[width:]
    if gh0 is not None:
        np.copyto(gh0, dh)
    return tuple(out)
