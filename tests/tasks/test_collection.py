"""A tensor is a Dask collection: compute, persist, optimize, visualize, tokenize, and delayed functions of tensors."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.base import tokenize

import dagtrain as dt
from dagtrain.backends.blas import one_blas_thread
from dagtrain.errors import ArgumentError, DTypeError
from dagtrain.graph import Tensor
from dagtrain.plan import interpret
from dagtrain.tasks import tokens


@pytest.fixture
def expression() -> tuple[Tensor, Tensor, Tensor]:
    a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    return a, b, (a + b) * (b + 1)


def test_compute_gives_plain_numbers_and_arrays(expression: Any) -> None:
    *_, e = expression
    assert e.compute() == 6.0
    assert type(e.compute()) is float
    assert type((e > 1).compute()) is bool
    assert type(dt.array(3).compute()) is int
    assert isinstance((dt.array(np.float32(2)) * 2).compute(), np.float32)
    assert (dt.array([1.0, 2.0]) ** 2).compute().tolist() == [1, 4]


def test_the_example_everyone_knows(expression: Any) -> None:
    a, b, e = expression
    assert dask.compute(*dt.grad(e, [a, b])) == (2.0, 5.0)
    assert dask.compute(e, {"grads": dt.grad(e, [a, b])}) == (6.0, {"grads": [2.0, 5.0]})


def test_compute_in_this_process_imports_no_dask() -> None:
    code = (
        "import sys, dagtrain as dt; assert dt.array(2.0).compute() == 2.0; print([m for m in sys.modules if m in ('dask', 'distributed')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_schedulers_give_the_bits_of_this_process(scheduler: str) -> None:
    rng = np.random.default_rng(0)
    x = dt.array(rng.normal(size=(200, 300)).astype("f4"), name="x")
    cost = np.sum(np.tanh(x @ x.T))
    grads = dt.grad(cost, x)
    with one_blas_thread():
        expected = interpret(dt.Graph({}, {"g": grads}))[0]
    assert grads.compute().tobytes() == expected.tobytes()
    assert grads.compute(scheduler=scheduler).tobytes() == expected.tobytes()
    value, again = dask.compute(cost, grads, scheduler=scheduler)
    assert value == cost.compute()
    assert again.tobytes() == expected.tobytes()


def test_tensors_are_collections(expression: Any) -> None:
    *_, e = expression
    assert dask.is_dask_collection(e)
    assert e.__dask_keys__() == [e.__dask_layers__()[0]]
    assert set(e.__dask_keys__()) <= set(dict(e.__dask_graph__()))


def test_tensors_computed_together_share_their_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("dagtrain.tasks.run.run_plan", counted(calls))
    x = dt.array(np.ones((300, 300)), name="x")
    common = x
    for _ in range(12):
        common = np.tanh(common @ x) * 0.01  # enough work for tasks of its own
    dask.compute(np.sum(common), np.max(common), common * 2, scheduler="sync")
    assert sum(source.count("matmul(") for source in calls) == 12


def counted(calls: list[str]) -> Any:
    from dagtrain.tasks.run import run_plan

    def run(plan: Any, arrays: Any) -> Any:
        calls.append(plan.source)
        return run_plan(plan, arrays)

    return run


def test_tokens_are_of_the_content(expression: Any) -> None:
    a, b, e = expression
    assert tokenize(e) == tokenize((a + b) * (b + 1))
    again = dt.array(2.0, name="a")
    assert tokenize((again + b) * (b + 1)) == tokenize(e)
    assert tokenize((b + a) * (b + 1)) != tokenize(e)
    assert tokenize(pickle.loads(pickle.dumps(e))) == tokenize(e)


def test_what_is_known_of_nodes_goes_with_them(expression: Any) -> None:
    tokenize(expression[-1])
    gc.collect()
    before = len(tokens._cache)
    y = dt.array(np.arange(3.0))
    for _ in range(100):
        y = np.sin(y)
    tokenize(y)
    assert len(tokens._cache) >= before + 100
    del y
    gc.collect()
    assert len(tokens._cache) == before


def test_persist(expression: Any) -> None:
    a, _, e = expression
    persisted = e.persist()
    assert isinstance(persisted, Tensor)
    assert persisted.__dask_keys__() == e.__dask_keys__()
    assert len(dict(persisted.__dask_graph__())) == 1
    assert persisted.compute() == 6.0
    assert (persisted * a).compute() == 12.0
    assert dask.compute(persisted + 1, e, persisted) == (7.0, 6.0, 6.0)
    assert [t.compute() for t in dask.persist(persisted * 2, e)] == [12.0, 6.0]  # the key of `e` is that of `persisted`
    first, second = dask.persist(e, a * 3)
    assert (first + second).compute() == 12.0
    assert dt.grad(persisted * a, a).compute() == 6.0


def test_persisted_tensors_of_graphs_that_are_cut_differently() -> None:
    x = dt.array(np.random.default_rng(0).normal(size=(300, 300)), name="x")
    u = np.tanh(x @ x) @ x
    v = np.tanh(u @ x) @ x
    w = u @ v
    persisted_v, persisted_u = dask.persist(v, u)
    expected = [t.compute() for t in (u, v, w)]
    for results in (
        dask.compute(u, v, w, persisted_u @ persisted_v, scheduler="sync"),
        dask.compute(persisted_u, persisted_v, w, u @ persisted_v, scheduler="sync"),
    ):
        for a, b in zip((*expected, expected[2]), results, strict=True):
            assert np.array_equal(a, b)
    assert np.array_equal(dask.compute(persisted_u @ v, scheduler="sync", optimize_graph=False)[0], expected[2])
    (optimised,) = dask.optimize(w)
    assert np.array_equal(dask.compute(optimised * 1, v, u, scheduler="sync")[0], expected[2])


def test_optimize_gives_tensors(expression: Any) -> None:
    (optimised,) = dask.optimize(expression[-1])
    assert isinstance(optimised, Tensor)
    assert optimised.compute() == 6.0


def test_without_optimization(expression: Any) -> None:
    *_, e = expression
    assert dask.compute(e, e * 2, optimize_graph=False) == (6.0, 12.0)


def test_delayed_functions_of_tensors(expression: Any) -> None:
    a, b, e = expression
    pair = dask.delayed(lambda x, rest: (x, rest))(e, [a * 5, {"b": b}])
    assert pair.compute() == (6.0, [10.0, {"b": 1.0}])


def test_with_other_collections(expression: Any) -> None:
    *_, e = expression
    assert dask.compute(e, da.arange(4, chunks=2).sum(), dask.delayed(abs)(-3), "text") == (6.0, 6, 3, "text")


def test_dask_draws_tensors(expression: Any, tmp_path: Any) -> None:
    pytest.importorskip("graphviz")
    drawn = []

    def engine(graph: Any, **kwargs: Any) -> None:
        drawn.append(sorted(k if isinstance(k, str) else k[0] for k in dict(graph)))

    with dask.config.set({"visualization.engine": "graphviz"}), pytest.MonkeyPatch.context() as patch:
        patch.setattr("dask.dot.dot_graph", engine)
        dask.visualize(expression[-1], filename=str(tmp_path / "e"), engine="graphviz")
    assert [k.rsplit("-", 1)[0] for k in drawn[0]] == ["a", "b", "forward-multiply"]


def test_annotations_reach_the_tasks(expression: Any) -> None:
    *_, e = expression
    with dask.annotate(priority=7):
        graph = pickle.loads(pickle.dumps(e.__dask_graph__()))
    lowered = e.__dask_optimize__(graph, e.__dask_keys__())
    assert [layer.annotations for layer in lowered.layers.values()] == [{"priority": 7}]


def test_an_input_without_value_is_named_by_all_of_them() -> None:
    e = np.sum(dt.input("speed", (3,), "f4") * 2)
    for run in (e.compute, e.persist, lambda: dask.compute(e), lambda: dask.persist(e), lambda: e.compute(scheduler="sync")):
        with pytest.raises(ArgumentError, match=r"needs the input 'speed' \(float32\[3\], made at .*test_collection\.py"):
            run()
    assert dask.is_dask_collection(e)  # must not fail: Dask calls it with anything


def test_a_delayed_value_becomes_a_tensor_first():
    with pytest.raises(DTypeError, match=r"dagtrain.from_delayed\(value, shape, dtype\)"):
        dt.array(1.0) + dask.delayed(2.0)


def test_an_operation_with_a_dask_array_does_not_compute_it() -> None:
    def block(values: Any) -> Any:
        raise AssertionError("computed")

    x = da.ones(4, chunks=4).map_blocks(block, dtype=float, meta=np.empty(0))
    w = dt.array(np.ones(4), name="w")
    for operation in (lambda: w + x, lambda: x + w, lambda: np.maximum(x, w), lambda: np.concatenate([w, x])):
        with pytest.raises(DTypeError, match=r"would compute it here: make it a tensor first, with dagtrain\.from_delayed"):
            operation()
