"""The cases that tests of ops share: each record's own samples, drawn."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from dagtrain.graph import Spec, Tensor, topological
from dagtrain.ops import OPS, ZERO, Draw, Kernel, Op, Sample, part, parts
from dagtrain.ops.shape import concatenate

# Ops with bodies instead of samples, and views for differentiation: tests/trace/test_scan.py, test_choices.py and test_custom.py.
WITHOUT_SAMPLES = {"scan", "part", "switch", "while", "custom_gradient", "recompute", "closed_over"}


class One:
    """One output of an op with several, as an op."""

    def __init__(self, op: Op, index: int, spec: Spec) -> None:
        self.op, self.index, self.name, self.samples, self.ufunc = op, index, f"{op.name}[{index}]", op.samples, None
        self.gradient, self.view = op.gradient if spec.dtype.kind == "f" else ZERO, op.view
        self.kernel, self.expand = Kernel(self.call), None

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


class All:
    """All outputs of an op of floats, as one line of numbers."""

    def __init__(self, op: Op) -> None:
        self.op, self.name, self.samples, self.ufunc = op, op.name, op.samples, None
        self.gradient, self.expand, self.view = op.gradient, op.expand, op.view
        self.kernel = Kernel(self.call, scratch=op.kernel.scratch)

    def call(self, *arrays: Any, out: Any = None, **others: Any) -> Any:
        values = self.op.kernel(*arrays, **others)
        if out is None:
            return np.concatenate([value.reshape(-1) for value in values])
        ends = np.cumsum([0, *(value.size for value in values)])
        places = [out[start:end].reshape(value.shape) for start, end, value in zip(ends, ends[1:], values, strict=False)]
        filled = self.op.kernel(*arrays, out=list(places), **others)
        assert all(value is place for value, place in zip(filled, places, strict=True))
        return out

    def infer(self, *specs: Spec, **attributes: Any) -> Spec:
        parts = self.op.infer(*specs, **attributes).parts
        return Spec((sum(spec.size for spec in parts),), parts[0].dtype)

    def __call__(self, *inputs: Any, **attributes: Any) -> Tensor:
        return concatenate([value.reshape(-1) for value in parts(self.op(*inputs, **attributes))])

    def count_flops(self, node: Tensor) -> float:
        return self.op.count_flops(next(t for t in topological([node]) if t.op == self.name))


def _outputs(op: Op, sample: Sample) -> list[Any]:
    """The op; if it has several outputs, each of them, or all together if it is made of smaller ops (so that it has many)."""
    specs = op.infer(*(Spec(d.shape, np.dtype(d.dtype)) for d in sample.draws), **sample.attributes).parts
    if specs and op.expand is not None:
        return [All(op)]
    return [One(op, i, spec) for i, spec in enumerate(specs)] or [op]


_ONES = [(one, i, s) for _, op in sorted(OPS.items()) for i, s in enumerate(op.samples) for one in _outputs(op, s)]
CASES = [pytest.param(op, s, id=f"{op.name}-{i}") for op, i, s in _ONES]


def draw(d: Draw, rng: np.random.Generator) -> Any:
    if d.dtype == "?":
        return rng.random(d.shape) > 0.5
    if d.dtype[0] in "iu":
        return rng.integers(int(d.low), int(d.high), d.shape).astype(d.dtype)
    return np.asarray(rng.uniform(d.low, d.high, d.shape), d.dtype)


def draws(op: Op, sample: Sample) -> list[Any]:
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {sample}".encode()))
    return [draw(d, rng) for d in sample.draws]
