"""The cases that tests of ops share: each record's own samples, drawn."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from dagtrain.ops import OPS, Draw, Op, Sample

# Ops with bodies instead of samples, and views for differentiation: tests/trace/test_scan.py, test_choices.py and test_custom.py.
WITHOUT_SAMPLES = {"scan", "part", "switch", "while", "custom_gradient", "recompute", "closed_over"}
CASES = [pytest.param(op, s, id=f"{name}-{i}") for name, op in sorted(OPS.items()) for i, s in enumerate(op.samples)]


def draw(d: Draw, rng: np.random.Generator) -> Any:
    if d.dtype == "?":
        return rng.random(d.shape) > 0.5
    if d.dtype[0] in "iu":
        return rng.integers(int(d.low), int(d.high), d.shape).astype(d.dtype)
    return np.asarray(rng.uniform(d.low, d.high, d.shape), d.dtype)


def draws(op: Op, sample: Sample) -> list[Any]:
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {sample}".encode()))
    return [draw(d, rng) for d in sample.draws]
