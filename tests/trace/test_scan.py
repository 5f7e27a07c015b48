"""`scan` against the same loop written out: values, first and second derivatives, nests, integers, outside tensors, both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Graph, Tensor
from dagtrain.plan.interpret import interpret
from dagtrain.trace import flatten, map_leaves
from dagtrain.transform import gradient, optimize

Body = Callable[[Any, Any], tuple[Any, Any]]
RNG = np.random.default_rng(0)
STEPS = 5


def unrolled(body: Body, init: Any, xs: Any, length: int, reverse: bool) -> tuple[Any, Any]:
    """The loop that scan stands for."""
    carry, ys = init, [None] * length
    for t in reversed(range(length)) if reverse else range(length):
        carry, ys[t] = body(carry, map_leaves(lambda a, t=t: a[t], xs))
    if ys[0] is None:
        return carry, None
    return carry, map_leaves(lambda *parts: np.stack(parts), *ys)


def rnn(w: Any) -> Body:
    def body(h: Any, x: Any) -> tuple[Any, Any]:
        new = np.tanh(h @ w + x)
        return new, new * 2

    return body


def lstm(w: Any) -> Body:
    def body(carry: Any, x: Any) -> tuple[Any, Any]:
        gates = np.concatenate([carry["h"], x["x"]]) @ w
        i, f, o, g = (gates[3 * k : 3 * k + 3] for k in range(4))
        c = carry["c"] / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        return {"h": h, "c": c}, {"h": h, "norm": np.sum(h * h)}

    return body


def counting(w: Any) -> Body:
    def body(carry: Any, x: Any) -> tuple[Any, Any]:
        n, h = carry
        return (n + 1, h * (1 + n) / 2 + np.sum(w) * x), (n, h)

    return body


# body, first carry, sequences, weights
PROGRAMS: dict[str, tuple[Callable[[Any], Body], Any, Any, Any]] = {
    "rnn": (rnn, RNG.normal(size=3), RNG.normal(size=(STEPS, 3)), RNG.normal(size=(3, 3))),
    "batched rnn": (rnn, RNG.normal(size=(2, 3)), RNG.normal(size=(STEPS, 2, 3)), RNG.normal(size=(3, 3))),
    "lstm with nests": (
        lstm,
        {"h": RNG.normal(size=3), "c": RNG.normal(size=3)},
        {"x": RNG.normal(size=(STEPS, 2)), "unused": RNG.normal(size=STEPS)},
        RNG.normal(size=(5, 12)),
    ),
    "integer carry": (counting, (np.int64(0), RNG.normal(size=2)), RNG.normal(size=(STEPS, 2)), RNG.normal(size=2)),
    "no output": (lambda w: lambda h, x: (np.sin(h * w) + x, None), RNG.normal(size=2), RNG.normal(size=(STEPS, 2)), RNG.normal(size=2)),
    "output alone": (lambda w: lambda h, x: (h, x * w), RNG.normal(size=2), RNG.normal(size=(STEPS, 2)), RNG.normal(size=2)),
    "carry read late": (lambda w: lambda h, x: (h * x, h * w), RNG.normal(size=2), RNG.normal(size=(STEPS, 2)), RNG.normal(size=2)),
    "constants inside": (
        lambda w: lambda h, x: (h * 0.5 + np.arange(2.0) * w, np.ones(2)),
        RNG.normal(size=2),
        RNG.normal(size=(STEPS, 2)),
        RNG.normal(size=2),
    ),
}


def scanned(body: Body, init: Any, xs: Any, length: int, reverse: bool) -> tuple[Any, Any]:
    return dt.scan(body, init, xs, length, reverse)


def cost(loop: Any, name: str, reverse: bool, init: Any, xs: Any, w: Any) -> Any:
    carry, ys = loop(PROGRAMS[name][0](w), init, xs, STEPS, reverse)
    total: Any = 0.0
    for k, leaf in enumerate([*flatten(carry)[0].values(), *flatten(ys)[0].values()]):
        total = total + (k + 1) * np.sum(np.sin(leaf * 1.0))
    return total


def floats(graph: Graph) -> list[Tensor]:
    return [leaf for leaf in graph.inputs.values() if leaf.dtype.kind == "f"]


def with_derivatives(graph: Graph) -> Graph:
    """The cost, its gradients, and the gradients of a weighted sum of those."""
    (value,) = graph.outputs.values()
    targets = floats(graph)
    first = gradient(value, targets, unconnected="zero")
    weights = [np.random.default_rng(k).normal(size=t.shape) for k, t in enumerate(targets)]
    along = sum((np.sum(g * v) for g, v in zip(first, weights, strict=True)), start=dt.array(0.0))
    second = gradient(along, targets, unconnected="zero")
    outputs = {"value": value, **{f"g{k}": g for k, g in enumerate(first)}, **{f"h{k}": g for k, g in enumerate(second)}}
    return Graph(graph.inputs, outputs)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_scan_is_the_loop_written_out_to_second_order(name: str, reverse: bool) -> None:
    _, init, xs, w = PROGRAMS[name]
    arguments = init, xs, w
    values = [a for tree in arguments for a in flatten(tree)[0].values()]
    loop, plain = (
        with_derivatives(dt.trace(lambda i, x, v, f=f: cost(f, name, reverse, i, x, v), *arguments)) for f in (scanned, unrolled)
    )
    expected = interpret(plain, *values)
    for graph in (loop, optimize(loop)):
        for key, results, right in zip(graph.outputs, interpret(graph, *values), expected, strict=True):
            np.testing.assert_allclose(results, right, rtol=1e-10, atol=1e-12, err_msg=key)


def test_result_of_a_scan_agrees_with_numpy() -> None:
    body, init, xs, w = PROGRAMS["lstm with nests"]
    graph = dt.trace(lambda i, x, v: dt.scan(body(v), i, x), init, xs, w)
    carry, ys = unrolled(body(w), init, xs, STEPS, False)
    results = dict(zip(graph.outputs, interpret(graph, *init.values(), *xs.values(), w), strict=True))
    np.testing.assert_allclose(results["0.h"], carry["h"])
    np.testing.assert_allclose(results["0.c"], carry["c"])
    np.testing.assert_allclose(results["1.h"], ys["h"])
    np.testing.assert_allclose(results["1.norm"], ys["norm"])


def test_nested_scans() -> None:
    def outer(h: Any, row: Any) -> tuple[Any, Any]:
        return dt.scan(lambda c, x: (np.tanh(c + x), c * x), h, row)

    def plain(h: Any, row: Any) -> tuple[Any, Any]:
        return unrolled(lambda c, x: (np.tanh(c + x), c * x), h, row, 3, False)

    table = RNG.normal(size=(4, 3))

    def program(loop: Any, body: Any, h: Any, xs: Any) -> Any:
        last, ys = loop(body, h, xs, 4, False)
        return np.sum(ys * np.arange(3.0)) + last

    for f, body in ((scanned, outer), (unrolled, plain)):
        graph = with_derivatives(dt.trace(lambda h, xs, f=f, body=body: program(f, body, h, xs), np.float64(0.3), table))
        results = interpret(graph, 0.3, table)
        if f is scanned:
            first = results
    for a, b in zip(first, results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_outside_tensors_are_inputs_of_the_loop_and_constants_are_not() -> None:
    w, x = dt.input("w", (2,)), dt.input("x", (4, 2))
    _, ys = dt.scan(lambda c, a: (c, a * np.sin(w) + 1), np.float32(0), x)
    (scan,) = [n for n in Graph.of(ys).nodes if n.op == "scan"]
    assert [t.op for t in scan.inputs] == ["constant", "input", "sin"]


def test_scan_draws_one_node_a_step_count_does_not_change_the_graph() -> None:
    sizes = {len(dt.trace(lambda x: dt.scan(lambda c, a: (c + a, c), np.float64(0), x)[1], np.zeros(n))) for n in (2, 1000)}
    assert len(sizes) == 1


def test_length_alone() -> None:
    last, ys = dt.scan(lambda c, _: (c * 2, c), dt.array(1.0), length=4)
    np.testing.assert_array_equal(interpret(Graph.of(ys))[0], [1, 2, 4, 8])
    assert interpret(Graph.of(last))[0] == 16


def test_scan_over_nothing_gives_the_first_carry() -> None:
    last, ys = dt.scan(lambda c, x: (c + x, c), dt.array(1.0), np.zeros((0,)))
    assert ys.shape == (0,)
    assert interpret(Graph.of(last))[0] == 1


def test_the_dtypes_of_the_carry_are_those_that_promotion_settles_on() -> None:
    last, _ = dt.scan(lambda c, x: (c + x, None), 0, np.array([0.5, 0.6]))
    assert last.compute() == 1.1
    last, _ = dt.scan(lambda c, x: (c + x.astype("f4"), None), np.float32(0), np.ones(3))
    assert last.dtype == np.float32
    pair, (first, _) = dt.scan(lambda c, x: ((c[1], c[0] + x), c), (np.int8(0), np.int16(1)), np.array([0.5, 2], "f4"))
    assert [t.dtype for t in pair] == [np.float32, np.float32]
    assert first.compute().tolist() == [0, 1]
    last, _ = dt.scan(lambda c, x: (np.float32(1) * x.astype("f4"), None), np.float64(0), np.ones(3))
    assert last.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dt.scan(lambda c, x: (c, x), 0.0), ArgumentError, "length="),
        (lambda: dt.scan(lambda c, x: (c, x), 0.0, (np.zeros(2), np.zeros(3))), ShapeError, "equally long"),
        (lambda: dt.scan(lambda c, x: (c, x), 0.0, np.zeros(2), length=3), ShapeError, "length=3"),
        (lambda: dt.scan(lambda c, x: (c, x), 0.0, np.float64(1)), ShapeError, "first axis"),
        (lambda: dt.scan(lambda c, x: c, 0.0, np.zeros(2)), ArgumentError, "returns a pair"),
        (lambda: dt.scan(lambda c, x: (np.stack([c, c]), x), 0.0, np.zeros(2)), ShapeError, "carry of shape ()"),
        (lambda: dt.scan(lambda c, x: ((c, c), x), 0.0, np.zeros(2)), ShapeError, "structure"),
    ],
)
def test_wrong_loop_is_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
