"""Graphs as values: text, content key, pickling, parts and new graphs of old ones, and the checker."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, GraphError, UnknownNameError
from dagtrain.graph import Graph, Spec, Tensor, ancestors_of, make, rebuild, topological, users
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient, verify

PROGRAM = """
import numpy as np, dagtrain as dt
from dagtrain.transform import gradient, optimize
from dagtrain.ops.random import fold_in, normal

def program(params, x):
    h, ys = dt.scan(lambda h, x: (np.tanh(h @ params["w"] + x), np.sum(h)), np.zeros(3), x)
    noise = normal(fold_in(np.array([7, 0], np.uint64), 1), (3,), dtype=np.float64)
    return {"cost": np.sum((h * noise) ** 2) + np.mean(ys), "max": np.max(h)}

def build():
    graph = dt.trace(program, {"w": np.zeros((3, 3)), "unused": np.zeros(2)}, np.zeros((5, 3)))
    cost = graph.outputs["cost"]
    graph = dt.Graph(graph.inputs, {**graph.outputs, "by_w": gradient(cost, [graph.inputs["params.w"]])[0]})
    return graph, optimize(graph)
"""


def built() -> tuple[Graph, Graph]:
    names: dict[str, Any] = {}
    exec(PROGRAM, names)
    return names["build"]()  # type: ignore[no-any-return]


def small() -> Graph:
    x = dt.input("x", (2,), np.float64)
    return Graph({"x": x}, {"y": np.sin(x) + 1.0, "z": np.sum(x, axis=0)})


def test_text() -> None:
    assert str(small()).splitlines() == [
        "graph(x: float64[2]) -> (y: float64[2], z: float64[])",
        "  %0 = input(name='x')                                  float64[2]",
        "  %1 = sin(%0)                                          float64[2]",
        "  %2 = constant(1.0)                                    float64[]",
        "  %3 = add(%1, %2)                                      float64[2]",
        "  %4 = sum(%0, axis=(0,), keepdims=False)               float64[]",
        "  return y=%3, z=%4",
    ]
    assert repr(small()).startswith("<Graph ")
    assert "1 inputs, 5 nodes, 2 outputs" in repr(small())


def test_key_is_of_the_content() -> None:
    assert small() == small()
    assert hash(small()) == hash(small())
    assert small() is not small()
    x = dt.input("x", (2,), np.float64)
    assert Graph({"x": x}, {"y": np.cos(x) + 1.0, "z": np.sum(x, axis=0)}) != small()
    assert Graph({"x": x}, {"y": np.sin(x) + 2.0, "z": np.sum(x, axis=0)}) != small()
    assert Graph({"x": x}, {"y": np.sin(x) + 1.0, "w": np.sum(x, axis=0)}) != small()


def test_key_sees_values_names_and_order() -> None:
    a, b = dt.input("a", (2,)), dt.input("b", (2,))
    assert Graph({"a": a, "b": b}, {"y": a - b}).key != Graph({"b": b, "a": a}, {"y": a - b}).key
    first, second = (Graph.of(dt.array(np.full(100, v))) for v in (1.0, 2.0))
    assert first.key != second.key


def test_key_does_not_see_where_and_when() -> None:
    x = dt.input("x", (2,))
    with dt.scope("somewhere"):
        y = dt.input("x", (2,))
        other = Graph.of(np.sin(y))
    assert Graph.of(np.sin(x)).key == other.key


@pytest.mark.parametrize("seed", ["0", "12345"])
def test_key_is_the_same_in_other_processes(seed: str) -> None:
    # Earlier nodes shift the serial numbers of leaves.
    code = f"import dagtrain as dt\nleaves = [dt.input('x') for _ in range({seed})]\n{PROGRAM}\nprint(*[g.key for g in build()])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed})
    assert out.stdout.split() == [g.key for g in built()]


def test_pickled_graph_is_equal_and_runs() -> None:
    for graph in built():
        again = pickle.loads(pickle.dumps(graph))
        assert again.key == graph.key
        assert str(again) == str(graph)
        rng = np.random.default_rng(0)
        values = [rng.normal(size=leaf.shape) for leaf in graph.inputs.values()]
        for a, b in zip(interpret(graph, *values), interpret(again, *values), strict=True):
            np.testing.assert_array_equal(a, b)


def test_pickled_graph_keeps_origins_and_does_not_merge_leaves() -> None:
    a, b = dt.array(1.0), dt.array(1.0)
    again = pickle.loads(pickle.dumps(Graph.of(a - b)))
    (difference,) = again.outputs.values()
    assert difference.inputs[0] is not difference.inputs[1]
    assert "test_graph.py" in str(difference.origin)


def test_nodes_start_with_all_inputs() -> None:
    x, unused = dt.input("x"), dt.input("unused")
    graph = Graph({"unused": unused, "x": x}, {"y": x * 2})
    assert graph.nodes[0] is unused
    assert graph.nodes[1] is x
    assert len(graph) == 4


def test_select_and_apply() -> None:
    graph = small()
    assert list(graph.select("z").outputs) == ["z"]
    with pytest.raises(UnknownNameError, match=r"unknown output 'q'.*y, z"):
        graph.select("q")
    t = dt.array([1.0, 2.0])
    y, z = graph.apply(t)
    assert y is np.sin(t) + 1.0
    assert z is np.sum(t, axis=0)
    with pytest.raises(ArgumentError, match=r"has 1 inputs \['x'\], got 2"):
        graph.apply(t, t)
    with pytest.raises(GraphError, match=r"input 'x' is float64\[2\], got float64\[3\]"):
        graph.apply(dt.array([1.0, 2.0, 3.0]))


def test_graph_of_tensors_finds_its_inputs_in_order() -> None:
    a, b = dt.input("a"), dt.input("b")
    assert list(Graph.of(b * a, named=a + 1).inputs) == ["b", "a"]
    assert list(Graph.of(dt.input("a") + (a + dt.input("a"))).inputs) == ["a", "a_2", "a_3"]


def test_missing_input_is_named() -> None:
    x = dt.input("x", (2,))
    with pytest.raises(GraphError, match=r"need the input 'x' \(float32\[2\], made at .*test_graph.py:\d+"):
        Graph({}, {"y": x})


def test_only_input_leaves_are_inputs() -> None:
    with pytest.raises(GraphError, match=r"only leaves made by dagtrain\.input"):
        Graph({"x": dt.array(1.0)}, {"y": dt.array(1.0)})
    with pytest.raises(GraphError, match="at least one output"):
        Graph({}, {})


def test_graphs_never_change() -> None:
    with pytest.raises(GraphError, match="graphs never change"):
        small().inputs = {}


# ---- the checker


def test_checker_finds_a_wrong_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    x = dt.input("x", (2,))
    wrong = make("sin", (x,), {}, Spec((3,), np.dtype("f4")))
    monkeypatch.undo()  # this graph is made without the check of all new graphs
    graph = Graph.of(wrong)
    with pytest.raises(GraphError, match=r"claims float32\[3\]; the op 'sin' gives float32\[2\]"):
        verify(graph)
    assert small().verify().outputs


def test_every_graph_made_in_tests_is_checked() -> None:
    wrong = make("sin", (dt.input("x", (2,)),), {}, Spec((3,), np.dtype("f4")))
    with pytest.raises(GraphError, match="claims"):
        Graph.of(wrong)


# ---- traversals


def diamond() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = dt.input("x")
    left, right = np.sin(x), np.cos(x)
    return x, left, right, left * right


def test_topological_order_depends_on_the_graph_alone() -> None:
    x, left, right, top = diamond()
    order = topological([top])
    assert [id(n) for n in order] == [id(n) for n in (x, left, right, top)]


def test_users_count_each_use() -> None:
    x, left, right, top = diamond()
    twice = top * top
    readers = users(topological([twice]))
    assert [id(n) for n in readers[x]] == [id(left), id(right)]
    assert [id(n) for n in readers[top]] == [id(twice)] * 2


def test_ancestors() -> None:
    _, left, _, top = diamond()
    assert {id(n) for n in ancestors_of([left], topological([top]))} == {id(left), id(top)}


def test_rebuild_shares_what_does_not_change() -> None:
    _, left, right, top = diamond()
    new = dt.input("new")
    became = rebuild([top], {left: new})
    assert became[top] is new * right
    assert became[right] is right
    assert rebuild([top])[top] is top


def test_gradient_graph_is_well_formed() -> None:
    _, _, _, top = diamond()
    x = topological([top])[0]
    assert Graph.of(*gradient(top, [x])).verify()
