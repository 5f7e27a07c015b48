"""A plan as an object: calls from threads, errors that lead to the user's line, source in tracebacks, pickling."""

from __future__ import annotations

import linecache
import pickle
import subprocess
import sys
import threading
import traceback
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DagtrainError, ExecutionError
from dagtrain.graph import Graph
from dagtrain.plan import Plan, interpret, node_values


def failing() -> Graph:
    """A graph that takes a row by an index that may be out of bounds."""
    x, i = dt.input("x", (3, 2), "f8"), dt.input("i", (), "i8")
    rows = np.take(x + 1, i, axis=0)  # the line that errors must name
    return Graph({"x": x, "i": i}, {"y": rows * 2})


LINE = failing.__code__.co_firstlineno + 3


def test_threads_may_call_one_plan_at_once() -> None:
    plan = dt.trace(lambda x: np.sum(np.tanh(x) @ np.tanh(x).T, axis=0), np.zeros((50, 50))).plan()
    values = [np.full((50, 50), v) for v in np.linspace(0, 1, 8)]
    expected = [plan(v)[0] for v in values]
    wrong = []

    def work(number: int) -> None:
        wrong.extend(number for _ in range(50) if not np.array_equal(plan(values[number])[0], expected[number]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_results_are_the_callers_own() -> None:
    plan = dt.trace(lambda x: x + 1, np.zeros(3)).plan()
    (first,) = plan(np.zeros(3))
    plan(np.full(3, 7.0))
    assert first.tolist() == [1, 1, 1]


@pytest.mark.parametrize("run", [interpret, lambda graph, *values: Plan(graph)(*values)], ids=["interpreter", "plan"])
def test_an_error_in_a_kernel_names_the_op_and_the_users_line(run: object) -> None:
    assert run(failing(), np.zeros((3, 2)), 2)[0].tolist() == [2, 2]  # type: ignore[operator]  # parametrised
    with pytest.raises(ExecutionError, match=rf"take.*test_plan\.py:{LINE} in failing.*out of bounds"):
        run(failing(), np.zeros((3, 2)), 3)  # type: ignore[operator]  # parametrised


def test_an_error_in_the_body_of_a_loop_names_the_users_line() -> None:
    graph = dt.trace(lambda x, i: dt.scan(lambda c, k: (c + np.take(x, k), None), x[0], i)[0], np.zeros(3), np.zeros(2, int))
    for run in (lambda *v: interpret(graph, *v), Plan(graph)):
        with pytest.raises(ExecutionError, match=r"take.*test_plan\.py:\d+"):
            run(np.zeros(3), np.array([1, 5]))


def test_equal_graphs_share_a_plan_unless_an_error_would_name_another_line() -> None:
    def again(i: dt.Tensor, x: dt.Tensor) -> dt.Tensor:
        return np.take(x, i)

    def elsewhere(i: dt.Tensor, x: dt.Tensor) -> dt.Tensor:
        return np.take(x, i)

    def graph(function: Any, size: int = 5) -> Graph:
        return dt.trace(lambda i, x: dt.scan(lambda c, k: (c + function(k, x), None), 0.0, i)[0], np.zeros(2, int), np.zeros(size))

    plan = graph(again).plan()
    assert graph(again).plan() is plan
    assert graph(again).plan(approximate=True) is not plan
    assert graph(elsewhere) == graph(again)
    for function in (again, elsewhere):
        with pytest.raises(ExecutionError, match=f"test_plan.py:{function.__code__.co_firstlineno + 1} in {function.__name__}"):
            graph(function).plan()([1, 7], np.zeros(5))
    assert graph(again, 10**6).plan() is graph(again, 10**6).plan(), "a large input is none of the plan's memory"
    large = dt.trace(lambda x: np.flip(np.tanh(x)) + x, np.zeros(10**6))
    assert large.plan() is not large.plan(), "large work space is not kept"


def test_the_source_of_a_plan_is_in_tracebacks() -> None:
    plan = Plan(failing())
    with pytest.raises(ExecutionError) as caught:
        plan(np.zeros((3, 2)), 3)
    cause = caught.value.__cause__
    assert cause is not None
    frames = [f for f in traceback.extract_tb(cause.__traceback__) if f.filename.startswith("<dagtrain plan")]
    assert "take(" in str(frames[0].line)
    assert linecache.getline(frames[0].filename, 1) == "def build(s, o, c, b):\n"


def test_inputs_are_checked_by_name() -> None:
    plan = dt.trace(lambda first, second: first @ second, np.zeros((2, 3)), np.zeros((3, 4))).plan()
    with pytest.raises(ArgumentError, match=r"takes 2 inputs \['first', 'second'\], got 1"):
        plan(np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match=r"input 'second' is float64\[3, 4\], got float32\[4, 3\]"):
        plan(np.zeros((2, 3)), np.zeros((4, 3), "f4"))
    with pytest.raises(ArgumentError, match="has 2 inputs"):
        interpret(dt.trace(lambda a, b: a + b, 1.0, 2.0), 1.0)
    with pytest.raises(ArgumentError, match=r"input 'a' is float64\[2\]"):
        interpret(dt.trace(lambda a: a + 1, np.zeros(2)), np.zeros(3))


def test_inputs_of_another_dtype_are_converted() -> None:
    (y,) = dt.trace(lambda x: x / 2, np.zeros(2, "f4")).plan()([1, 2])
    assert y.dtype == np.float32
    assert y.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("declared", "array"),
    [
        (np.zeros(2, "f4"), [1j, 2]),
        (np.zeros(2, int), [1.5, 2]),
        (np.zeros(2, bool), [1, 2]),
        (np.zeros(2, "f4"), np.array([1, "a"], object)),
    ],
)
def test_no_input_loses_a_part_of_its_numbers(declared, array) -> None:
    graph = dt.trace(lambda x: x + x, declared)
    for execute in (graph.plan(), lambda *values: interpret(graph, *values)):
        with pytest.raises(DagtrainError, match=r"input 'x' is .*, got|not object"):
            execute(array)


def test_a_plan_runs_in_another_process() -> None:
    plan = dt.trace(lambda x: dt.scan(lambda c, v: (c + v, c * v), 0.0 * x[0], x)[1], np.zeros(3)).plan()
    code = "import sys, pickle; plan = pickle.load(sys.stdin.buffer); print(plan([1.0, 2.0, 3.0])[0].tolist())"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(plan), capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == str(plan([1.0, 2.0, 3.0])[0].tolist())


def test_a_pickled_plan_is_equal_and_keeps_its_errors() -> None:
    plan = Plan(failing())
    copy = pickle.loads(pickle.dumps(plan))
    assert copy.key == plan.key
    assert copy.source == plan.source
    assert copy.memory == plan.memory
    assert copy.inputs == plan.inputs
    with pytest.raises(ExecutionError, match=f"test_plan.py:{LINE}"):
        copy(np.zeros((3, 2)), 3)


def test_the_key_tells_plans_apart_by_source_and_constants() -> None:
    def keyed(value: float) -> str:
        return dt.trace(lambda x: x * value, np.zeros(2)).plan().key

    assert keyed(2.0) == keyed(2.0)
    assert keyed(2.0) != keyed(3.0)


def test_the_source_shows_the_layer_and_the_phase_of_each_call() -> None:
    def loss(w: object, x: object) -> object:
        with dt.scope("dense_1"):
            return np.sum(np.tanh(x @ w))  # type: ignore[operator]  # tensors

    source = Plan(dt.trace(dt.value_and_grad(loss), np.zeros((2, 2)), np.zeros((3, 2)))).source
    assert "dense_1/forward" in source
    assert "dense_1/gradient" in source


def test_the_interpreter_shows_each_value_as_it_comes() -> None:
    seen = []
    node_values(dt.trace(lambda x: np.exp(x) + 1, 0.0), [0.0], watch=lambda node, value: seen.append((node.op, float(value))))
    assert seen == [("input", 0.0), ("exp", 1.0), ("constant", 1.0), ("add", 2.0)]


def test_optimize_can_be_left_out() -> None:
    graph = dt.trace(lambda x: np.negative(np.negative(x)), np.zeros(2))
    assert "negative" in graph.plan(optimize=False).source
    assert "negative" not in graph.plan().source
