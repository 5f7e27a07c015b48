"""gelu and its derivative, in one pass over blocks of elements that stay in the cache.

    y, share = gelu(x)                      y = x * share
    dx       = gelu_gradient(g, x, share)   dx = g * (share + x * derivative of the share)

The share is the normal distribution function Phi(x); with ``approximate=True`` it is ``sigmoid(2 u)``, which equals ``(1 + tanh(u)) / 2``
without its cancellation, where ``u = sqrt(2 / pi) * (x + 0.044715 * x**3)``.

Source: Hendrycks and Gimpel, "Gaussian error linear units", arXiv:1606.08415, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.bodies import several
from dagtrain.ops.elementwise import exp, square
from dagtrain.ops.layer_norm import parts_in_single, wide
from dagtrain.ops.record import Draw, Drawn, Kernel, Op, Sample, part
from dagtrain.ops.reduce import in_single, is_half
from dagtrain.ops.special import erf

__all__ = ["gelu", "gelu_gradient"]

_BLOCK = 8192
"""Elements that all passes are made over before the next ones are read."""
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = _LINEAR * 0.044715
_DENSITY = 1 / math.sqrt(2 * math.pi)


def _flat(a: Any) -> Any:
    return np.ascontiguousarray(a).reshape(-1)


def _blocks(size: int) -> Iterator[slice]:
    return (slice(i, min(i + _BLOCK, size)) for i in range(0, size, _BLOCK))


def _short(a: Any) -> int:
    return min(int(a.size), _BLOCK)


def _share(x: Any, share: Any, doubles: Any, approximate: bool) -> None:
    """Write the share of a block."""
    if not approximate:
        np.multiply(x, x.dtype.type(math.sqrt(0.5)), out=share)
        erf.kernel(share, out=share, scratch=doubles)
        np.multiply(share, x.dtype.type(0.5), out=share)
        np.add(share, x.dtype.type(0.5), out=share)
        return
    np.multiply(x, x, out=share)
    np.multiply(share, x.dtype.type(-_CUBIC), out=share)
    np.add(share, x.dtype.type(-_LINEAR), out=share)
    np.multiply(share, x, out=share)
    np.exp(share, out=share)  # infinite where the share is 0
    np.add(share, x.dtype.type(1), out=share)
    np.reciprocal(share, out=share)


def _kernel(x: Any, out: Any = None, scratch: Any = None, *, approximate: bool) -> tuple[Any, ...]:
    if x.itemsize == 2 and is_half(x):
        return parts_in_single(_kernel, (x,), out, 1, approximate=approximate)
    results = [np.empty(x.shape, x.dtype) for _ in range(2)] if out is None else out
    xs, (line, *doubles) = _flat(x), scratch or [np.empty(spec.shape, spec.dtype) for spec in _scratch(x, approximate=approximate)]
    y, shares = (None if r is None else r.reshape(-1) for r in results)
    with np.errstate(over="ignore"):
        for block in _blocks(x.size):
            share = line[: len(xs[block])] if shares is None else shares[block]
            _share(xs[block], share, doubles, approximate)
            if y is not None:
                np.multiply(xs[block], share, out=y[block])
    return tuple(results)


def _spec(x: Spec, **_: Any) -> Spec:
    if x.dtype.kind != "f":
        raise DTypeError(f"gelu is defined for real floats, not {x.dtype}. Cast with x.astype(np.float32) first.")
    return several((x, Spec(x.shape, wide(x.dtype))))


def _scratch(x: Any, *, approximate: bool) -> tuple[Spec, ...]:
    doubles = () if approximate else 4 * (Spec((_short(x),), np.dtype(np.float64)),)
    return Spec((_short(x),), x.dtype), *doubles


def _gradient(cotangents: Sequence[Tensor | None], node: Tensor, x: Tensor, *, approximate: bool) -> tuple[Tensor | None]:
    g, by_share = cotangents
    share = part(node, index=1)
    total = None if g is None else gelu_gradient(g, x, share, approximate=approximate)
    if by_share is not None:
        through: Any = by_share * _slope(x, share, approximate)
        total = through if total is None else total + through
    return (total,)


def _slope(x: Tensor, share: Tensor, approximate: bool) -> Tensor:
    """The derivative of the share."""
    steep: Any = _LINEAR + 3 * _CUBIC * square(x) if approximate else None
    slope: Tensor = share * (1 - share) * steep if approximate else _DENSITY * exp(-0.5 * square(x))
    return slope


_SAMPLES = tuple(Sample((Draw(),), {"approximate": flag}) for flag in (True, False))

gelu: Op = Op(
    "gelu",
    Kernel(_kernel, scratch=_scratch),
    _spec,
    _gradient,
    _SAMPLES,
    flops=lambda spec, x, *, approximate: (20.0 if approximate else 64.0) * x.size,
    drawn=lambda node: Drawn("gelu", ("gelu", "share")),
)


def _gradient_kernel(g: Any, x: Any, share: Any, out: Any = None, scratch: Any = None, *, approximate: bool) -> Any:
    if x.itemsize == 2 and is_half(x):
        return in_single(_gradient_kernel, (g, x, share), out, approximate=approximate)
    result = np.empty(x.shape, x.dtype) if out is None else out
    gs, xs, shares, dx, real = _flat(g), _flat(x), _flat(share), result.reshape(-1), x.dtype.type
    work = scratch[0] if scratch is not None else np.empty(_short(x), x.dtype)
    for block in _blocks(x.size):
        a, s, t = xs[block], shares[block], dx[block]
        w = work[: len(a)]
        np.multiply(a, a, out=w)
        if approximate:
            np.multiply(w, real(3 * _CUBIC), out=w)
            np.add(w, real(_LINEAR), out=w)
            np.multiply(w, a, out=w)
            np.subtract(real(1), s, out=t)
            np.multiply(w, t, out=w)
            np.add(w, real(1), out=w)
            np.multiply(w, s, out=w)
        else:
            np.multiply(w, real(-0.5), out=w)
            np.exp(w, out=w)
            np.multiply(w, real(_DENSITY), out=w)
            np.multiply(w, a, out=w)
            np.add(w, s, out=w)
        np.multiply(gs[block], w, out=t)
    return result


def _gradient_expanded(g: Tensor, x: Tensor, share: Tensor, *, approximate: bool) -> list[Tensor]:
    return [g * (share + x * _slope(x, share, approximate))]


gelu_gradient: Op = Op(
    "gelu_gradient",
    Kernel(_gradient_kernel, scratch=lambda g, x, share, **_: (Spec((_short(x),), x.dtype),)),
    lambda g, x, share, **_: x,
    None,
    tuple(Sample((Draw(), Draw(), Draw(low=0.0, high=1.0)), s.attributes) for s in _SAMPLES),
    flops=lambda spec, g, x, share, *, approximate: (8.0 if approximate else 17.0) * x.size,
    expand=_gradient_expanded,
)
