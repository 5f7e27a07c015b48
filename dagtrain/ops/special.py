"""Functions with series of their own: the error function, which NumPy lacks, and sinc with its derivatives.

Kernel: erf(x) = 1 - erfc(|x|) outside, x times an even series inside, by the continued fraction and Taylor series of Abramowitz and Stegun,
"Handbook of Mathematical Functions" (1964), 7.1.5 and 7.1.14, each where it converges to double precision.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.graph import Spec
from dagtrain.ops.elementwise import exp, square
from dagtrain.ops.record import Draw, Op, Sample, written

_SERIES = np.array([(-1.0) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(48)]) * (2 / math.sqrt(math.pi))
_INNER = 2.5


def _erf(x: Any, out: Any = None) -> Any:
    wide = np.asarray(x, dtype=np.complex128 if np.iscomplexobj(x) else np.float64)
    inner = np.where(np.abs(wide) < _INNER, wide, 0.0)
    squared = inner * inner
    total = np.full_like(squared, _SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        total *= squared
        total += coefficient
    total *= inner
    outer = np.where(np.abs(wide) < _INNER, _INNER, np.sign(wide.real) * wide)
    fraction = np.zeros_like(outer)
    for k in range(60, 0, -1):
        fraction = (k / 2) / (outer + fraction)
    tail = np.exp(-outer * outer) / (math.sqrt(math.pi) * (outer + fraction))
    result = np.where(np.abs(wide) < _INNER, total, np.sign(wide.real) * (1 - tail))
    result = np.where(np.isnan(wide), wide, result)
    if out is None:
        return result.astype(np.asarray(x).dtype if np.asarray(x).dtype.kind in "fc" else np.float64)
    out[...] = result
    return out


erf = Op(
    "erf",
    _erf,
    lambda a: Spec(a.shape, a.dtype if a.dtype.kind in "fc" else np.dtype(float)),
    lambda g, y, a: (g * ((2 / math.sqrt(math.pi)) * exp(-square(a))),),
    samples=(Sample((Draw(),)), Sample((Draw(low=2.6, high=3.5),))),
    flops=lambda spec, a: 60.0 * spec.size,
)


def _sinc(x: Any, out: Any = None, *, order: int) -> Any:
    """A derivative of sin(z) / z, z = pi x.

    Where |z| > order, by z s_k + k s_(k-1) = sin(z + k pi / 2), the derivatives of z s = sin(z); this cancels for small z. There the series
    of s_k has the terms (-1)^n z^(2n - k) / ((2n - k)! (2n + 1)), for 2n >= k.
    """
    result = np.sinc(x)
    if order:
        z = np.pi * np.asarray(x, result.dtype)
        small = np.abs(z) < order + 1
        far = np.where(small, order + 1, z)
        result = np.sin(far) / far
        for k in range(1, order + 1):
            result = (np.sin(far + k * (np.pi / 2)) - k * result) / far
        near = np.where(small, z, 0)
        first = (order + 1) // 2
        series = np.zeros_like(near)
        for n in range(first + 8 + 2 * (order + 1), first - 1, -1):
            series = series * (near * near) + (-1.0) ** n / (math.factorial(2 * n - order) * (2 * n + 1))
        result = np.where(small, series * near ** (2 * first - order), result) * np.pi**order
        result = result.astype(z.dtype, copy=False)
    return written(result, out)


sinc: Op = Op(
    "sinc",
    _sinc,
    lambda a, *, order: Spec(a.shape, a.dtype if a.dtype.kind in "fc" else np.dtype(float)),
    lambda g, y, a, *, order: (g * sinc(a, order=order + 1),),
    samples=(Sample((Draw(),), {"order": 0}), Sample((Draw(),), {"order": 1}), Sample((Draw(low=-0.5, high=0.5),), {"order": 2})),
    flops=lambda spec, a, *, order: (30.0 + 40.0 * order) * spec.size,
)
