"""`recompute` and `custom_gradient`: what differentiation finds, and that values stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, NoGradientError, ShapeError
from dagtrain.plan import interpret

X = np.random.default_rng(0).normal(size=(64, 32))
W = np.random.default_rng(1).normal(size=(32, 32)) / 6


def network(wrap: Any) -> Any:
    """A deep network with noise, in parts of four layers; `wrap` is put around each part."""

    def part(x: Any, w: Any, key: Any) -> Any:
        for i in range(4):
            x = np.tanh(x @ w) * dt.bernoulli(dt.fold_in(key, i), 0.9, x.shape)
        return x

    def cost(x: Any, w: Any) -> Any:
        for i in range(8):
            x = wrap(part)(x, w, dt.fold_in(dt.key(3), i))
        return np.mean(np.log(1 + np.exp(x)))

    return dt.value_and_grad(cost, argnums=(0, 1))


def test_recompute_keeps_the_bits_and_needs_less_memory() -> None:
    plain, again = network(lambda f: f), network(dt.recompute)
    (cost, grads), (same_cost, same_grads) = plain(X, W), again(X, W)
    assert cost == same_cost
    assert all(a.tobytes() == b.tobytes() for a, b in zip(grads, same_grads, strict=True))
    assert again.plan.memory.needed < 0.55 * plain.plan.memory.needed
    for results in (interpret(again.graph, X, W), again.graph.plan(optimize=False)(X, W)):
        np.testing.assert_allclose(results[1], grads[0], rtol=1e-12)


def test_recompute_works_with_closures_nests_and_second_derivatives() -> None:
    def cost(p: Any) -> Any:
        block = dt.recompute(lambda q: {"a": np.sin(q["a"]) * p["b"], "b": q["b"] ** 2})
        out = block(block(p))
        return np.sum(out["a"] * out["b"])

    assert dt.gradcheck(cost, {"a": np.array([0.3, -1.0]), "b": np.array([0.5, 2.0])})
    assert dt.recompute(np.sin)(0.5) == np.sin(0.5)


def test_recompute_works_in_loops_and_as_tasks() -> None:
    def cost(x: Any) -> Any:
        last, _ = dt.scan(lambda c, u: (dt.recompute(lambda c: np.tanh(np.sin(c) * u))(c), None), x[0], x)
        return np.sum(last)

    graph = dt.trace(dt.grad(cost), X)
    (right,) = interpret(graph, X)
    np.testing.assert_array_equal(graph.to_delayed(X, granularity="op").compute(scheduler="sync"), right)
    np.testing.assert_allclose(dt.grad(cost)(X), right, rtol=1e-12)
    assert dt.gradcheck(cost, X[:4, :3])


@dt.custom_gradient
def softplus(x: Any) -> Any:
    e = np.exp(x)
    return np.log(1 + e), lambda g: g * (1 - 1 / (1 + e))


def test_a_custom_gradient_is_used_and_can_be_differentiated() -> None:
    assert dt.grad(softplus)(1000.0) == 1
    s = 1 / (1 + np.exp(-0.5))
    np.testing.assert_allclose([dt.grad(softplus)(0.5), dt.grad(dt.grad(softplus))(0.5)], [s, s * (1 - s)], rtol=1e-12)
    assert softplus(0.0) == np.log(2)


def test_a_custom_gradient_takes_nests_and_none() -> None:
    @dt.custom_gradient
    def f(p: Any, n: Any) -> Any:
        return {"y": p["a"] * n, "z": p["b"] + 1.0}, lambda g: ({"a": g["y"] * 10.0, "b": np.clip(g["z"], -1, 1)}, None)

    def cost(p: Any) -> Any:
        out = f(p, 3)
        return np.sum(out["y"]) + 5 * np.sum(out["z"])

    value, grads = dt.value_and_grad(cost)({"a": np.ones(2), "b": np.zeros(2)})
    assert value == 16
    assert grads["a"].tolist() == [10, 10]
    assert grads["b"].tolist() == [1, 1]
    only = dt.grad(lambda p: np.sum(f(p, 3)["y"]))({"a": np.ones(2), "b": np.zeros(2)})
    assert only["b"].tolist() == [0, 0]


def test_a_custom_gradient_does_not_answer_for_what_it_closes_over() -> None:
    scale, x = dt.array(2.0), dt.array(3.0)
    f = dt.custom_gradient(lambda x: (x * scale, lambda g: g * scale))
    assert dt.grad(f(x), x).compute() == 2
    with pytest.raises(NoGradientError, match=r"'closed_over'.*make it an argument of that function"):
        dt.grad(f(x), scale)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: x, ArgumentError, "returns a pair, its result and the function of the cotangent"),
        (lambda x: (x, lambda g: (g, g)), ArgumentError, "a cotangent for each of the 1 arguments, got 2"),
        (lambda x: (x, lambda g: g[1:]), ShapeError, r"the cotangent of argument 0 has shape \(1,\), the argument \(2,\)"),
        (lambda x: (x, lambda g: {"a": g}), ShapeError, r"nested as \{'a': \*\}, the argument as \*"),
    ],
)
def test_mistakes_in_custom_gradients_are_named(function: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dt.trace(dt.custom_gradient(function), np.zeros(2))


def test_a_finished_plan_holds_nothing_of_custom_gradients() -> None:
    plan = dt.trace(dt.grad(lambda x: np.sum(softplus(x) + dt.recompute(np.sin)(x))), X).plan()
    assert "recompute" not in plan.source
    assert "custom_gradient" not in plan.source
    assert plan(X)[0].shape == X.shape
