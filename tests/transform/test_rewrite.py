"""The matcher: where rules apply and where not, loops, kept nodes, origins, and time linear in the graph."""

from __future__ import annotations

import time

import numpy as np

import dagtrain as dt
from dagtrain.graph import Graph, Tensor
from dagtrain.plan.interpret import interpret
from dagtrain.transform import EXACT, Rule, RuleSet, simplify

DOUBLE_MINUS = [Rule("--x", "x", EXACT)]


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes if n.inputs]


def twice_negative(x: Tensor) -> Tensor:
    return np.negative(np.negative(x))


def apply(rule: Rule, tensor: Tensor) -> Tensor:
    return RuleSet([rule]).apply(tensor, lambda node: node)


def test_rule_is_found_in_the_middle_of_a_graph() -> None:
    graph = dt.trace(lambda x: np.sin(twice_negative(np.cos(x))), np.zeros(2))
    assert ops(simplify(graph, DOUBLE_MINUS)) == ["cos", "sin"]


def test_result_of_a_rule_is_rewritten_too() -> None:
    rules = [Rule("sin(x)", "-cos(-x)", EXACT), *DOUBLE_MINUS]
    graph = dt.trace(lambda x: np.negative(np.sin(np.negative(x))), np.zeros(2))
    assert ops(simplify(graph, rules)) == ["cos"]


def test_repeated_letter_is_the_same_tensor() -> None:
    x, y = dt.input("x", (2,)), dt.input("y", (2,))
    rule = Rule("x * x", "square(x)", EXACT)
    assert apply(rule, x * x).op == "square"
    assert apply(rule, x * y).op == "multiply"


def test_commutative_operands_match_in_either_order() -> None:
    x = dt.input("x", (2,))
    rule = Rule("x * 1", "x", EXACT)
    assert apply(rule, x * 1) is x
    assert apply(rule, 1 * x) is x


def test_subtraction_does_not_commute() -> None:
    x = dt.input("x", (2,))
    assert apply(Rule("x - 0", "x", EXACT), 0 - x).op == "subtract"


def test_rewrite_that_would_change_the_shape_is_not_done() -> None:
    x = dt.input("x", (2,))
    wider = x * np.ones((3, 1), np.float32)
    assert apply(Rule("x * 1", "x", EXACT), wider) is wider


def test_rewrite_that_would_change_the_dtype_is_not_done() -> None:
    x = dt.input("x", (2,), np.float32)
    wider = x * np.float64(1)
    assert wider.dtype == np.float64
    assert apply(Rule("x * 1", "x", EXACT), wider) is wider


def test_wrapping_integers_are_not_carried_to_another_width() -> None:
    # -y wraps around at 8 bits, so x + (-y) is not x - y at 16.
    x, y = dt.input("x", (2,), np.int16), dt.input("y", (2,), np.uint8)
    tensor = x + (-y)
    assert apply(Rule("x + (-y)", "x - y", EXACT), tensor) is tensor


def test_result_undefined_for_the_dtype_is_not_done() -> None:
    x, y = dt.input("x", (2,), bool), dt.input("y", (2,), bool)
    tensor = x + y
    assert apply(Rule("x + y", "x - y", EXACT), tensor) is tensor


def test_attributes_bound_together_must_be_equal() -> None:
    x = dt.input("x", (2, 3))
    rule = Rule("flip(flip(x, **a), **a)", "x", EXACT)
    assert apply(rule, np.flip(np.flip(x, 0), 0)) is x
    assert apply(rule, np.flip(np.flip(x, 0), 1)) is not x


def test_array_leaves_are_no_constants() -> None:
    x, one = dt.input("x", (2,)), dt.array(np.float32(1))
    assert apply(Rule("x * 1", "x", EXACT), x * one).op == "multiply"


def test_kept_nodes_survive() -> None:
    x = dt.input("x", (2,))
    inner = twice_negative(np.sin(x))
    graph = Graph.of(twice_negative(np.cos(inner)))
    rewritten = simplify(graph, DOUBLE_MINUS, keep=[inner])
    assert any(node is inner for node in rewritten.nodes)
    assert ops(rewritten) == ["sin", "negative", "negative", "cos"]


def test_bodies_of_loops_are_rewritten() -> None:
    def program(c: Tensor, xs: Tensor) -> Tensor:
        last, _ = dt.scan(lambda c, x: (twice_negative(c) * x, None), c, xs)
        return last

    graph = dt.trace(program, np.zeros(2), np.zeros((3, 2)))
    new = simplify(graph, DOUBLE_MINUS)
    (body,) = [n.attribute("body") for n in new.nodes if n.op == "scan"]
    assert ops(body) == ["multiply"]
    values = np.ones(2), np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(interpret(new, *values)[0], interpret(graph, *values)[0])


def test_new_nodes_point_at_the_line_they_derive_from() -> None:
    with dt.scope("layer"):
        tensor = np.log(np.sum(np.exp(dt.input("x", (2, 3))), axis=1))
    (new,) = simplify(Graph.of(tensor), [Rule("log(sum(exp(x), **a))", "logsumexp(x, **a)", "stable")]).outputs.values()
    assert new.op == "logsumexp"
    assert new.origin == tensor.origin


def test_unchanged_graph_is_the_same_object() -> None:
    graph = dt.trace(lambda x: np.sin(x) + 1, np.zeros(2))
    assert simplify(graph, DOUBLE_MINUS) is graph


def test_rule_that_undoes_itself_ends() -> None:
    rules = [Rule("sin(x)", "cos(x)", EXACT), Rule("cos(x)", "sin(x)", EXACT)]
    assert len(ops(simplify(dt.trace(np.sin, np.zeros(2)), rules))) == 1


def test_rule_that_grows_ends() -> None:
    rules = [Rule("sin(x)", "sin(sin(x))", EXACT)]
    assert simplify(dt.trace(np.sin, np.zeros(2)), rules).nodes


def test_long_chain_that_collapses(thorough: bool) -> None:
    x = dt.input("x", (2,))
    y = x
    for _ in range(100_000 if thorough else 4_000):
        y = -y
    started = time.perf_counter()
    assert list(simplify(Graph.of(y), DOUBLE_MINUS).outputs.values()) == [x]
    assert time.perf_counter() - started < 30
