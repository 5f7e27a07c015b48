"""Gradients by complex numbers, z = x + iy: ∂f/∂x - i ∂f/∂y of a real cost f; so f changes by the real part of gradient times dz."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, NotScalarError
from dagtrain.graph import Graph, spec_of
from dagtrain.ops import ZERO, Op, Sample
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient

from ..each import each
from .cases import CASES, draws

SMOOTH = [c for c in CASES if c.values[0].gradient not in (None, ZERO) and not c.values[1].attributes.get("dtype")]  # type: ignore[attr-defined]
# Their kernels take complex numbers, which they order by the real parts first.
ORDERED = {"max", "min", "maximum", "minimum", "fmax", "fmin", "sort", "top_k", "relu", "relu_gradient"}


def complex_draws(op: Op, sample: Sample) -> list[Any] | None:
    """The sample's arrays with imaginary parts; None if the op does not take them."""
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {sample}".encode()))
    arrays = [a + 0.3j * rng.normal(size=np.shape(a)) if np.asarray(a).dtype.kind == "f" else a for a in draws(op, sample)]
    try:
        op.infer(*map(spec_of, arrays), **sample.attributes)
        result = op.kernel(*arrays, **sample.attributes)
    except (TypeError, DTypeError):
        return None
    return arrays if not isinstance(result, tuple) and np.asarray(result).dtype.kind in "fc" else None


CASES_OF_COMPLEX = [
    (op, sample, arrays)
    for op, sample in (c.values for c in SMOOTH)
    if op.name not in ORDERED and (arrays := complex_draws(op, sample)) is not None and any(np.iscomplexobj(a) for a in arrays)  # type: ignore[attr-defined, arg-type]
]


@each(CASES_OF_COMPLEX)
def test_the_gradient_is_the_change_of_a_real_cost(op: Op, sample: Sample, arrays: list[Any]) -> None:
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {sample}".encode()))
    leaves = [dt.input(f"x{i}", np.shape(a), np.asarray(a).dtype) for i, a in enumerate(arrays)]
    targets = [leaf for leaf in leaves if leaf.dtype.kind == "c"]
    y = op(*leaves, **sample.attributes)
    cost = np.sum(np.real(y * (rng.normal(size=y.shape) + 1j * rng.normal(size=y.shape))))
    grads = gradient(cost, targets, unconnected="zero")
    assert [g.spec for g in grads] == [t.spec for t in targets]
    along = [rng.normal(size=a.shape) + 1j * rng.normal(size=a.shape) if np.iscomplexobj(a) else None for a in map(np.asarray, arrays)]
    graph = Graph({str(leaf.name): leaf for leaf in leaves}, {"cost": cost, **{f"g{i}": g for i, g in enumerate(grads)}})
    directions = [d for d in along if d is not None]
    by_rule = sum(float(np.sum(np.real(g * d))) for g, d in zip(interpret(graph, *arrays)[1:], directions, strict=True))
    costs, by_differences = graph.select("cost"), 0.0
    for weight, step in ((8.0, 1e-4), (-1.0, 2e-4)):
        high, low = (
            float(interpret(costs, *(a if d is None else a + s * d for a, d in zip(arrays, along, strict=True)))[0]) for s in (step, -step)
        )
        by_differences += weight * (high - low) / 12e-4
    assert by_rule == pytest.approx(by_differences, rel=1e-6, abs=1e-7)


def test_most_ops_take_complex_numbers() -> None:
    assert len({op.name for op, _, _ in CASES_OF_COMPLEX}) > 60


Z = np.array([1 + 2j, -0.5 + 0.1j, 0.3 - 2j])
M = np.array([[1, 2j, 0], [1j, 1 - 1j, 3], [0.5, 0, 2]])
KNOWN: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda z: np.sum(np.abs(z) ** 2), 2 * np.conj(Z)),
    (lambda z: np.sum(np.abs(z)), np.conj(Z) / np.abs(Z)),
    (lambda z: np.sum(np.real(z) ** 2 - np.imag(z)), 2 * Z.real + 1j),
    (lambda z: np.real(np.sum(z**3)), 3 * Z**2),
    (lambda z: np.real(np.vdot(z, M @ z)), np.conj(M @ Z) + np.conj(Z) @ M),
    (np.var, 2 / 3 * np.conj(Z - Z.mean())),
    (np.linalg.norm, np.conj(Z) / np.linalg.norm(Z)),
    (lambda z: np.sum(np.angle(z)), -1j / Z),
]


@pytest.mark.parametrize(("cost", "right"), KNOWN)
def test_known_gradients_also_of_real_arguments_and_of_second_order(cost: Any, right: Any) -> None:
    np.testing.assert_allclose(dt.grad(cost)(Z), right, rtol=1e-12, atol=1e-14)
    g = dt.grad(lambda x: cost(x * Z))(np.ones(3))
    assert g.dtype == np.float64
    np.testing.assert_allclose(g, np.real(right * Z), rtol=1e-12, atol=1e-14)
    v = np.array([0.3j, 1, -1 + 1j])
    # A gradient is linear in its own change; here it changes along v.
    change = dt.jvp(dt.grad(cost, unconnected="zero"), (Z,), (v,))[1]
    near = [dt.grad(cost)(Z + s * v) for s in (1e-5, -1e-5)]
    np.testing.assert_allclose(change, (near[0] - near[1]) / 2e-5, rtol=1e-6, atol=1e-8)


def test_complex_numbers_in_loops_and_many_rows_and_at_zero() -> None:
    loop = dt.grad(lambda z: np.sum(dt.scan(lambda c, u: (c * u, np.abs(c)), z, np.array([1j, 2 + 1j]))[1]))
    np.testing.assert_allclose(loop(1 + 2j), 2 * (1 - 2j) / np.sqrt(5))
    np.testing.assert_allclose(dt.vmap(dt.grad(lambda z: np.abs(z) ** 2))(Z), 2 * np.conj(Z))
    assert dt.grad(np.abs)(0j) == 0
    np.testing.assert_allclose(dt.jacobian(np.abs)(Z), np.diag(np.conj(Z) / np.abs(Z)))
    with pytest.raises(NotScalarError, match=r"is complex128. Take np.real"):
        dt.grad(np.sum)(Z)
