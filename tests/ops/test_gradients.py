"""Every gradient rule against random directions, to second order, and complex steps; and that these tests detect a small error."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.graph import Graph, Tensor
from dagtrain.ops import OPS, ZERO, Op, Sample
from dagtrain.ops.elementwise import relu, sigmoid, softplus
from dagtrain.ops.softmax import log_softmax
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient

from ..each import each
from .cases import CASES, draws

Function = Callable[..., Tensor]
# Their derivative is zero by definition, not by calculus.
DECREED = {"stop_gradient"}


def has_derivative(op: Op) -> bool:
    return op.gradient is not ZERO and not (op.gradient is None and op.expand is None) and op.name not in DECREED


SMOOTH = [c for c in CASES if has_derivative(c.values[0])]  # type: ignore[arg-type]
FLAT = [c for c in CASES if c.values[0].gradient is ZERO and c.values[0].name not in DECREED]  # type: ignore[attr-defined]
# Their kernels take complex numbers but are not analytic.
NOT_ANALYTIC = {"absolute", "maximum", "minimum", "fmax", "fmin", "where", "cast", "max", "min", "sign", "real", "imag", "conjugate"}
NOT_ANALYTIC |= {"slogdet[0]", "slogdet[1]"}
NOT_ANALYTIC |= {"max_pool[0]", "ctc"}
NOT_ANALYTIC |= {"fft", "ifft", "irfft"}  # (their results are complex as it is, or the real half of a complex transform)


def moved(arrays: Sequence[Any], directions: Sequence[Any], step: Any) -> list[Any]:
    return [a if d is None else a + step * d for a, d in zip(arrays, directions, strict=True)]


def weighed(y: Tensor, rng: np.random.Generator) -> Any:
    """A random sum of the elements; of complex ones, its real part."""
    if y.dtype.kind == "f":
        return np.sum(y * rng.normal(size=y.shape))
    return np.sum(np.real(y * (rng.normal(size=y.shape) + 1j * rng.normal(size=y.shape))))


def check(function: Function, arrays: Sequence[Any], seed: int, orders: int = 2) -> bool:
    """Compare derivatives of sum(weights * function) along a random direction; return whether there was anything to compare."""
    rng = np.random.default_rng(seed)
    leaves = [dt.input(f"x{i}", np.shape(a), np.asarray(a).dtype) for i, a in enumerate(arrays)]
    targets = [leaf for leaf in leaves if leaf.dtype.kind == "f"]
    y = function(*leaves)
    if y.dtype.kind not in "fc" or not targets:
        return False
    cost = weighed(y, rng)
    grads = gradient(cost, targets, unconnected="zero")
    graph = Graph({str(leaf.name): leaf for leaf in leaves}, {"cost": cost, **{f"g{i}": g for i, g in enumerate(grads)}})
    directions = [rng.normal(size=leaf.shape) if leaf.dtype.kind == "f" else None for leaf in leaves]
    along = [d for d in directions if d is not None]
    values = interpret(graph, *arrays)[1:]
    by_rule = sum(float(np.sum(g * d)) for g, d in zip(values, along, strict=True))
    size = sum(float(np.sum(np.abs(g * d))) for g, d in zip(values, along, strict=True))
    costs = graph.select("cost")
    by_differences = 0.0
    for weight, step in ((8.0, 1e-4), (-1.0, 2e-4)):  # of fourth order
        high, low = (float(interpret(costs, *moved(arrays, directions, s))[0]) for s in (step, -step))
        by_differences += weight * (high - low) / (12e-4)
    assert abs(by_rule - by_differences) <= 1e-6 * size + 1e-8, (
        f"order {3 - orders}: {by_rule} by the rule, {by_differences} by differences"
    )
    if orders > 1:

        def first(*inner: Tensor) -> Tensor:
            inner_targets = [t for t in inner if t.dtype.kind == "f"]
            weighted = weighed(function(*inner), np.random.default_rng(seed))
            parts = gradient(weighted, inner_targets, unconnected="zero")
            total: Tensor = sum((np.sum(g * d) for g, d in zip(parts, along, strict=True)), start=dt.array(0.0))
            return total

        check(first, arrays, seed + 1, orders - 1)
    return True


def seed_of(op: Op, sample: Sample) -> int:
    return zlib.crc32(f"{op.name} {sample.attributes}".encode())


@pytest.mark.slow
@each(SMOOTH)
def test_first_and_second_derivatives(op: Op, sample: Sample) -> None:
    orders = 1 if op.gradient is None else 2  # the first derivatives of a derivative are the second ones of its op
    assert check(lambda *inputs: op(*inputs, **sample.attributes), draws(op, sample), seed_of(op, sample), orders)


@each(FLAT)
def test_ops_that_say_zero_are_flat(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    nearby = [a + 1e-9 if np.asarray(a).dtype.kind == "f" else a for a in arrays]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(op.kernel(*nearby, **sample.attributes), op.kernel(*arrays, **sample.attributes))


def takes_complex(op: Op, sample: Sample) -> bool:
    if op.name in NOT_ANALYTIC:
        return False
    try:
        op.kernel(*(a + 0j if np.asarray(a).dtype.kind == "f" else a for a in draws(op, sample)), **sample.attributes)
    except TypeError:
        return False
    return True


ANALYTIC = [c for c in SMOOTH if takes_complex(*c.values)]  # type: ignore[arg-type]


@each(ANALYTIC)
def test_complex_step(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    rng = np.random.default_rng(seed_of(op, sample))
    directions = [rng.normal(size=np.shape(a)) if np.asarray(a).dtype.kind == "f" else None for a in arrays]
    stepped = op.kernel(*moved(arrays, directions, 1e-30j), **sample.attributes)
    weights = rng.normal(size=np.shape(stepped))
    by_step = float(np.sum(weights * np.imag(stepped)) / 1e-30)
    leaves = [dt.input(f"x{i}", np.shape(a), np.asarray(a).dtype) for i, a in enumerate(arrays)]
    cost = np.sum(op(*leaves, **sample.attributes) * weights)
    grads = gradient(cost, [leaf for leaf in leaves if leaf.dtype.kind == "f"], unconnected="zero")
    graph = Graph({str(leaf.name): leaf for leaf in leaves}, {f"g{i}": g for i, g in enumerate(grads)})
    values = interpret(graph, *arrays)
    along = [d for d in directions if d is not None]
    size = sum(float(np.sum(np.abs(g * d))) for g, d in zip(values, along, strict=True))
    assert sum(float(np.sum(g * d)) for g, d in zip(values, along, strict=True)) == pytest.approx(by_step, abs=1e-12 * size + 1e-15)


def test_most_kernels_take_complex_steps() -> None:
    assert len(ANALYTIC) > 0.6 * len(SMOOTH)


# ---- the test of the test


@contextlib.contextmanager
def more_ops() -> Iterator[None]:
    """Remove ops that a test adds to the registry."""
    before = set(OPS)
    try:
        yield
    finally:
        for name in set(OPS) - before:
            del OPS[name]


def planted(op: Op, error: float) -> Op:
    """The op with a gradient that is off by a factor."""
    rule = op.gradient
    assert callable(rule)

    def wrong(g: Tensor, y: Tensor, *inputs: Tensor, **attributes: Any) -> list[Tensor | None]:
        return [None if part is None else part * (1 + error) for part in rule(g, y, *inputs, **attributes)]

    return Op(f"{op.name} off by {error}", op.kernel, op.infer, wrong, op.samples)


@pytest.mark.slow
@each([c for c in SMOOTH if isinstance(c.values[0], Op) and callable(c.values[0].gradient)])
def test_planted_error_of_a_thousandth_is_caught(op: Op, sample: Sample) -> None:
    arrays, seed = draws(op, sample), seed_of(op, sample)
    with more_ops():
        wrong = planted(op, 0.001)
        try:
            check(lambda *inputs: wrong(*inputs, **sample.attributes), arrays, seed)
        except AssertionError:
            return
    # Unless the derivative is zero at this sample, as relu's for negative numbers.
    leaves = [dt.input(f"x{i}", np.shape(a), np.asarray(a).dtype) for i, a in enumerate(arrays)]
    grads = gradient(np.sum(op(*leaves, **sample.attributes)), [leaf for leaf in leaves if leaf.dtype.kind == "f"], unconnected="zero")
    values = interpret(Graph({str(leaf.name): leaf for leaf in leaves}, {f"g{i}": g for i, g in enumerate(grads)}), *arrays)
    assert all((v == 0).all() for v in values)


@more_ops()
def test_planted_error_of_second_order_alone_is_caught() -> None:
    slope = Op("slope of sin, a thousandth off", np.cos, lambda a: a, lambda g, y, a: (-g * np.sin(a) * 1.001,))
    wave = Op("sin with a wrong second derivative", np.sin, lambda a: a, lambda g, y, a: (g * slope(a),))
    x = np.linspace(0.1, 1, 5)
    assert check(wave, [x], 0, orders=1)
    with pytest.raises(AssertionError, match="order 2"):
        check(wave, [x], 0)


# ---- functions of several ops


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


PROGRAMS: dict[str, tuple[Function, list[Any]]] = {
    "network": (
        lambda w, b, x: np.tanh(x @ w + b) ** 2,
        [rng().normal(size=(3, 4)), rng().normal(size=4), rng().normal(size=(5, 3))],
    ),
    "attention": (
        lambda q, k, v: np.exp(log_softmax(np.einsum("bik,bjk->bij", q, k) / 2)) @ v,
        [rng().normal(size=(2, 3, 4)), rng().normal(size=(2, 5, 4)), rng().normal(size=(2, 5, 2))],
    ),
    "layer norm": (
        lambda x: (x - np.mean(x, -1, keepdims=True)) / np.sqrt(np.var(x, -1, keepdims=True) + 1e-5),
        [rng().normal(size=(3, 6))],
    ),
    "gates": (
        lambda x, y: sigmoid(x) * softplus(y) + relu(x - 0.1) * np.where(y > 0, y, 2 * y),
        [rng().normal(size=6), rng().normal(size=6)],
    ),
    "embedding": (lambda table, i: table[i].sum(1) * 2, [rng().normal(size=(7, 3)), np.array([[0, 3, 3], [6, 1, 0]])]),
    "moves": (
        lambda x: np.concatenate([x.T[::-1, 1:], np.stack([x[0], x[1]]).reshape(4, 2)], 1) * np.arange(4.0)[:, None],
        [rng().normal(size=(3, 4))],
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    function, arrays = PROGRAMS[name]
    assert check(function, arrays, 3)
