"""The error function, which NumPy lacks.

Kernel: erf(x) = 1 - erfc(|x|) outside, x times an even series inside, by the continued fraction and Taylor series of Abramowitz and Stegun,
"Handbook of Mathematical Functions" (1964), 7.1.5 and 7.1.14, each where it converges to double precision.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.graph import Spec
from dagtrain.ops.elementwise import exp, square
from dagtrain.ops.record import Draw, Op, Sample

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
