"""A chain of 100,000 nodes: nothing recurses, nothing is slower than in proportion, and memory comes back."""

from __future__ import annotations

import gc
import pickle
import time
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.graph import Graph, Tensor
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient, optimize, verify

LENGTH = 50_000  # of two nodes each


def chain(x: Tensor, length: int = LENGTH) -> Tensor:
    for _ in range(length):
        x = np.sin(x) + 0.25
    return x


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without Python's collector, which would look at half a million objects again and again."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_chain_builds_differentiates_optimises_runs_and_is_freed() -> None:
    started = time.perf_counter()
    x = dt.input("x", (), np.float64)
    y = chain(x)
    forward = Graph({"x": x}, {"y": y})
    assert len(forward) == 2 * LENGTH + 2
    verify(forward)
    graph = Graph({"x": x}, {"y": y, "g": gradient(y, [x])[0]})
    short = optimize(graph)
    assert len(graph.key) == 64
    for value, derivative in (interpret(graph, 0.5), interpret(short, 0.5)):
        expected, slope = 0.5, 1.0
        for _ in range(LENGTH):
            slope *= np.cos(expected)
            expected = np.sin(expected) + 0.25
        assert value == expected
        assert derivative == slope
    assert time.perf_counter() - started < 90
    last = weakref.ref(y)
    del x, y, forward, graph, short
    gc.collect()
    assert last() is None


def test_chain_is_pickled_without_recursion() -> None:
    graph = Graph.of(chain(dt.input("x", (), np.float64), 10_000))
    again = pickle.loads(pickle.dumps(graph))
    assert len(again) == len(graph)
    assert again.key == graph.key


def test_chain_has_a_text() -> None:
    assert str(Graph.of(chain(dt.input("x", (), np.float64), 10_000))).count("\n") == 20_003
