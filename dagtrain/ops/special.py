"""Functions with series of their own: the error function, which NumPy lacks, and sinc with its derivatives.

erf in float64: 1 - erfc(|x|) outside, x times an even series inside, by the continued fraction and Taylor series of Abramowitz and Stegun,
"Handbook of Mathematical Functions" (1964), 7.1.5 and 7.1.14, each where it converges to double precision.

erf in float32: x P(z) / Q(z), z = x * x, for |x| <= 4, beyond which it is 1 or -1, the form of Eigen's and XLA's. It is evaluated in
float64, so that only the result is rounded, and the bits are the same on every processor. The coefficients are a fit by least squares whose
weights were changed until all peaks of the error were equal (Lawson's algorithm); the error stays below one unit in the last place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.graph import Spec
from dagtrain.ops.elementwise import exp, square
from dagtrain.ops.record import Draw, Kernel, Op, Sample, written

_SERIES = np.array([(-1.0) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(48)]) * (2 / math.sqrt(math.pi))
_INNER = 2.5
_NUMERATOR = (0.05309359618689731, 7.604661688887254, 103.77884888756114, 1419.0859287300773, 5172.298992552762, 30154.627532425904)
_DENOMINATOR = (31.68314210726187, 406.3983193609384, 3082.6073284871877, 13491.75768908709, 26723.84350375945)
_BLOCK = 8192
"""Elements that all passes are made over before the next ones are read, so that they stay in the cache."""


def _erf(x: Any, out: Any = None, scratch: Any = None) -> Any:
    x = np.asarray(x)
    short = x.dtype.kind == "f" and x.dtype.itemsize <= 4
    result = np.empty(x.shape, x.dtype if x.dtype.kind in "fc" else np.float64) if out is None or not out.flags.c_contiguous else out
    flat, filled = np.ascontiguousarray(x).reshape(-1), result.reshape(-1)
    work = scratch if scratch is not None else np.empty((4, min(flat.size, _BLOCK)))
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        if short:
            _rational(flat[part], filled[part], *(w[: flat[part].size] for w in work))
        else:
            filled[part] = _by_series(flat[part])
    return result if out is None or result is out else written(result, out)


def _rational(x: Any, out: Any, y: Any, z: Any, p: Any, q: Any) -> None:
    np.clip(x, -4, 4, out=y)
    np.multiply(y, y, out=z)
    np.multiply(z, _NUMERATOR[0], out=p)
    for coefficient in _NUMERATOR[1:-1]:
        np.add(p, coefficient, out=p)
        np.multiply(p, z, out=p)
    np.add(p, _NUMERATOR[-1], out=p)
    np.add(z, _DENOMINATOR[0], out=q)
    for coefficient in _DENOMINATOR[1:]:
        np.multiply(q, z, out=q)
        np.add(q, coefficient, out=q)
    np.multiply(p, y, out=p)
    np.divide(p, q, out=out, casting="same_kind")


def _by_series(x: Any) -> Any:
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
    return np.where(np.isnan(wide), wide, result)


erf = Op(
    "erf",
    Kernel(_erf, scratch=lambda a: 4 * (Spec((min(a.size, _BLOCK),), np.dtype(np.float64)),)),
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
