from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.draw import Diagram, computational_diagram, draw
from dagtrain.draw.measure import cheap, measure
from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.plan.interpret import interpret
from dagtrain.transform.gradient import gradient

F4 = np.dtype("f4")


def texts(diagram: Diagram, role: str) -> dict[str, str]:
    """Title of each node → its line of this role."""
    by_title = {}
    for node in diagram.nodes:
        lines = [line.text for line in node.lines if line.role == role]
        if lines:
            by_title[node.lines[0].text] = lines[0]
    return by_title


def ends(diagram: Diagram) -> dict[tuple[str, str], str]:
    titles = {node.key: node.lines[0].text for node in diagram.nodes}
    return {(titles[edge.source], titles[edge.target]): edge.label for edge in diagram.edges}


def layered(count: int, width: int = 8) -> dt.Graph:
    def cost(params: Any, x: Any) -> Any:
        h = x
        for name, layer in params.items():
            with dt.scope(name):
                h = np.tanh(h @ layer["kernel"] + layer["bias"])
        return np.mean(h)

    layer = {"kernel": dt.Spec((width, width), F4), "bias": dt.Spec((width,), F4)}
    return dt.trace(cost, {f"dense_{i}": dict(layer) for i in range(1, count + 1)}, dt.Spec((4, width), F4))


def with_gradients(graph: dt.Graph) -> dt.Graph:
    cost = graph.outputs["output"]
    params = [t for name, t in graph.inputs.items() if name.startswith("params")]
    grads = gradient(cost, params)
    return dt.Graph(graph.inputs, {"loss": cost, **{f"grad_{i}": g for i, g in enumerate(grads)}})


def test_the_example_everyone_knows() -> None:
    a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    c = a + b
    d = b + 1
    e = c * d
    diagram = draw(e).diagram
    assert texts(diagram, "value") == {"a": "2", "b": "1", "c = a + b": "3", "d = b + 1": "2", "e = c × d": "6"}
    assert texts(diagram, "gradient") == {
        "a": "∂e/∂a = 2",
        "b": "∂e/∂b = 5",
        "c = a + b": "∂e/∂c = 2",
        "d = b + 1": "∂e/∂d = 3",
        "e = c × d": "∂e/∂e = 1",
    }
    assert ends(diagram) == {
        ("a", "c = a + b"): "∂c/∂a = 1",
        ("b", "c = a + b"): "∂c/∂b = 1",
        ("b", "d = b + 1"): "∂d/∂b = 1",
        ("1", "d = b + 1"): "",
        ("c = a + b", "e = c × d"): "∂e/∂c = 2",
        ("d = b + 1", "e = c × d"): "∂e/∂d = 3",
    }


def test_kinds_are_told_apart_and_explained() -> None:
    x, w = dt.input("x", (3,), "f8"), dt.array([1.0, 2.0, 3.0], name="w")
    diagram = draw(np.sum(x * w) + 1).diagram
    assert {node.lines[0].text: node.kind for node in diagram.nodes} == {
        "x": "input",
        "w": "parameter",
        "x × w": "op",
        "sum": "op",
        "1": "constant",
        "add": "output",
    }
    assert {item.text for item in diagram.legend} == {"input", "parameter", "op", "constant", "output"}


def test_an_operand_used_twice_has_two_edges_with_their_own_derivatives() -> None:
    x = dt.array(3.0, name="x")
    graph = dt.Graph.of(x * x)
    local = measure(graph, [], graph.outputs["output"]).local
    assert sorted((position, float(value)) for (_, position), value in local.items()) == [(0, 3.0), (1, 3.0)]
    assert len(draw(graph).diagram.edges) == 2


def test_a_local_derivative_is_of_one_node_alone() -> None:
    x = dt.array(0.5, name="x")
    inner = np.sin(x)
    graph = dt.Graph.of(inner * x)
    local = measure(graph, [], graph.outputs["output"]).local
    assert float(local[graph.outputs["output"], 1]) == pytest.approx(np.sin(0.5))  # not sin x + x cos x


def test_local_derivatives_of_arrays() -> None:
    x = dt.array(np.array([[0.1, 0.2], [0.3, 0.4]]), name="x")
    w = dt.array(np.array([[1.0, 2.0], [3.0, 4.0]]), name="w")
    bias = dt.array(np.array([1.0, -1.0]), name="bias")
    product = x @ w
    moved = product + bias
    y = np.tanh(moved)
    graph = dt.Graph.of(np.sum(y * y))
    measures = measure(graph, [], graph.outputs["output"])
    np.testing.assert_allclose(measures.local[y, 0], 1 - np.tanh(measures.values[moved]) ** 2)
    np.testing.assert_array_equal(measures.local[moved, 1], np.ones((2, 2)))  # of the broadcast shape, by element
    np.testing.assert_allclose(measures.local[product, 0], np.ones((2, 2)) @ w.value.T)  # of the sum
    np.testing.assert_allclose(measures.gradients[x], interpret(dt.Graph.of(*gradient(graph.outputs["output"], [x])))[0])
    labels = list(ends(draw(graph).diagram).values())
    assert any("Σ avg" in label for label in labels)
    words = [item.text for item in draw(graph).diagram.legend]
    assert any("mean over elements" in text for text in words)
    assert any("sum of the node's elements" in text for text in words)


def test_a_graph_with_values_of_its_inputs_shows_values() -> None:
    graph = dt.trace(lambda x: np.sum(x * x), dt.Spec((2,), np.dtype("f8")))
    assert texts(draw(graph).diagram, "value") == {}
    shown = draw(graph, inputs={"x": np.array([1.0, 2.0])}).diagram
    assert texts(shown, "value")["x"] == "[1, 2]"
    assert texts(shown, "gradient")["x"] == "∂ [2, 4]"


def test_missing_and_unknown_inputs_are_named() -> None:
    graph = dt.trace(lambda x, y: x + y, np.zeros(2), np.zeros(2))
    with pytest.raises(ArgumentError, match="missing: y"):
        draw(graph, inputs={"x": np.zeros(2)})
    with pytest.raises(UnknownNameError, match="'z'"):
        draw(graph, inputs={"x": np.zeros(2), "z": np.zeros(2)})
    with pytest.raises(ArgumentError, match="inputs="):
        draw(graph, values=True)


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'collapse'"):
        draw(dt.array(1.0) + 1, colapse=True)


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(ArgumentError, match="cannot draw a int"):
        draw(3)


def test_values_can_be_left_out() -> None:
    assert texts(draw(dt.array(1.0, name="a") + 1, values=False).diagram, "value") == {}


def test_a_large_computation_is_not_run_for_a_picture() -> None:
    big = dt.array(np.zeros((10, 10)))
    for _ in range(3):
        big = np.concatenate([big] * 40)
    graph = dt.Graph.of(big @ big.T[:, :1] + 1)
    assert not cheap(graph)
    assert texts(draw(graph).diagram, "value") == {}


def test_only_the_variable_that_holds_the_node_names_it() -> None:
    x = dt.array(2.0, name="x")
    squared = x * x
    picture = draw(np.sin(squared + 1))
    titles = texts(picture.diagram, "title")
    assert {"squared = x × x", "squared + 1", "sin"} <= set(titles)
    assert not any("picture" in title for title in titles)


def test_names_of_the_user_win() -> None:
    a = dt.array(2.0, name="a")
    total = a + 1
    assert "s = a + 1" in texts(draw(total, names={"s": total}).diagram, "title")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"direction": "left"}, "unknown direction 'left'. Known: BT, LR, RL, TB"),
        ({"names": {"s": "total"}}, "names has tensors of the graph by name"),
        ({"names": {"s": dt.array(7.0)}}, "names has tensors of the graph by name"),
        ({"collapse": "layer"}, "collapse .* must be a whole number"),
    ],
)
def test_options_are_not_ignored(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        draw(dt.array(2.0, name="a") * 3, **options)


def test_scopes_are_boxes_that_hold_their_parameters() -> None:
    diagram = computational_diagram(layered(2))
    assert [group.label for group in diagram.groups] == ["dense_1", "dense_2"]
    kernels = [node for node in diagram.nodes if node.lines[0].text == "kernel"]
    assert [node.group for node in kernels] == [group.key for group in diagram.groups]


def test_layers_collapse_to_one_node_each() -> None:
    diagram = computational_diagram(layered(2), collapse=True)
    layers = [node for node in diagram.nodes if node.kind == "layer"]
    assert [node.lines[0].text for node in layers] == ["dense_1", "dense_2"]
    assert [line.text for line in layers[0].lines] == ["dense_1", "float32[4, 8]", "3 ops · 72 parameters"]
    assert ("dense_1", "dense_2") in ends(diagram)


def test_collapse_takes_a_depth() -> None:
    x = dt.input("x", (2,))
    with dt.scope("outer"), dt.scope("inner"):
        y = np.tanh(x) + x
    graph = dt.Graph.of(y * 2)
    titles = {depth: {node.lines[0].text for node in computational_diagram(graph, collapse=depth).nodes} for depth in (0, 1, None)}
    assert "outer" in titles[0]
    assert "inner" in titles[1]
    assert not {"outer", "inner"} & titles[None]
    assert [group.label for group in computational_diagram(graph, collapse=1).groups] == ["outer"]


@pytest.mark.parametrize("collapse", [True, False])
def test_equal_layers_in_a_row_fold(collapse: bool) -> None:
    diagram = computational_diagram(layered(12), collapse=collapse)
    labels = [node.lines[0].text for node in diagram.nodes] + [group.label for group in diagram.groups]
    assert "dense_1 … 12  × 12" in labels
    assert "dense_2" not in " ".join(labels)
    open_picture = computational_diagram(layered(12), collapse=collapse, fold=False)
    assert len(open_picture.nodes) > len(diagram.nodes) + 10


def test_layers_that_differ_do_not_fold() -> None:
    def cost(x: Any) -> Any:
        for i, function in enumerate([np.tanh, np.sin, np.tanh, np.sin]):
            with dt.scope(f"layer_{i}"):
                x = function(x)
        return x

    diagram = computational_diagram(dt.trace(cost, np.zeros(2)), collapse=True)
    assert len([node for node in diagram.nodes if node.kind == "layer"]) == 4


def test_parallel_layers_do_not_fold() -> None:
    def cost(params: Any, x: Any) -> Any:
        parts = []
        for name, weight in params.items():
            with dt.scope(name):
                parts.append(np.tanh(x * weight))
        return sum(parts[1:], parts[0])

    graph = dt.trace(cost, {f"head_{i}": np.zeros(2) for i in range(4)}, np.zeros(2))
    diagram = computational_diagram(graph, collapse=True)
    assert len([node for node in diagram.nodes if node.kind == "layer"]) == 4


def test_the_gradient_phase_has_its_own_colour_and_boxes() -> None:
    diagram = computational_diagram(with_gradients(layered(2)))
    kinds = {node.kind for node in diagram.nodes}
    assert {"op", "backward", "output"} <= kinds
    assert {group.label for group in diagram.groups} == {"dense_1", "dense_2", "dense_1 · gradient", "dense_2 · gradient"}
    assert "gradient phase" in {item.text for item in diagram.legend}


def test_gradients_of_folded_layers_fold_too() -> None:
    diagram = computational_diagram(with_gradients(layered(12)), collapse=True)
    assert len(diagram.nodes) < 15
    assert any("gradient" in node.lines[0].text and "× 1" in node.lines[0].text for node in diagram.nodes)


def test_a_scan_is_one_node_or_a_box_with_its_body() -> None:
    w = dt.array(np.eye(2), name="w")
    last, ys = dt.scan(lambda h, x: (np.tanh(h @ w + x), h), dt.array(np.zeros(2), name="start"), np.ones((5, 2)))
    graph = dt.Graph.of(np.sum(ys) + np.sum(last))
    closed = draw(graph).diagram
    assert any(node.lines[0].text == "scan × 5" for node in closed.nodes)
    opened = draw(graph, bodies=True).diagram
    assert not any(node.lines[0].text == "scan × 5" for node in opened.nodes)
    assert "scan × 5" in {group.label for group in opened.groups}
    labels = [edge.label for edge in opened.edges]
    assert {"first", "each", "carry"} <= set(labels)
    kernel = next(node.key for node in opened.nodes if node.lines[0].text == "w")
    assert any(edge.source == kernel for edge in opened.edges)
    assert draw(graph, bodies=True).svg.startswith("<svg")


def test_the_tooltip_shows_the_users_line() -> None:
    x = dt.array(1.0, name="x")
    y = np.exp(x)  # the line to be found
    tip = next(node.tooltip for node in draw(y).diagram.nodes if node.kind == "output")
    assert "test_computational.py" in tip
    assert "the line to be found" in tip


def test_ops_are_coloured_by_their_share_of_the_time() -> None:
    graph = layered(4)
    ops = [node for node in graph.nodes if node.inputs]
    seconds = dict.fromkeys(ops, 1e-6) | {ops[0]: 0.5, ops[-1]: 0.1}
    open_ = computational_diagram(graph, seconds=seconds, fold=False)
    assert {("heat_5", "500 ms · 83%"), ("heat_4", "100 ms · 17%")} <= {(node.kind, node.lines[-1].text) for node in open_.nodes}
    collapsed = computational_diagram(graph, seconds=seconds, fold=False, collapse=True)
    hottest = [node.key for node in collapsed.nodes if node.kind == "heat_5"]
    assert len(hottest) == 1, "a layer has the time of its ops"
    assert hottest[0].startswith("layer ")


def test_every_op_of_a_graph_is_drawn_once() -> None:
    graph = layered(2)
    diagram = computational_diagram(graph, constants=True)
    drawn = [node for node in diagram.nodes if node.kind != "constant"]
    assert len(drawn) == len([node for node in graph.nodes if node.op != "constant"])


def test_a_deep_chain_does_not_recurse() -> None:
    x = dt.input("x", (2,))
    for _ in range(3000):
        x = np.tanh(x)
    assert len(computational_diagram(dt.Graph.of(x)).nodes) == 3001


def test_nan_in_a_value_is_written_and_not_hidden() -> None:
    x = dt.array(np.array([1.0, -1.0, 2.0, 3.0, 4.0]), name="x")
    assert texts(draw(np.log(x)).diagram, "value")["log(x)"] == "1 of 5 not finite"


def test_visualize_is_plugged_into_tensors_and_graphs(tmp_path: Any) -> None:
    e = dt.array(2.0, name="a") * 3
    picture = e.visualize(tmp_path / "e.svg")
    assert (tmp_path / "e.svg").read_text() == picture.svg
    assert dt.Graph.of(e).visualize().dot == picture.dot
