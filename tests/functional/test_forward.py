"""Derivatives along a direction and cotangents, of every op: each of the two gives the same number u · J v."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.functional.products import pull, push
from dagtrain.graph import Graph
from dagtrain.ops import ZERO, Op, Sample
from dagtrain.ops.record import parts
from dagtrain.plan.interpret import interpret

from ..each import each
from ..ops.cases import CASES, draws

SMOOTH = [c for c in CASES if c.values[0].gradient not in (None, ZERO)]  # type: ignore[attr-defined]


@pytest.mark.slow
@each(SMOOTH)
def test_along_a_direction_and_back(op: Op, sample: Sample) -> None:
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {sample}".encode()))
    arrays = draws(op, sample)
    leaves = [dt.input(f"x{i}", np.shape(a), np.asarray(a).dtype) for i, a in enumerate(arrays)]
    node = op(*leaves, **sample.attributes)
    outputs = [t for t in (parts(node) if node.spec.parts else [node]) if t.dtype.kind in "fc"]
    targets = [leaf for leaf in leaves if leaf.dtype.kind == "f"]
    us = [rng.normal(size=t.shape) + (1j * rng.normal(size=t.shape) if t.dtype.kind == "c" else 0) for t in outputs]
    vs = [rng.normal(size=t.shape) for t in targets]
    along, back = push(outputs, targets, [dt.array(v) for v in vs]), pull(outputs, [dt.array(u) for u in us], targets)
    graph = Graph(
        {str(leaf.name): leaf for leaf in leaves}, {f"{k}{i}": t for k, ts in (("a", along), ("b", back)) for i, t in enumerate(ts)}
    )
    values = interpret(graph, *arrays)
    pairs: list[Any] = [*zip(us, values, strict=False), *zip(vs, values[len(us) :], strict=False)]
    products = [float(np.sum(np.real(p * q))) for p, q in pairs]
    size = sum(float(np.sum(np.abs(p * q))) for p, q in pairs)
    assert abs(sum(products[: len(us)]) - sum(products[len(us) :])) <= 1e-12 * size
