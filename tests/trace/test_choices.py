"""`cond`, `switch` and `while_loop`: values, gradients, what they refuse, and that every executor agrees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, ExecutionError, NoGradientError, ShapeError
from dagtrain.graph import Graph, bodies
from dagtrain.plan import interpret
from dagtrain.transform import optimize, verify

X = np.array([0.5, -1.0, 2.0])


def everywhere(graph: Graph, *values: Any) -> tuple[Any, ...]:
    """The outputs by the interpreter, which plans with and without rewrites and tasks give too."""
    expected = interpret(verify(graph), *values)
    new = verify(optimize(graph))
    for results in (graph.plan(optimize=False)(*values), new.plan()(*values), interpret(new, *values)):
        for result, right in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, right)
    delayed = graph.to_delayed(*values)
    for result, right in zip([delayed] if len(expected) == 1 else delayed, expected, strict=True):
        np.testing.assert_array_equal(result.compute(scheduler="sync"), right)
    return expected


@pytest.mark.parametrize(("x", "value", "slope"), [(X, np.sin(X), np.cos(X)), (-X, 3 * -X, np.full(3, 3.0))])
def test_cond_computes_and_differentiates_the_chosen_function(x: Any, value: Any, slope: Any) -> None:
    def chosen(x: Any) -> Any:
        return dt.cond(np.sum(x) > 0, np.sin, lambda a: a * 3, x)

    np.testing.assert_array_equal(everywhere(dt.trace(chosen, x), x)[0], value)
    np.testing.assert_allclose(everywhere(dt.trace(dt.grad(lambda x: np.sum(chosen(x))), x), x)[0], slope, rtol=1e-15)
    assert dt.gradcheck(lambda x: np.sum(chosen(x) ** 2), x)


def test_only_the_chosen_branch_is_computed() -> None:
    f = dt.compile(lambda i, x: dt.switch(i, [lambda: x, lambda: dt.while_loop(lambda c: np.all(c > -1), lambda c: c, x)]))
    np.testing.assert_array_equal(f(0, X + 2), X + 2)  # the other branch has no end


def test_switch_takes_nests_from_inside_and_outside() -> None:
    def f(i: Any, x: Any, w: Any) -> Any:
        branches = [lambda a, b: {"u": a * w, "v": (b, 0)}, lambda a, b: {"u": b, "v": (a + w, 1)}, lambda a, b: {"u": a, "v": (x, 2.5)}]
        out = dt.switch(i, branches, x, x * 2)
        return np.sum(out["u"] * out["v"][0] * np.array([1.0, 2.0, 3.0])) * out["v"][1]

    w = 0.7
    weights = np.array([1.0, 2.0, 3.0])
    for i, right in enumerate((0.0, np.sum(2 * X * (X + w) * weights), 2.5 * np.sum(X * X * weights))):
        np.testing.assert_allclose(everywhere(dt.trace(f, i, X, w), i, X, w)[0], right, rtol=1e-15)
        assert dt.gradcheck(lambda x, w, i=i: f(i, x, w) + 0 * w, X, w, argnums=(0, 1))
    with pytest.raises(ExecutionError, match=r"the index is 3, and there are 3 branches, counted from 0"):
        dt.compile(f)(3, X, w)


def test_while_loop_repeats_and_reads_from_outside() -> None:
    def collatz(n: Any, most: Any) -> Any:
        def step(carry: Any) -> Any:
            value, steps = carry
            return dt.cond(value % 2 == 0, lambda: value // 2, lambda: 3 * value + 1), steps + 1

        return dt.while_loop(lambda c: (c[0] != 1) & (c[1] < most), step, (n, 0))

    for n, most, right in ((27, 1000, (1, 111)), (27, 5, (31, 5)), (1, 5, (1, 0))):
        assert [int(v) for v in everywhere(dt.trace(collatz, n, most), n, most)] == list(right)


def test_a_while_loop_has_no_gradient_and_says_what_has() -> None:
    def cost(x: Any) -> Any:
        return dt.while_loop(lambda c: c < 10, lambda c: c * 2, x)

    with pytest.raises(NoGradientError, match=r"'while'.*use dt\.scan over the most steps"):
        dt.grad(cost)(3.0)
    assert dt.grad(lambda x: x * dt.stop_gradient(cost(x)))(3.0) == 12


def test_unused_outputs_and_carries_are_not_computed() -> None:
    def f(x: Any, y: Any) -> Any:
        one, _ = dt.cond(np.sum(x) > 0, lambda a, b: (np.sin(a), np.exp(b)), lambda a, b: (a, np.tan(b)), x, y)
        last, _ = dt.while_loop(lambda c: np.sum(c[0]) < 9, lambda c: (c[0] * 2, np.exp(c[1])), (np.abs(x), y))
        return one + last

    graph = optimize(dt.trace(f, X, X))
    inner = [n.op for node in graph.nodes for graphs in bodies(node).values() for g in graphs for n in g.nodes]
    assert not {"exp", "tan"} & set(inner)
    assert all(len(node.spec.parts) == 1 for node in graph.nodes if bodies(node))
    everywhere(dt.trace(f, X, X), X, X)


def test_python_numbers_take_the_dtype_of_the_other_branch() -> None:
    x = np.float32(2)
    assert dt.trace(lambda x: dt.cond(x > 0, lambda: x, lambda: 0.0), x).outputs["output"].dtype == np.float32
    assert dt.trace(lambda x: dt.while_loop(lambda c: c < 3, lambda c: c + 0.5, 0), x).outputs["output"].dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: dt.cond(x > 0, np.sin, np.cos, x), ArgumentError, r"one boolean, got bool\[3\].*np\.where"),
        (lambda x: dt.cond(np.sum(x), np.sin, np.cos, x), ArgumentError, r"one boolean, got float64"),
        (lambda x: dt.switch(np.sum(x), [np.sin], x), ArgumentError, r"one whole number, got float64"),
        (lambda x: dt.switch(0, [], x), ArgumentError, r"with at least one"),
        (lambda x: dt.switch(0, np.sin, x), ArgumentError, r"list of functions"),
        (lambda x: dt.cond(True, lambda: x, lambda: x[1:]), ShapeError, r"result has shape \(2,\) from if_false and \(3,\) from if_true"),
        (lambda x: dt.cond(True, lambda: (x, x), lambda: x), ShapeError, r"if_false returns \* and if_true returns \(\*, \*\)"),
        (lambda x: dt.cond(True, lambda: None, lambda: None), ArgumentError, r"return no tensor"),
        (lambda x: dt.while_loop(lambda c: c > 0, lambda c: c, x), ArgumentError, r"one boolean, got bool\[3\]: compare, and use np\.all"),
        (lambda x: dt.while_loop(lambda c: True, lambda c: c[1:], x), ShapeError, r"body of while_loop takes carry of shape \(3,\)"),
        (lambda x: dt.while_loop(lambda c: True, lambda c: (c, c), x), ShapeError, r"carry of structure \* and returns \(\*, \*\)"),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dt.trace(call, X)


def test_what_depends_on_values_names_what_to_write_and_the_line() -> None:
    truth = r"test_choices\.py:\d+.*np\.where\(p.*dt\.cond\(p.*dt\.while_loop\(.*dt\.scan\(.*p & q"
    number = r"test_choices\.py:\d+.*dt\.while_loop or dt\.scan.*np\.take.*dt\.switch.*static_argnames"
    decisions: list[Any] = [
        lambda x: x if np.any(x > 0) else -x,
        lambda x: x if bool(x[0] > 0) else -x,
        lambda x: [x for _ in iter(lambda: bool(x[0] < 9), False)],
        lambda x: x[0] > 0 and x[1] > 0,
        lambda x: x[0] > 0 or x[1] > 0,
        lambda x: not x[0],
        lambda x: 0 < x[0] < 3,
        lambda x: np.allclose(x, 1) and x,
        max,
        sorted,
        lambda x: 1.0 in x,
        lambda x: any(x > 0),
    ]
    numbers: list[Any] = [
        lambda x: int(x[0]),
        lambda x: float(x[0]),
        lambda x: complex(x[0]),
        lambda x: round(x[0]),
        lambda x: math.floor(x[0]),
        lambda x: math.sqrt(x[0]),
        lambda x: [x for _ in range(x[0].astype(int))],
        lambda x: [1, 2, 3][x[0].astype(int)],
        lambda x: x[: x[0].astype(int)],
        lambda x: np.zeros(x[0].astype(int)),
    ]
    for functions, message in ((decisions, truth), (numbers, number)):
        for function in functions:
            with pytest.raises(dt.errors.GraphError, match=message):
                dt.trace(function, X)
    for function in (lambda x: len(x[0]), lambda x: [v for v in x[0]]):  # noqa: C416
        with pytest.raises(TypeError, match=r"test_choices\.py:\d+.*is one number"):
            dt.trace(function, X)


@pytest.mark.parametrize("opened", [False, True])
def test_pictures_show_loops_and_choices(opened: bool) -> None:
    def f(x: Any) -> Any:
        last = dt.while_loop(lambda c: np.sum(c) < 9, lambda c: c * 2, np.abs(x))
        return dt.cond(np.sum(x) > 0, np.sin, np.cos, last)

    # With values and gradients, which reach as far as there are rules.
    diagram = dt.draw.draw(dt.trace(f, X), bodies=opened, inputs={"x": X}).diagram
    titles = {node.lines[0].text for node in diagram.nodes}
    assert "result" in titles
    assert "switch" in titles
    assert ("while" in titles) != opened
    names = {group.label for group in diagram.groups}
    assert names == ({"while · step", "while · condition", "switch · 0", "switch · 1"} if opened else set())
