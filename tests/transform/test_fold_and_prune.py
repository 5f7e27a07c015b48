"""Constants computed beforehand, and loops without unused outputs, carries and inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

import dagtrain as dt
from dagtrain.graph import Graph, Tensor, constant
from dagtrain.ops import part
from dagtrain.ops.random import key, uniform
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient, optimize
from dagtrain.transform.fold import LARGEST_FOLD, fold
from dagtrain.transform.prune import prune


def folded(tensor: Tensor) -> Tensor:
    return fold(tensor, lambda node: node)


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes if n.inputs]


def test_arithmetic_of_constants_is_folded() -> None:
    graph = optimize(dt.trace(lambda x: x + (constant(2.0) * 3 - 1), np.zeros(2)))
    assert ops(graph) == ["add"]
    assert interpret(graph, [0.0, 1.0])[0].tolist() == [5.0, 6.0]


def test_folded_constant_keeps_dtype_and_shape() -> None:
    new = folded(constant(np.ones((2, 1), "f4")) + constant(np.ones((1, 3), "f4")))
    assert new.op == "constant"
    assert new.spec == dt.Spec((2, 3), np.dtype("f4"))


def test_random_numbers_are_never_folded() -> None:
    graph = optimize(Graph.of(uniform(key(1), (3,)) + 0.5))
    assert "random_uniform" in ops(graph)


def test_functions_that_machines_round_differently_are_not_folded() -> None:
    assert ops(optimize(Graph.of(np.exp(constant(1.0))))) == ["exp"]


def test_arrays_are_not_folded() -> None:
    assert ops(optimize(Graph.of(dt.array(2.0) * 3))) == ["multiply"]


def test_large_results_are_not_folded() -> None:
    large = constant(np.zeros(LARGEST_FOLD // 8 + 1)) + 1
    assert folded(large) is large
    assert ops(optimize(Graph.of(np.sin(np.broadcast_to(constant(1.0), (1000, 1000)))))) == ["broadcast_to", "sin"]


def test_moving_a_large_constant_is_folded() -> None:
    large = constant(np.arange(2.0 * LARGEST_FOLD).reshape(2, -1)).T
    assert folded(large).op == "constant"


def test_positions_out_of_bounds_stay_an_error_of_the_run() -> None:
    wrong = np.take(constant(np.zeros(3)), constant(np.array([5])))
    assert folded(wrong) is wrong


def test_division_by_zero_is_folded_in_silence() -> None:
    assert np.isinf(folded(constant(1.0) / constant(0.0)).value)


# ---- loops


def scan_of(graph: Graph) -> Tensor:
    (node,) = [n for n in graph.nodes if n.op == "scan"]
    return node


def same_values(first: Graph, second: Graph, *values: Any) -> None:
    for a, b in zip(interpret(first, *values), interpret(second, *values), strict=True):
        np.testing.assert_array_equal(a, b)


def test_unread_output_of_a_loop_is_pruned() -> None:
    def program(xs: Tensor) -> Tensor:
        _, (a, _b) = dt.scan(lambda c, x: (c + x, (np.sin(c), np.cos(x))), np.float64(0), xs)
        return a

    graph = dt.trace(program, np.zeros(4))
    small = prune(graph)
    assert ops(scan_of(small).attribute("body")) == ["add", "sin"]
    same_values(graph, small, np.arange(4.0))


def test_carry_that_only_reads_itself_is_pruned() -> None:
    def program(xs: Tensor, zs: Tensor) -> Tensor:
        (a, _b), _ = dt.scan(lambda c, x: ((c[0] + x[0], c[1] * x[1]), None), (np.float64(0), np.float64(1)), (xs, zs))
        return a

    graph = dt.trace(program, np.zeros(4), np.zeros(4))
    small = prune(graph)
    assert len(scan_of(small).inputs) == 2
    same_values(graph, small, np.arange(4.0), np.ones(4))


def test_carry_that_another_carry_reads_stays() -> None:
    def program(xs: Tensor) -> Tensor:
        (a, _b), _ = dt.scan(lambda c, x: ((c[0] + c[1], c[1] * x), None), (np.float64(0), np.float64(1)), xs)
        return a

    graph = dt.trace(program, np.zeros(4))
    assert prune(graph) is graph


def test_unread_input_of_a_loop_is_pruned() -> None:
    def program(xs: Tensor, zs: Tensor) -> Tensor:
        last, _ = dt.scan(lambda c, x: (c + x[0], x[1]), np.float64(0), (xs, zs))
        return last

    graph = dt.trace(program, np.zeros(4), np.zeros(4))
    small = prune(graph)
    assert len(scan_of(small).inputs) == 2
    assert list(small.inputs) == ["xs", "zs"]
    same_values(graph, small, np.arange(4.0), np.ones(4))


def test_gradient_by_weights_does_not_compute_the_one_by_sequences() -> None:
    def program(w: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        last, _ = dt.scan(lambda h, x: (np.tanh(h @ w + x), None), np.zeros(3), xs)
        cost = np.sum(last**2)
        return cost, gradient(cost, [w])[0]

    graph = dt.trace(program, np.zeros((3, 3)), np.zeros((5, 3)))
    small = optimize(graph)
    rng = np.random.default_rng(0)
    same_values(graph, prune(graph), rng.normal(size=(3, 3)), rng.normal(size=(5, 3)))
    parts = [len(n.spec.parts) for n in small.nodes if n.op == "scan"]
    before = [len(n.spec.parts) for n in graph.nodes if n.op == "scan"]
    assert sum(parts) < sum(before)
    assert optimize(small) is small


def test_only_a_gradient_stores_the_carries_at_the_start_of_each_step() -> None:
    def program(w: Tensor, xs: Tensor) -> Tensor:
        last, _ = dt.scan(lambda h, x: (np.tanh(h @ w + x), None), np.zeros(3), xs)
        return gradient(np.sum(last), [w])[0]

    graph = dt.trace(program, np.zeros((3, 3)), np.zeros((5, 3)))
    rng = np.random.default_rng(0)
    same_values(graph, prune(graph), rng.normal(size=(3, 3)), rng.normal(size=(5, 3)))


def test_only_the_carries_at_the_start_of_steps_are_read() -> None:
    def program(xs: Tensor) -> Tensor:
        last, _ = dt.scan(lambda c, x: (c + x, np.sin(x)), np.float64(1), xs)
        return part(last.inputs[0], index=2)

    graph = dt.trace(program, np.zeros(4))
    small = prune(graph)
    assert len(scan_of(small).spec.parts) == 2
    same_values(graph, small, np.arange(4.0))


def test_loop_in_a_loop_is_pruned() -> None:
    def inner(c: Tensor, xs: Tensor) -> tuple[Tensor, Any]:
        last, ys = dt.scan(lambda a, x: (a + x, np.sin(x)), c, xs)
        return last, ys

    def program(xs: Tensor) -> Tensor:
        last, _ = dt.scan(inner, np.float64(0), xs)
        return last

    graph = dt.trace(program, np.zeros((2, 3)))
    small = prune(graph)
    body = scan_of(small).attribute("body")
    assert ops(scan_of(body).attribute("body")) == ["add"]
    same_values(graph, small, np.arange(6.0).reshape(2, 3))


def test_loop_after_a_loop_is_pruned() -> None:
    def program(xs: Tensor) -> Tensor:
        _, first = dt.scan(lambda c, x: (c + x, (c, np.sin(x))), np.float64(0), xs)
        _, second = dt.scan(lambda c, x: (c * x, (c, np.cos(x))), np.float64(1), first[0])
        return second[0]

    graph = dt.trace(program, np.zeros(4))
    small = prune(graph)
    assert [len(n.attribute("body").outputs) for n in small.nodes if n.op == "scan"] == [2, 2]
    same_values(graph, small, np.arange(4.0))
