"""The error function in single precision, against the standard library's."""

from __future__ import annotations

import math

import numpy as np

from dagtrain.ops import OPS


def test_erf_in_float32_is_right_to_one_unit_in_the_last_place() -> None:
    # More elements than a block has, and not a multiple of it.
    x = np.concatenate([np.linspace(-4.5, 4.5, 20_000), np.geomspace(1e-30, 1, 2_000)]).astype(np.float32)
    right = np.array([math.erf(v) for v in x])
    erf = OPS["erf"].kernel
    assert (np.abs(erf(x) - right) <= np.spacing(np.abs(right).astype(np.float32))).all()
    assert (erf(x[::-1]) == erf(x)[::-1]).all()  # also of a view that is not contiguous
    assert erf(np.float32([np.inf, -np.inf, 0.0, 7.0])).tolist() == [1, -1, 0, 1]
    assert np.isnan(erf(np.float32([np.nan]))).all()
    assert erf(np.float16([0.5])).dtype == np.float16
