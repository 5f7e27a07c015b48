"""From functions of nested arrays to graphs, and flattening of nests and its inverse."""

from __future__ import annotations

import pickle
import random
from typing import Any, NamedTuple

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DTypeError
from dagtrain.plan.interpret import interpret
from dagtrain.trace import flatten, leaves, map_leaves, names, trace, trace_nested, unflatten


class Pair(NamedTuple):
    first: Any
    second: Any


NEST = {"w": [1.0, (2.0, None)], "pair": Pair(3.0, {"deep": 4.0}), "empty": {}, "b": 5.0}


def test_flatten_names_leaves_by_their_path() -> None:
    assert flatten(NEST, "p")[0] == {"p.w.0": 1.0, "p.w.1.0": 2.0, "p.pair.0": 3.0, "p.pair.1.deep": 4.0, "p.b": 5.0}
    assert names(NEST) == ["w.0", "w.1.0", "pair.0", "pair.1.deep", "b"]
    assert leaves(NEST) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_unflatten_undoes_flatten() -> None:
    named, structure = flatten(NEST)
    again = unflatten(structure, named.values())
    assert again == NEST
    assert isinstance(again["pair"], Pair)
    assert isinstance(again["w"][1], tuple)


def test_structures_compare_and_pickle() -> None:
    assert flatten(NEST)[1] == flatten(map_leaves(lambda v: v * 2, NEST))[1]
    assert flatten([1, 2])[1] != flatten((1, 2))[1]
    assert pickle.loads(pickle.dumps(flatten(NEST)[1])) == flatten(NEST)[1]


def test_order_is_that_of_writing() -> None:
    assert names({"z": 1, "a": 2}) == ["z", "a"]


def test_map_over_several_nests() -> None:
    assert map_leaves(lambda a, b: a + b, {"x": 1, "y": [2]}, {"x": 10, "y": [20]}) == {"x": 11, "y": [22]}
    with pytest.raises(ArgumentError, match="differ in structure"):
        map_leaves(lambda a, b: a, {"x": 1}, [1])


def test_keys_are_text_and_names_are_unique() -> None:
    with pytest.raises(ArgumentError, match="text as keys, got 1 at p"):
        flatten({1: 2.0}, "p")
    with pytest.raises(ArgumentError, match=r"two leaves have the name 'a\.b'"):
        flatten({"a.b": 1, "a": {"b": 2}})


def test_trace_names_inputs_and_outputs() -> None:
    graph = trace(lambda params, x: {"y": x @ params["w"], "b": [params["b"]]}, {"w": np.zeros((3, 2)), "b": np.zeros(2)}, np.zeros((4, 3)))
    assert list(graph.inputs) == ["params.w", "params.b", "x"]
    assert list(graph.outputs) == ["y", "b.0"]


def test_trace_takes_specs_arrays_and_numbers() -> None:
    graph = trace(lambda a, b, c: a + b + c, dt.Spec((2,), np.dtype("f4")), np.zeros(2, "f4"), 1.5)
    assert [leaf.spec for leaf in graph.inputs.values()] == [((2,), np.float32, ()), ((2,), np.float32, ()), ((), np.float64, ())]


def test_arguments_without_names_are_numbered() -> None:
    assert list(trace(lambda *xs: sum(xs), 1.0, 2.0).inputs) == ["xs_0", "xs_1"]
    assert list(trace(np.hypot, 1.0, 2.0).inputs) in (["argument_0", "argument_1"], ["x1", "x2"])


def test_function_runs_once() -> None:
    calls: list[int] = []

    def function(x: Any) -> Any:
        calls.append(1)
        return x * 2

    graph = trace(function, 1.0)
    interpret(graph, 2.0)
    interpret(graph, 3.0)
    assert calls == [1]


def test_python_loops_and_branches_over_shapes() -> None:
    def function(x: Any) -> Any:
        for _ in range(x.shape[0]):
            x = x * 2 if x.ndim == 1 else x + 1
        return x

    assert interpret(trace(function, np.zeros(3)), [1.0, 2.0, 3.0])[0].tolist() == [8, 16, 24]


def test_nested_results_come_back_as_they_were() -> None:
    traced = trace_nested(lambda x: (x, {"a": x + 1, "none": None}), 1.0)
    values = interpret(traced.graph, 5.0)
    assert unflatten(traced.results, values) == (5.0, {"a": 6.0, "none": None})


def test_constant_result() -> None:
    assert interpret(trace(lambda x: 3, 1.0), 0.0)[0] == 3


@pytest.mark.parametrize("result", ["text", object(), {1, 2}])
def test_result_that_is_no_tensor_is_named(result: Any) -> None:
    with pytest.raises(ArgumentError, match=r"returned a .* at 'a'"):
        trace(lambda x: {"a": result}, 1.0)


def test_argument_that_is_no_array_is_named() -> None:
    with pytest.raises(DTypeError, match=r"argument 'params\.w'.*(<U4|object)"):
        trace(lambda params: params["w"], {"w": np.array("text")})


def test_too_many_arguments_are_counted() -> None:
    with pytest.raises(ArgumentError, match="takes 1 positional arguments, got 2"):
        trace(lambda x: x, 1.0, 2.0)


def test_two_traces_share_no_inputs() -> None:
    first, second = (trace(np.sin, 1.0) for _ in range(2))
    assert first == second
    assert not set(first.inputs.values()) & set(second.inputs.values())


@pytest.mark.parametrize("draw", [np.random.rand, random.random], ids=["NumPy", "Python"])  # what users write
def test_random_numbers_that_would_be_constants_are_refused(draw):
    with pytest.raises(ArgumentError, match=r"global random numbers.*dt\.normal"):
        dt.trace(lambda x: x + draw(), np.zeros(2))
    constant = draw()
    assert np.array_equal(dt.compile(lambda x: x + constant)(np.zeros(2)), np.full(2, constant))


def test_random_numbers_that_no_result_depends_on_are_none_of_a_trace():
    def function(x):
        np.random.rand()  # noqa: NPY002  # as another thread may
        return x + 1

    assert len(dt.trace(function, np.zeros(2)).outputs) == 1
