"""A plan gives the bits of the interpreter: every op and its gradient, loops, networks; and it never reads memory before writing it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.backends.blas import one_blas_thread
from dagtrain.graph import Graph, Tensor
from dagtrain.ops import Op, Sample
from dagtrain.ops.elementwise import relu
from dagtrain.ops.softmax import log_softmax
from dagtrain.plan import Plan, interpret
from dagtrain.transform import gradient

from ..each import each
from ..ops.cases import CASES, draws

RNG = np.random.default_rng(0)


def same(a: Any, b: Any) -> bool:
    return bool(a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


def check(graph: Graph, values: Sequence[Any], **options: Any) -> Plan:
    """The plan, its pickled copy and a poisoned binding against the interpreter."""
    plan = Plan(graph, **options)
    copy = pickle.loads(pickle.dumps(plan))
    bound = plan.bind()
    with one_blas_thread(), np.errstate(all="ignore"):
        expected = interpret(graph, *values)
        arrays = plan.check(values)
        before = [a.copy() for a in arrays]
        for results in (plan(*values), copy(*values), plan(*values)):
            assert all(same(a, b) for a, b in zip(expected, results, strict=True)), plan.source
        for poison in (0xFF, 0x00):
            for piece in (*bound.buffers, *bound.outputs):
                piece.reshape(-1).view(np.uint8)[...] = poison
            assert all(same(a, b) for a, b in zip(expected, bound(*arrays), strict=True)), plan.source
    assert all(same(a, b) for a, b in zip(before, arrays, strict=True)), "an input was changed"
    return plan


@pytest.mark.slow
@each(CASES)
def test_every_op_and_its_gradient(op: Op, sample: Sample) -> None:
    values = draws(op, sample)
    leaves = [dt.input(f"x{i}", np.shape(v), np.asarray(v).dtype) for i, v in enumerate(values)]
    y = op(*leaves, **sample.attributes)
    inner = [t if t.dtype.kind == "b" else np.positive(t) for t in leaves]  # so that an input's memory is a buffer that may be reused
    outputs = {"y": y, "z": op(*inner, **sample.attributes)}
    if y.dtype.kind == "f" and op.gradient is not None:
        targets = [t for t in leaves if t.dtype.kind == "f"]
        for i, g in enumerate(gradient(np.sum(np.sin(y)), targets, unconnected="zero") if targets else []):
            outputs[f"g{i}"] = g
    check(Graph({str(t.name): t for t in leaves}, outputs), values)


def recurrent(w: Tensor, h0: Tensor, xs: Tensor, reverse: bool = False) -> Tensor:
    carry, ys = dt.scan(lambda h, x: (np.tanh(h @ w + x),) * 2, h0, xs, reverse=reverse)
    return np.sum(ys**2) + np.sum(carry)


@pytest.mark.parametrize("reverse", [False, True])
def test_loop_with_first_and_second_derivative(reverse: bool) -> None:
    values = [RNG.normal(size=(3, 3)), RNG.normal(size=3), RNG.normal(size=(5, 3))]
    leaves = [dt.input(n, v.shape, v.dtype) for n, v in zip("whx", values, strict=True)]
    cost = recurrent(*leaves, reverse=reverse)
    first = gradient(cost, leaves)
    second = gradient(sum(np.sum(g * g) for g in first), leaves)
    outputs = {"cost": cost} | {f"g{i}": g for i, g in enumerate([*first, *second])}
    check(Graph({str(t.name): t for t in leaves}, outputs), values)


def test_loop_within_a_loop() -> None:
    def body(carry: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        inner, _ = dt.scan(lambda c, x: (c * 0.5 + x, None), carry, row)
        return inner, inner * inner

    graph = dt.trace(lambda c, rows: dt.scan(body, c, rows), np.zeros(()), np.zeros((4, 3)))
    check(graph, [np.float64(0.3), RNG.normal(size=(4, 3))])


def test_loop_whose_carries_change_places() -> None:
    graph = dt.trace(lambda a, b: dt.scan(lambda c, _: ((c[1], c[0] + c[1]), c[0]), (a, b), length=7), np.zeros(2), np.zeros(2))
    check(graph, [np.array([0.0, 1.0]), np.array([1.0, 3.0])])


def test_network_with_its_gradient() -> None:
    def loss(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return -np.mean(np.take_along_axis(log_softmax(relu(x @ w1 + b1) @ w2 + b2), y[:, None], 1))

    values = [RNG.normal(size=s).astype("f4") for s in ((30, 20), (20,), (20, 10), (10,), (16, 30))]
    graph = dt.trace(dt.value_and_grad(loss, (0, 1, 2, 3)), *values, RNG.integers(0, 10, 16))
    plan = check(graph, [*values, RNG.integers(0, 10, 16)])
    assert plan.memory.needed < 0.8 * plan.memory.intermediates


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.sum(x) * 2,
        lambda x: np.sum(x.T, axis=1),
        lambda x: x @ x.T,
        lambda x: np.sum(x.T + x.T),
        lambda x: np.sum(np.tanh(x.T), axis=0),
        lambda x: (x.T * 2) @ x,
        lambda x: np.sum(np.reshape(x.T, (-1, 3)), axis=0),
        lambda x: np.cumsum(x[:, ::-1], axis=0),
        lambda x: dt.scan(lambda c, row: (c + np.sum(row), row * 2), np.float32(0), x.T),
    ],
)
def test_results_depend_on_values_alone_and_not_on_the_layout_of_the_input(function: Any, layout: str) -> None:
    values = RNG.normal(size=(301, 402)).astype("f4")
    array = {"C": values, "F": np.asfortranarray(values), "strided": np.repeat(values, 2, axis=1)[:, ::2]}[layout]
    graph = dt.trace(function, values)
    with one_blas_thread():
        expected = interpret(graph, values)
        assert all(same(a, b) for a, b in zip(expected, interpret(graph, array), strict=True))
        assert all(same(a, b) for a, b in zip(expected, Plan(graph)(array), strict=True))


def test_outputs_that_are_leaves_views_or_each_other() -> None:
    x = dt.input("x", (2, 3), "f8")
    doubled = x * 2
    outputs = {"x": x, "view": x.T, "y": doubled, "again": doubled, "y_view": doubled[::-1], "fixed": dt.array([1.0, 2.0]) * 1}
    outputs["leaf"] = dt.array([3.0, 4.0])
    results = check(Graph({"x": x}, outputs), [RNG.normal(size=(2, 3))])([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert not any(np.shares_memory(a, b) for i, a in enumerate(results) for b in results[:i])


def test_empty_arrays() -> None:
    check(dt.trace(lambda x: (np.sum(x * 2, axis=0), x[:0] + 1), np.zeros((0, 3))), [np.zeros((0, 3))])


def test_a_graph_that_is_written_in_pieces() -> None:
    x, w = dt.input("x", (3,), "f8"), dt.input("w", (3,), "f8")
    y = x
    for _ in range(100):
        y = np.tanh(y * w) + x[::-1]
    graph = Graph({"x": x, "w": w}, {"y": y, "g": gradient(np.sum(y), [w])[0], "view": x.T})
    plan = check(graph, [RNG.normal(size=3), RNG.normal(size=3)], piece=30)
    assert "def run_30(" in plan.source


@pytest.mark.slow
def test_more_than_four_thousand_nodes_are() -> None:
    x = dt.input("x", (), "f8")
    y = x
    for _ in range(4001):
        y = np.sin(y)
    assert "def run_500(" in Plan(Graph({"x": x}, {"y": y})).source
