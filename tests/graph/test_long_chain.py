"""A long chain: nothing recurses, time is linear, and memory is released."""

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

pytestmark = pytest.mark.slow

LENGTH = 2_000  # of two nodes each: more than Python recurses
LONG = 50_000


def chain(x: Tensor, length: int) -> Tensor:
    for _ in range(length):
        x = np.sin(x) + 0.25
    return x


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without Python's garbage collector, which would scan half a million objects again and again."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def live(length: int) -> float:
    """Build a chain, differentiate, optimise, run and release it; return the CPU seconds."""
    started = time.process_time()
    x = dt.input("x", (), np.float64)
    y = chain(x, length)
    forward = Graph({"x": x}, {"y": y})
    assert len(forward) == 2 * length + 2
    verify(forward)
    graph = Graph({"x": x}, {"y": y, "g": gradient(y, [x])[0]})
    short = optimize(graph)
    assert len(graph.key) == 64
    for value, derivative in (interpret(graph, 0.5), interpret(short, 0.5)):
        expected, slope = 0.5, 1.0
        for _ in range(length):
            slope *= np.cos(expected)
            expected = np.sin(expected) + 0.25
        assert value == expected
        assert derivative == pytest.approx(slope, rel=1e-12, abs=0)
    seconds = time.process_time() - started
    last = weakref.ref(y)
    del x, y, forward, graph, short
    gc.collect()
    assert last() is None
    return seconds


@pytest.mark.usefixtures("no_collector")
def test_chain_lives_in_time_in_proportion_to_its_length() -> None:
    live(10)  # imports and caches
    least = min(live(LENGTH // 8) for _ in range(2))
    assert live(LENGTH) < 3 * 8 * least


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("no_collector")
def test_chain_of_a_hundred_thousand_nodes() -> None:
    assert live(LONG) < 90


def test_chain_is_pickled_without_recursion(thorough: bool) -> None:
    graph = Graph.of(chain(dt.input("x", (), np.float64), 10_000 if thorough else LENGTH))
    again = pickle.loads(pickle.dumps(graph))
    assert len(again) == len(graph)
    assert again.key == graph.key


def test_chain_has_a_text() -> None:
    assert str(Graph.of(chain(dt.input("x", (), np.float64), LENGTH))).count("\n") == 2 * LENGTH + 3
