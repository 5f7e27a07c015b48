"""Graphs with inputs as delayed values, and delayed values as inputs of graphs."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.delayed import Delayed

import dagtrain as dt
from dagtrain.backends.blas import one_blas_thread
from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.graph import Graph
from dagtrain.plan import interpret

pytestmark = [pytest.mark.slow, pytest.mark.combined]

X, Y = np.arange(6.0).reshape(2, 3), np.full((3, 2), 0.5)


@pytest.fixture
def graph() -> Graph:
    return dt.trace(lambda x, y: np.tanh(x @ y), X, Y)


def loss(params: Any, x: Any, y: Any) -> Any:
    h = np.tanh(x @ params["w1"] + params["b1"])
    return np.mean((h @ params["w2"] - y) ** 2)


@pytest.mark.parametrize("granularity", ["op", "fragment", 1e-7])
@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_a_gradient_has_the_bits_of_the_interpreter(granularity: Any, scheduler: str) -> None:
    rng = np.random.default_rng(0)
    params = {"w1": rng.normal(size=(30, 40)), "b1": rng.normal(size=40), "w2": rng.normal(size=(40, 3))}
    x, y = rng.normal(size=(50, 30)), rng.normal(size=(50, 3))
    graph = dt.trace(dt.value_and_grad(loss), params, x, y)
    values = [*params.values(), x, y]
    with one_blas_thread():
        expected = interpret(graph, *values)
    outputs = graph.to_delayed(*values, granularity=granularity)
    assert all(isinstance(o, Delayed) for o in outputs)
    for a, b in zip(expected, dask.compute(*outputs, scheduler=scheduler), strict=True):
        assert a.tobytes() == b.tobytes()


def test_one_output_is_one_delayed_and_several_are_a_tuple(graph: Graph) -> None:
    single = graph.to_delayed(X, Y)
    assert isinstance(single, Delayed)
    assert isinstance(single.compute(), np.ndarray)
    pair = dt.trace(lambda x: (x + 1, x * 2), X).to_delayed(X)
    assert [v.tolist() for v in dask.compute(*pair)] == [(X + 1).tolist(), (X * 2).tolist()]


@pytest.mark.parametrize(
    "x",
    [
        X.tolist(),
        np.asfortranarray(X),
        dask.delayed(X),
        dask.delayed(lambda: X)(),
        dask.delayed(X.tolist)(),
        dask.delayed(np.asfortranarray)(X),
        da.from_array(X, chunks=1),
        da.from_array(X, chunks=3),
        da.from_array(np.vstack([X, X]), chunks=1)[np.array([1, 1, 0, 0], bool)],  # lengths that Dask does not know
        dt.array(X) * 1.0,
    ],
    ids=["list", "F", "delayed value", "delayed call", "delayed list", "delayed F", "chunks", "chunk", "unknown chunks", "tensor"],
)
def test_values_of_inputs(graph: Graph, x: Any) -> None:
    assert graph.to_delayed(x, Y).compute().tobytes() == interpret(graph, X, Y)[0].tobytes()


def test_inputs_by_name(graph: Graph) -> None:
    expected = interpret(graph, X, Y)[0].tolist()
    assert graph.to_delayed(y=Y, x=dask.delayed(X)).compute().tolist() == expected
    assert graph.to_delayed(X, y=Y).compute().tolist() == expected
    nested = dt.trace(lambda p: p["w"] * 2, {"w": X})
    assert nested.to_delayed(**{"p.w": X}).compute().tolist() == (X * 2).tolist()


def test_values_of_another_dtype_are_converted_as_by_a_plan(graph: Graph) -> None:
    integers = X.astype(int)
    assert graph.to_delayed(integers, Y).compute().tobytes() == graph.to_delayed(dask.delayed(integers), Y).compute().tobytes()


def test_delayed_outputs_go_on_in_delayed_programs(graph: Graph) -> None:
    assert dask.delayed(np.sum)(graph.to_delayed(X, Y)).compute() == interpret(graph, X, Y)[0].sum()


def test_keys_depend_on_the_values(graph: Graph) -> None:
    assert graph.to_delayed(X, Y).key == graph.to_delayed(X.copy(), Y.copy()).key
    assert graph.to_delayed(X, Y).key != graph.to_delayed(X + 1, Y).key


def test_changing_an_array_afterwards_changes_nothing(graph: Graph) -> None:
    x = X.copy()
    delayed = graph.to_delayed(x, Y)
    x[...] = 0
    assert delayed.compute().tolist() == interpret(graph, X, Y)[0].tolist()


def test_wrong_inputs(graph: Graph) -> None:
    with pytest.raises(ArgumentError, match=r"input 'y' \(float64\[3, 2\], made at .*\) has no value"):
        graph.to_delayed(X)
    with pytest.raises(ArgumentError, match="has 2 inputs"):
        graph.to_delayed(X, Y, X)
    with pytest.raises(ArgumentError, match="input 'x' is given twice"):
        graph.to_delayed(X, x=X)
    with pytest.raises(UnknownNameError, match="unknown input 'z'"):
        graph.to_delayed(X, Y, z=1)
    with pytest.raises(ArgumentError, match=r"input 'x' is float64\[2, 3\], got float64\[3, 2\]"):
        graph.to_delayed(Y, Y)
    with pytest.raises(ArgumentError, match=r"input 'x' is float64\[2, 3\], got a Array of shape \(3, 2\)"):
        graph.to_delayed(da.from_array(Y), Y)
    with pytest.raises(ArgumentError, match=r"input 'x' is float64\[2, 3\], got float32\[2, 3\]"):
        graph.to_delayed(dt.array(X, "f4"), Y)
    with pytest.raises(ArgumentError, match=r"'x' was declared as float64\[2, 3\] and came as float64\[3, 2\]"):
        graph.to_delayed(dask.delayed(Y), Y).compute()


# ---- delayed values in expressions


def test_a_delayed_program_is_an_input_of_a_graph() -> None:
    @dask.delayed
    def cube(x: int) -> int:
        return x**3

    @dask.delayed
    def sum_list(values: list[int]) -> int:
        return sum(values)

    total = dt.from_delayed(sum_list([cube(i) for i in (1, 2, 3)]), (), "i8", name="total")
    weight = dt.array(0.5, name="weight")
    cost = (total * weight - 17.0) ** 2
    assert cost.compute() == 1.0
    assert dask.compute(cost, dt.grad(cost, weight), total) == (1.0, 72.0, 36)
    assert cost.compute(scheduler="processes") == 1.0


def test_a_leaf_of_dask_has_a_name_and_needs_no_argument() -> None:
    x = dt.from_delayed(dask.delayed(lambda: X)(), (2, 3), "f8")
    assert dt.from_delayed(dask.delayed(np.negative)(X), (2, 3), "f8").name == "negative"
    y = dt.input("y", (3, 2), "f8")
    assert Graph.of(x @ y).to_delayed(y=Y).compute().tolist() == (X @ Y).tolist()


def test_one_delayed_is_one_leaf() -> None:
    value = dask.delayed(lambda: X)()
    first, second = (dt.from_delayed(value, (2, 3), "f8", name="x") for _ in range(2))
    assert first is second


def test_python_numbers_are_promoted() -> None:
    value = dt.from_delayed(dask.delayed(lambda: 3)(), (), "f4").compute()
    assert isinstance(value, np.float32)
    assert value == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones((3, 2)), r"'v' was declared as float64\[2, 3\] and came as float64\[3, 2\]"),
        (np.ones((2, 3), "f4"), r"'v' was declared as float64\[2, 3\] and came as float32\[2, 3\]"),
        (np.ones((2, 3), int), "came as int64"),
        (1.0, r"came as float64\[\]"),
    ],
)
def test_values_that_are_not_as_declared(value: Any, message: str) -> None:
    leaf = dt.from_delayed(dask.delayed(lambda: value)(), (2, 3), "f8", name="v")
    with pytest.raises(ArgumentError, match=message):
        np.sum(leaf).compute()


def test_a_float_is_not_promoted_to_a_whole_number() -> None:
    with pytest.raises(ArgumentError, match=r"declared as int64\[\] and came as float64\[\]"):
        dt.from_delayed(dask.delayed(lambda: 3.5)(), (), "i8").compute()


def test_values_that_dask_does_not_compute() -> None:
    with pytest.raises(ArgumentError, match="takes a Delayed, a future or another Dask collection, not a ndarray"):
        dt.from_delayed(X, (2, 3), "f8")


def test_nested_arguments_of_the_traced_function() -> None:
    params, x = {"w": np.ones(3), "b": 2.0}, np.arange(3.0)
    graph = dt.trace(lambda p, v: np.sum(p["w"] * v) + p["b"], params, x)
    assert graph.to_delayed(params, x).compute(scheduler="sync") == 5.0
