"""The cases that tests of ops share: each record's own samples, drawn."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from dagtrain.graph import Spec, Tensor
from dagtrain.ops import OPS, ZERO, Draw, Kernel, Op, Sample, part

# Ops with bodies instead of samples, and views for differentiation: tests/trace/test_scan.py, test_choices.py and test_custom.py.
WITHOUT_SAMPLES = {"scan", "part", "switch", "while", "custom_gradient", "recompute", "closed_over"}


class One:
    """One output of an op with several, as an op."""

    def __init__(self, op: Op, index: int, spec: Spec) -> None:
        self.op, self.index, self.name, self.samples, self.ufunc = op, index, f"{op.name}[{index}]", op.samples, None
        self.gradient, self.view = op.gradient if spec.dtype.kind == "f" else ZERO, op.view
        self.kernel = Kernel(self.call)

    def call(self, *arrays: Any, out: Any = None, **attributes: Any) -> Any:
        values = self.op.kernel(*arrays, **attributes)
        if out is None:
            return values[self.index]
        alone = [out if i == self.index else None for i in range(len(values))]
        return self.op.kernel(*arrays, out=alone, **attributes)[self.index]

    def infer(self, *specs: Spec, **attributes: Any) -> Spec:
        return self.op.infer(*specs, **attributes).parts[self.index]

    def __call__(self, *inputs: Any, **attributes: Any) -> Tensor:
        return part(self.op(*inputs, **attributes), index=self.index)

    def count_flops(self, node: Tensor) -> float:
        return self.op.count_flops(node.inputs[0])


def _outputs(op: Op) -> list[Any]:
    """The op; if it has several outputs, each of them."""
    sample = op.samples[0]
    specs = op.infer(*(Spec(d.shape, np.dtype(d.dtype)) for d in sample.draws), **sample.attributes).parts
    return [One(op, i, spec) for i, spec in enumerate(specs)] or [op]


_OPS = [one for _, op in sorted(OPS.items()) if op.samples for one in _outputs(op)]
CASES = [pytest.param(op, s, id=f"{op.name}-{i}") for op in _OPS for i, s in enumerate(op.samples)]


def draw(d: Draw, rng: np.random.Generator) -> Any:
    if d.dtype == "?":
        return rng.random(d.shape) > 0.5
    if d.dtype[0] in "iu":
        return rng.integers(int(d.low), int(d.high), d.shape).astype(d.dtype)
    return np.asarray(rng.uniform(d.low, d.high, d.shape), d.dtype)


def draws(op: Op, sample: Sample) -> list[Any]:
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {sample}".encode()))
    return [draw(d, rng) for d in sample.draws]
