"""Plans with yield points: where they pause, and which outputs are written by then."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError
from dagtrain.graph import Graph, Tensor
from dagtrain.plan import Plan


def network() -> Graph:
    """Loss and gradients of two layers, an output that is an input, and one that occurs twice."""

    def cost(w: Tensor, v: Tensor, x: Tensor) -> Tensor:
        return np.mean(np.tanh(np.tanh(x @ w) @ v) ** 2)

    w, v, x, unused = (dt.input(n, s, "f8") for n, s in (("w", (4, 5)), ("v", (5, 3)), ("x", (6, 4)), ("unused", (2,))))
    loss = cost(w, v, x)
    dw, dv = dt.grad(loss, [w, v])
    return Graph({"w": w, "v": v, "x": x, "unused": unused}, {"dw": dw, "dv": dv, "loss": loss, "x": x, "again": dv})


def loop() -> Graph:
    def cost(w: Tensor, xs: Tensor) -> Tensor:
        last, every = dt.scan(lambda h, x: (np.tanh(h @ w + x),) * 2, np.zeros(3), xs)
        return np.sum(last) + np.sum(every**2)

    w, xs = dt.input("w", (3, 3), "f8"), dt.input("xs", (5, 3), "f8")
    loss = cost(w, xs)
    dw, dxs = dt.grad(loss, [w, xs])
    return Graph({"w": w, "xs": xs}, {"dw": dw, "loss": loss, "dxs": dxs, "twice": dxs})


def read_later() -> Graph:
    """Outputs that other outputs are computed from, are views of, or are equal to."""
    x, y = dt.input("x", (4, 3), "f8"), dt.input("y", (3,), "f8")
    first = np.tanh(x + y)
    second = np.sum(first * 2, axis=0)
    return Graph({"x": x, "y": y}, {"view": first.T, "second": second, "third": second * y, "first": first, "again": second})


GRAPHS = {"network": network, "in pieces": network, "loop": loop, "read later": read_later}


@pytest.fixture(params=GRAPHS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def graph(name: str) -> Graph:
    return GRAPHS[name]()


@pytest.fixture
def plan(name: str, graph: Graph) -> Plan:
    """The graph's plan with yield_points; "in pieces" as that of a large graph is written."""
    plan = Plan(graph, yield_points=True, piece=2 if name == "in pieces" else 500)
    assert ("def run_2(" in plan.source) == (name == "in pieces")
    return plan


def values(graph: Graph) -> list[np.ndarray[Any, Any]]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal(t.shape) for t in graph.inputs.values()]


def test_inputs_are_read_no_sooner_and_outputs_final_no_later_than_yielded(graph: Graph, plan: Plan) -> None:
    arrays = values(graph)
    expected = [o.copy() for o in Plan(graph)(*arrays)]
    plan = pickle.loads(pickle.dumps(plan))
    bound = plan.bind()
    for output in bound.outputs:
        output[...] = np.nan
    late = [np.full_like(value, np.nan) for value in arrays]
    points, final = [], {}
    for what, *numbers in bound.steps(*late):
        points.append((what, *numbers))
        for k in numbers:
            if what == "reads":
                assert all(np.all(np.isnan(output)) for output in bound.outputs), "nothing is written before all inputs are yielded"
                late[k][...] = arrays[k]
            else:
                assert k not in final, "an output is written once"
                final[k] = bound.outputs[k].copy()
        unwritten = [np.all(np.isnan(output)) for k, output in enumerate(bound.outputs) if k not in final]
        assert all(unwritten), "an output is reported before another is written"
        for k in final:
            bound.outputs[k][...] = np.nan  # it is not read
    assert tuple(points) == plan.yield_points
    assert sorted(k for what, *numbers in points if what == "reads" for k in numbers) == list(range(len(arrays)))
    for k, output in enumerate(expected):
        assert final[k].tobytes() == output.tobytes()


def test_it_may_run_without_pausing(graph: Graph, plan: Plan) -> None:
    arrays = values(graph)
    for result, expected in zip(plan(*arrays), Plan(graph)(*arrays), strict=True):
        assert result.tobytes() == expected.tobytes()
    assert Plan(graph).yield_points == ()
    assert Plan(graph).bind().steps is None


def test_plans_go_side_by_side(graph: Graph, plan: Plan) -> None:
    arrays = values(graph)
    one = plan.bind()
    other = plan.bind(one.outputs)
    doubled = [2 * value for value in arrays]
    contents: dict[int, list[bytes]] = {}
    first, second = one.steps(*arrays), other.steps(*doubled)
    for what, *numbers in first:
        for k in numbers if what == "wrote" else ():
            contents[k] = [one.outputs[k].tobytes()]
        assert next(second) == (what, *numbers)
        for k in numbers if what == "wrote" else ():
            contents[k].append(other.outputs[k].tobytes())
    for i, inputs in enumerate((arrays, doubled)):
        assert [contents[k][i] for k in range(len(plan.outputs))] == [o.tobytes() for o in plan(*inputs)]


def test_an_error_between_yield_points_names_the_users_line() -> None:
    x, i = dt.input("x", (3, 2), "f8"), dt.input("i", (), "i8")
    plan = Plan(Graph({"x": x, "i": i}, {"y": np.take(x + 1, i, axis=0) * 2}), yield_points=True)
    with pytest.raises(IndexError) as caught:
        list(plan.bind().steps(np.zeros((3, 2)), np.asarray(7)))
    assert "take" in str(plan.explain(caught.value))
    assert "test_yield_points.py" in str(plan.explain(caught.value))


def test_inputs_of_a_plan_with_yield_points_are_not_donated() -> None:
    x = dt.input("x", (3,), "f8")
    with pytest.raises(ArgumentError, match="leave out donate or yield_points"):
        Plan(Graph({"x": x}, {"y": x + 1}), {"x": "y"}, yield_points=True)
