"""Layer norm and RMS norm over the last axis, in one pass over blocks of rows that stay in the cache.

    y, mean, inverse        = layer_norm(x, scale, offset)       z = (x - mean) * inverse,    y = z * scale + offset
    dx, dscale, doffset     = layer_norm_gradient(g, x, scale, mean, inverse)

`inverse` is one over the root of the mean square of ``x - mean`` plus epsilon. With ``center=False`` the mean counts as 0, which is RMS
norm. `scale` and `offset` have the shape of the features, or are one number.

Source: Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450, section 3; Zhang and Sennrich, arXiv:1910.07467, equation 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.bodies import several, written_parts
from dagtrain.ops.record import Draw, Drawn, Kernel, Op, Sample, part
from dagtrain.ops.reduce import is_half, reduce_mean, reduce_sum

__all__ = ["layer_norm", "layer_norm_gradient", "parts_in_single", "wide"]

_BLOCK = 32768
"""Elements that all passes are made over before the next ones are read."""


def wide(dtype: Any) -> np.dtype[Any]:
    """The dtype that float16 is computed in, and further outputs are kept in; any other dtype itself."""
    return np.dtype(np.float32) if dtype == np.float16 else np.dtype(dtype)


def parts_in_single(kernel: Any, arrays: Sequence[Any], out: Any, halves: int, **attributes: Any) -> tuple[Any, ...]:
    """What a kernel with several outputs makes of float16 arrays, computed in float32; so many of the first outputs are float16."""
    values = list(kernel(*(a.astype(np.float32) if is_half(a) else a for a in arrays), **attributes))
    values[:halves] = [v.astype(np.float16) for v in values[:halves]]
    return written_parts(values, out)


def _block(x: Any) -> tuple[int, int]:
    """The shape of a block of rows."""
    features = max(x.shape[-1], 1)
    return max(1, min(x.size // features, _BLOCK // features)), x.shape[-1]


def _rows(a: Any, x: Any) -> Any:
    """An array of the rows of x, as two axes; a copy where its memory is in another order."""
    return a.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _numbers(outs: Any, x: Any, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """The memory of outputs: as it is given, or new."""
    return [np.empty(shape, x.dtype) for shape in shapes] if outs is None else list(outs)


def _is_number(scale: Any, number: int) -> bool:
    return bool(not scale.ndim and scale == number)


def _kernel(
    x: Any, scale: Any, offset: Any, out: Any = None, scratch: Any = None, *, epsilon: float, center: bool
) -> tuple[Any, ...]:  # fmt: skip
    if x.itemsize == 2 and is_half(x):
        return parts_in_single(_kernel, (x, scale, offset), out, 1, epsilon=epsilon, center=center)
    scale, offset = (a if a.ndim else a.astype(x.dtype) for a in (scale, offset))
    line = (*x.shape[:-1], 1)
    results = _numbers(out, x, (x.shape, line, line))
    work, ones, means, inverses = scratch or (np.empty(_block(x), x.dtype), *(np.empty(n, x.dtype) for n in (x.shape[-1], line, line)))
    means, inverses = (w if r is None else r for r, w in zip(results[1:], (means, inverses), strict=True))
    ones[...] = 1
    rows, count = _rows(x, x), x.dtype.type(x.shape[-1])
    filled = None if results[0] is None else _rows(results[0], x)
    flat_means, flat_inverses = means.reshape(-1), inverses.reshape(-1)
    if not center:
        means[...] = 0
    for start in range(0, len(rows), len(work)):
        block = slice(start, start + len(work))
        here = rows[block]
        square = work[: len(here)]
        centred = square if filled is None else filled[block]
        inverse = flat_inverses[block]
        if center:
            mean = np.dot(here, ones, out=flat_means[block])
            np.divide(mean, count, out=mean)
            np.subtract(here, mean[:, None], out=centred)
        else:
            np.copyto(centred, here)
        np.multiply(centred, centred, out=square)
        np.divide(np.dot(square, ones, out=inverse), count, out=inverse)
        np.add(inverse, x.dtype.type(epsilon), out=inverse)
        np.divide(1, np.sqrt(inverse, out=inverse), out=inverse)
        if filled is not None:
            np.multiply(centred, inverse[:, None], out=centred)
            if not _is_number(scale, 1):
                np.multiply(centred, scale, out=centred)
            if not _is_number(offset, 0):
                np.add(centred, offset, out=centred)
    return tuple(results)


def _spec(x: Spec, scale: Spec, offset: Spec, *, epsilon: float, center: bool) -> Spec:
    if x.dtype.kind != "f":
        raise DTypeError(f"layer_norm is defined for real floats, not {x.dtype}. Cast with x.astype(np.float32) first.")
    if not x.ndim:
        raise ShapeError("layer_norm needs an axis of features, got one number.")
    for name, spec in (("scale", scale), ("offset", offset)):
        if spec.shape and (spec.shape != x.shape[-1:] or spec.dtype != x.dtype):
            raise ShapeError(f"layer_norm: for x of {x}, {name} is {x.dtype}[{x.shape[-1]}] or one number, got {spec}.")
    line = Spec((*x.shape[:-1], 1), wide(x.dtype))
    return several((x, line, line))


def _gradient(
    cotangents: Sequence[Tensor | None], node: Tensor, x: Tensor, scale: Tensor, offset: Tensor, *, epsilon: float, center: bool
) -> tuple[Tensor | None, ...]:  # fmt: skip
    g, by_mean, by_inverse = cotangents
    mean, inverse = part(node, index=1), part(node, index=2)
    dx: Any = None
    dscale = doffset = None
    if g is not None:
        back = layer_norm_gradient(g, x, scale, mean, inverse, center=center)
        dx, dscale, doffset = (part(back, index=i) for i in range(3))
    if by_mean is not None and center:
        dx = by_mean * (1 / x.shape[-1]) + (0 if dx is None else dx)
    if by_inverse is not None:
        dx = by_inverse * (inverse * inverse * inverse) * ((x - mean) * (-1 / x.shape[-1])) + (0 if dx is None else dx)
    return dx, dscale, doffset


def _draws(center: bool) -> tuple[Sample, ...]:
    attributes = {"epsilon": 0.1, "center": center}
    shapes: tuple[tuple[tuple[int, ...], ...], ...] = (((3, 4), (4,), (4,)), ((2, 3, 4), (), ()))
    return tuple(Sample(tuple(Draw(shape) for shape in case), attributes) for case in shapes)


def _scratch(x: Spec, scale: Spec, offset: Spec, **_: Any) -> tuple[Spec, ...]:
    line = Spec((*x.shape[:-1], 1), x.dtype)
    return Spec(_block(x), x.dtype), Spec(x.shape[-1:], x.dtype), line, line


layer_norm: Op = Op(
    "layer_norm",
    Kernel(_kernel, scratch=_scratch),
    _spec,
    _gradient,
    (*_draws(True), *_draws(False)),
    flops=lambda spec, x, *_, **__: 8.0 * x.size,
    drawn=lambda node: Drawn("layer_norm" if node.attribute("center") else "rms_norm", ("normalised", "means", "inverse deviations")),
)

# ---- the gradient


def _gradient_kernel(
    g: Any, x: Any, scale: Any, mean: Any, inverse: Any, out: Any = None, scratch: Any = None, *, center: bool
) -> tuple[Any, ...]:  # fmt: skip
    if x.itemsize == 2 and is_half(x):
        return parts_in_single(_gradient_kernel, (g, x, scale, mean, inverse), out, 3, center=center)
    features = x.shape[-1]
    results = _numbers(out, x, (x.shape, (features,), (features,)))
    scales, z, t, ones, row, m = scratch or [np.empty(s.shape, x.dtype) for s in _gradient_scratch(*_specs(x), center=center)]
    scales[...], ones[...] = scale, 1
    for total in results[1:]:
        if total is not None:
            total[...] = 0
    given, rows, means, inverses = _rows(g, x), _rows(x, x), mean.reshape(-1, 1), inverse.reshape(-1, 1)
    filled = None if results[0] is None else _rows(results[0], x)
    share = x.dtype.type(1 / features) if features else 0
    for start in range(0, len(rows), len(z)):
        block = slice(start, start + len(z))
        gs, r = given[block], inverses[block]
        count = len(gs)
        here, product = z[:count], t[:count]
        if center:
            np.multiply(np.subtract(rows[block], means[block], out=here), r, out=here)
        else:
            np.multiply(rows[block], r, out=here)
        np.multiply(gs, here, out=product)
        if results[1] is not None:
            results[1] += np.dot(ones[:count], product, out=row)
        if results[2] is not None:
            results[2] += np.dot(ones[:count], gs, out=row)
        if filled is None:
            continue
        dx = filled[block]
        along = np.dot(product, scales, out=m[:count])
        np.multiply(here, np.multiply(along, share, out=along)[:, None], out=here)
        if center:
            across = np.dot(gs, scales, out=m[:count])
            np.add(here, np.multiply(across, share, out=across)[:, None], out=here)
        np.multiply(gs, scales, out=dx)
        np.subtract(dx, here, out=dx)
        np.multiply(dx, r, out=dx)
    return tuple(results)


def _specs(x: Any) -> tuple[Spec, ...]:
    spec = Spec(x.shape, x.dtype)
    return spec, spec


def _gradient_scratch(g: Spec, x: Spec, *_: Spec, center: bool) -> tuple[Spec, ...]:
    rows, features = _block(x)
    return tuple(Spec(shape, x.dtype) for shape in ((features,), (rows, features), (rows, features), (rows,), (features,), (rows,)))


def _gradient_expanded(g: Tensor, x: Tensor, scale: Tensor, mean: Tensor, inverse: Tensor, *, center: bool) -> list[Tensor]:
    last, others = (x.ndim - 1,), tuple(range(x.ndim - 1))
    z, v = (x - mean if center else x) * inverse, g * scale
    dx: Any = inverse * (v - (reduce_mean(v, last, True) if center else 0) - z * reduce_mean(v * z, last, True))
    return [dx, reduce_sum(g * z, others, False), reduce_sum(g, others, False)]


_SHAPES = (((3, 4), (3, 4), (4,), (3, 1), (3, 1)), ((2, 3, 4), (2, 3, 4), (), (2, 3, 1), (2, 3, 1)))

layer_norm_gradient: Op = Op(
    "layer_norm_gradient",
    Kernel(_gradient_kernel, scratch=_gradient_scratch),
    lambda g, x, scale, *_, center: several((x, *(2 * (Spec(x.shape[-1:], x.dtype),)))),
    None,
    tuple(Sample(tuple(Draw(shape) for shape in case), {"center": center}) for case in _SHAPES for center in (True, False)),
    flops=lambda spec, g, x, *_, **__: 14.0 * x.size,
    expand=_gradient_expanded,
    drawn=lambda node: Drawn("gradient of layer_norm", ("by x", "by scale", "by offset")),
)
