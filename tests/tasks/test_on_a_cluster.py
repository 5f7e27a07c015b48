"""The same on Dask's distributed scheduler: bits, futures, persisted tensors, keys that never name two tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.backends.blas import one_blas_thread
from dagtrain.errors import ArgumentError, ExecutionError
from dagtrain.graph import Tensor
from dagtrain.plan import interpret

distributed = pytest.importorskip("distributed")


@pytest.fixture(autouse=True)
def no_warnings_of_the_scheduler(client: Any, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Dask's scheduler, which runs in this process, warns when a key recurs with other dependencies."""
    logger = logging.getLogger("distributed.scheduler")
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)
    assert not [r.getMessage() for r in caplog.get_records("call") if "run_spec" in r.getMessage()]


def loss(params: Any, x: Any, y: Any) -> Any:
    h = np.tanh(x @ params["w1"] + params["b1"])
    return np.mean((h @ params["w2"] - y) ** 2)


RNG = np.random.default_rng(0)
PARAMS = {"w1": RNG.normal(size=(30, 40)), "b1": RNG.normal(size=40), "w2": RNG.normal(size=(40, 3))}
X, Y = RNG.normal(size=(50, 30)), RNG.normal(size=(50, 3))
VALUES = [*PARAMS.values(), X, Y]


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    with one_blas_thread():
        return [v.tobytes() for v in interpret(dt.trace(dt.value_and_grad(loss), PARAMS, X, Y), *VALUES)]


@pytest.mark.parametrize("granularity", ["op", "fragment", 1e-7])
def test_a_gradient_has_the_bits_of_the_interpreter(client: Any, expected: list[bytes], granularity: Any) -> None:
    graph = dt.trace(dt.value_and_grad(loss), PARAMS, X, Y)
    results = dask.compute(*graph.to_delayed(*VALUES, granularity=granularity))
    assert [v.tobytes() for v in results] == expected


def test_futures_and_chunks_as_inputs(client: Any, expected: list[bytes]) -> None:
    graph = dt.trace(dt.value_and_grad(loss), PARAMS, X, Y)
    x, y = client.scatter(X), client.submit(np.multiply, Y, 1.0)
    for batch in ((x, y), (da.from_array(X, chunks=10), dask.delayed(np.multiply)(y, 1.0)), (da.from_array(X, chunks=20).persist(), y)):
        results = dask.compute(*graph.to_delayed(*PARAMS.values(), *batch))
        assert [v.tobytes() for v in results] == expected


def network(size: int = 200) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Large enough to be cut by default, or smaller."""
    x = dt.array(RNG.normal(size=(size, size)), name="x")
    h = np.tanh(x @ x) * 0.1
    cost = np.sum(np.tanh(h @ x) ** 2)
    return x, cost, [dt.grad(cost, x), h * 2]


@pytest.mark.parametrize("size", [20, 200])
def test_tensors_in_every_grouping(client: Any, size: int) -> None:
    _, cost, (g, h) = network(size)
    expected = [t.compute() for t in (cost, g, h)]
    for _ in range(2):
        assert cost.compute(scheduler=client) == expected[0]
        results = dask.compute(cost, g, h)
        assert results[0] == expected[0]
        assert np.array_equal(results[1], expected[1])
        assert np.array_equal(results[2], expected[2])
        assert np.array_equal(dask.compute(h, g)[1], expected[1])
    alone = client.compute(cost)
    together = client.compute([cost, g])
    assert alone.result() == expected[0]
    assert together[0].result() == expected[0]
    assert [f.result() for f in client.compute([cost, cost + 1])] == [expected[0], expected[0] + 1]


def test_persisted_tensors_stay_on_the_workers(client: Any) -> None:
    _, cost, (g, _) = network()
    tensor = g.persist()
    distributed.wait(tensor)
    assert client.who_has()[tensor.__dask_keys__()[0]]
    assert np.array_equal(tensor.compute(), g.compute())
    assert np.array_equal((tensor * 2).compute(), g.compute() * 2)
    assert dask.compute(np.sum(tensor), cost) == (np.sum(g).compute(), cost.compute())


def test_a_future_is_an_operand_of_an_expression(client: Any) -> None:
    future = client.submit(np.negative, X)
    leaf = dt.from_delayed(future, X.shape, "f8", name="x")
    assert np.sum(leaf).compute() == np.sum(np.negative(X))
    wrong = dt.from_delayed(future, X.shape, "f4", name="x")
    with pytest.raises(ArgumentError, match=r"'x' was declared as float32\[50, 30\] and came as float64\[50, 30\]"):
        np.sum(wrong).compute()


def test_tensors_travel_to_workers(client: Any) -> None:
    _, cost, _ = network()
    assert client.submit(lambda t: t.compute(), [cost][0]).result() == cost.compute()


def test_an_error_on_a_worker_names_the_users_line(client: Any) -> None:
    rows = np.take(dt.array(np.ones((3, 2)), name="x"), dt.array(7, name="i"), axis=0)
    with pytest.raises(ExecutionError, match=r"take.*test_on_a_cluster\.py:\d+.*out of bounds"):
        rows.compute(scheduler=client)


def test_results_do_not_depend_on_threads_of_blas_in_this_process(client: Any) -> None:
    x = dt.array(RNG.normal(size=(600, 600)).astype("f4"), name="x")
    y = x @ x @ x
    assert y.compute().tobytes() == y.compute(scheduler=client).tobytes() == y.compute(scheduler="threads").tobytes()
