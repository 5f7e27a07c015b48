"""The named stages: what each adds, that all preserve the values, and their results on graphs of training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import UnknownNameError
from dagtrain.graph import Graph, Tensor
from dagtrain.ops.elementwise import sigmoid
from dagtrain.ops.softmax import log_softmax, softmax
from dagtrain.plan.interpret import interpret
from dagtrain.transform import STAGES, gradient, optimize, stabilise

X = np.array([[800.0, -800.0, 3.0], [1.0, 2.0, -900.0], [-750.0, 0.0, 740.0]])


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes if n.inputs]


def with_gradient(graph: Graph) -> Graph:
    (cost,) = graph.outputs.values()
    leaves = [leaf for leaf in graph.inputs.values() if leaf.dtype.kind == "f"]
    grads = gradient(cost, leaves)
    return Graph(graph.inputs, {"cost": cost, **{f"by_{leaf.name}": g for leaf, g in zip(leaves, grads, strict=True)}})


def user_softmax(x: Any) -> Any:
    return np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)


def user_sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


UNSTABLE: dict[str, Callable[[Any], Any]] = {
    "log of softmax": lambda x: -np.mean(np.log(softmax(x))[:, 0]),
    "log of written softmax": lambda x: -np.mean(np.log(user_softmax(x))[:, 0]),
    "log of softmax with an axis put back": lambda x: -np.mean(np.log(np.exp(x) / np.exp(x).sum(-1)[:, None])[:, 0]),
    "log of shifted softmax": lambda x: -np.mean(np.log(user_softmax(x - np.max(x, -1, keepdims=True)))[:, 0]),
    "log of sum of exponentials": lambda x: np.mean(np.log(np.sum(np.exp(x), -1)) - x[:, 0]),
    "shifted log of sum": lambda x: np.mean(np.max(x, -1) + np.log(np.sum(np.exp(x - np.max(x, -1, keepdims=True)), -1)) - x[:, 0]),
    "softplus": lambda x: np.mean(np.log(1 + np.exp(x))),
    "softplus by log1p": lambda x: np.mean(np.log1p(np.exp(x))),
    "logaddexp": lambda x: np.mean(np.logaddexp(x, 0)),
    "binary cross-entropy": lambda x: -np.mean(np.log(sigmoid(x)) + 0.5 * np.log(1 - sigmoid(x))),
    "binary cross-entropy, all written": lambda x: -np.mean(np.log(user_sigmoid(x)) + 0.5 * np.log(1 - user_sigmoid(x))),
    "written sigmoid": lambda x: np.mean(user_sigmoid(x)),
    "written softmax": lambda x: np.mean(user_softmax(x)[:, 0]),
}
RIGHT: dict[str, Callable[[Any], Any]] = {
    "log of softmax": lambda x: -np.mean(x[:, 0] - np.logaddexp.reduce(x, 1)),
    "softplus": lambda x: np.mean(np.logaddexp(x, 0)),
    "binary cross-entropy": lambda x: np.mean(np.logaddexp(-x, 0) + 0.5 * np.logaddexp(x, 0)),
}


@pytest.mark.parametrize("name", UNSTABLE)
def test_value_and_gradient_are_finite_far_out(name: str) -> None:
    graph = dt.trace(UNSTABLE[name], X)
    before = interpret(optimize(with_gradient(stabilise(graph))), X)
    assert all(np.isfinite(v).all() for v in before)
    after = interpret(optimize(with_gradient(graph)), X)
    for first, second in zip(before, after, strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", UNSTABLE)
def test_stable_form_agrees_with_the_plain_one_where_that_works(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3))
    graph = dt.trace(UNSTABLE[name], x)
    plain = interpret(with_gradient(graph), x)
    for stable in (with_gradient(stabilise(graph)), optimize(with_gradient(graph)), optimize(with_gradient(stabilise(graph)))):
        for first, second in zip(plain, interpret(stable, x), strict=True):
            np.testing.assert_allclose(second, first, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", RIGHT)
def test_stable_value_is_right_for_large_arguments(name: str) -> None:
    (value,) = interpret(stabilise(dt.trace(UNSTABLE[name], X)), X)
    np.testing.assert_allclose(value, RIGHT[name](X), rtol=1e-14)


def test_plain_form_fails_for_large_arguments() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (value,) = interpret(dt.trace(UNSTABLE["log of written softmax"], X), X)
    assert not np.isfinite(value)


def test_stabilise_keeps_targets_of_differentiation() -> None:
    x = dt.input("x", (2, 3), np.float64)
    inner = np.exp(x)
    graph = stabilise(Graph.of(np.log(np.sum(inner))), keep=[inner])
    assert any(node is inner for node in graph.nodes)
    assert "logsumexp" in ops(stabilise(Graph.of(np.log(np.sum(inner)))))


def cross_entropy(params: dict[str, Any], x: Any, y: Any) -> Any:
    h = np.maximum(x @ params["w1"] + params["b1"], 0)
    z = h @ params["w2"] + params["b2"]
    return -np.mean(np.take_along_axis(log_softmax(z), y[:, None], 1))


def training_graph() -> tuple[Graph, list[Any]]:
    rng = np.random.default_rng(0)
    shapes = {"w1": (6, 5), "b1": (5,), "w2": (5, 4), "b2": (4,)}
    params = {k: rng.normal(size=s).astype("f4") for k, s in shapes.items()}
    x, y = rng.normal(size=(8, 6)).astype("f4"), rng.integers(0, 4, 8)
    return with_gradient(dt.trace(cross_entropy, params, x, y)), [*params.values(), x, y]


def test_gradient_of_cross_entropy_is_short() -> None:
    graph, values = training_graph()
    graph = graph.select(*(name for name in graph.outputs if name != "by_x"))
    short = optimize(graph)
    computing = [op for op in ops(short) if op not in ("transpose", "reshape", "broadcast_to")]
    # Forward: 2 matmul, 2 add, maximum, log_softmax, take, mean, negative.
    # Backward: place, exp, scale, subtract; 3 matmul, 2 sums, maximum_mask, multiply.
    assert len(computing) == 20, str(short)
    for old, new in zip(interpret(graph, *values), interpret(short, *values), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-7)


def test_gradient_of_squares_is_short() -> None:
    graph = with_gradient(
        dt.trace(lambda w, x, t: np.mean((x @ w - t) ** 2), np.zeros((4, 3), "f4"), np.zeros((8, 4), "f4"), np.zeros((8, 3), "f4"))
    )
    graph = optimize(graph.select("cost", "by_w"))
    assert ops(graph) == ["matmul", "subtract", "square", "mean", "transpose", "multiply", "matmul"]


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_keeps_the_values(name: str) -> None:
    graph, values = training_graph()
    staged = optimize(graph, until=name)
    assert list(staged.inputs) == list(graph.inputs)
    assert list(staged.outputs) == list(graph.outputs)
    for old, new in zip(interpret(graph, *values), interpret(staged, *values), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("until", [None, *STAGES])
def test_every_stage_is_idempotent(until: str | None) -> None:
    graph, _ = training_graph()
    once = optimize(graph, until=until)
    assert optimize(once, until=until) is once


def test_each_stage_adds_to_those_before() -> None:
    lengths = [len(optimize(training_graph()[0], until=name)) for name in STAGES]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[1] > lengths[2]


def test_unknown_stage_names_the_stages() -> None:
    with pytest.raises(UnknownNameError, match=r"'simplfy'.*Did you mean 'simplify'.*fold, merge, prune"):
        optimize(dt.trace(np.sin, 1.0), until="simplfy")


def test_approximate_rules_apply_on_request_only() -> None:
    graph = dt.trace(lambda x: x * 0.0 + np.exp(np.log(x)), np.zeros(2))
    assert ops(optimize(graph)) == ["multiply", "log", "exp", "add"]
    assert ops(optimize(graph, approximate=True)) == []


def test_nan_survives_multiplication_by_zero() -> None:
    (value,) = interpret(optimize(dt.trace(lambda x: x * 0.0, np.zeros(2))), [np.nan, 1.0])
    assert np.isnan(value[0])
    assert value[1] == 0


def test_minus_zero_survives_addition_of_minus_zero_alone() -> None:
    plus, minus = optimize(dt.trace(lambda x: x + 0.0, np.zeros(1))), optimize(dt.trace(lambda x: x + -0.0, np.zeros(1)))
    assert not np.signbit(interpret(plus, [-0.0])[0][0])
    assert np.signbit(interpret(minus, [-0.0])[0][0])
    assert ops(plus) == ["add"]
    assert ops(minus) == []


def test_tie_of_maximum_keeps_its_derivative() -> None:
    graph = optimize(with_gradient(dt.trace(lambda x: np.sum(np.maximum(x, 0)), np.zeros(3))))
    np.testing.assert_array_equal(interpret(graph, [-1.0, 0.0, 2.0])[1], [0.0, 0.5, 1.0])


def test_mirrored_sums_are_one() -> None:
    def program(x: Tensor, y: Tensor) -> Any:
        return np.sin(x + y), np.sin(y + x), x - y, y - x

    graph = optimize(dt.trace(program, np.zeros(2), np.zeros(2)))
    first, second, third, fourth = graph.outputs.values()
    assert first is second
    assert third is not fourth
