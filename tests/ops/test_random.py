"""Random numbers: a pure function of the key, independent for different keys, with the right statistics."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DTypeError, ShapeError
from dagtrain.graph import Graph, Tensor
from dagtrain.ops.random import bernoulli, derive, fold_in, key, normal, uniform
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient

MANY = 200_000
RECORDED_KEY = np.array([8625009931718137656, 17075584166358200663], np.uint64)
RECORDED_UNIFORM = [0.8720734548204873, 0.29536538151378355, 0.4200976785072422]
RECORDED_NORMAL = [-1.7496944402112695, 0.5745441092559128, 0.6142833637530732]


def value(tensor: Tensor) -> Any:
    return interpret(Graph.of(tensor))[0]


def test_same_key_same_draw() -> None:
    for draw in (uniform, normal):
        first, second = (value(draw(key(7), (50,))) for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_different_seeds_different_draws() -> None:
    assert not np.intersect1d(value(uniform(key(1), (100,), dtype="f8")), value(uniform(key(2), (100,), dtype="f8"))).size


def test_fold_in_is_the_numpy_side() -> None:
    np.testing.assert_array_equal(value(fold_in(key(3), 5)), derive(key(3), 5))
    np.testing.assert_array_equal(value(fold_in(fold_in(key(3), 5), 6)), derive(derive(key(3), 5), 6))


def test_fold_in_of_a_tensor() -> None:
    n = dt.input("n", (), np.int64)
    graph = Graph({"n": n}, {"k": fold_in(key(3), n)})
    np.testing.assert_array_equal(interpret(graph, 5)[0], derive(key(3), 5))


def test_keys_folded_with_different_numbers_all_differ() -> None:
    parents = [key(0), key(1), derive(key(0), 0)]
    keys = {tuple(derive(parent, n)) for parent in parents for n in [*range(300), -1, 2**40, 2**63]}
    assert len(keys) == 3 * 303


def test_draws_of_folded_keys_are_independent() -> None:
    draws = np.stack([value(normal(fold_in(key(0), n), (20_000,), dtype="f8")) for n in range(6)])
    correlations = np.corrcoef(draws) - np.eye(6)
    assert np.abs(correlations).max() < 5 / np.sqrt(20_000)


def test_draws_are_the_same_in_another_process() -> None:
    code = (
        "import dagtrain as dt, numpy as np\nfrom dagtrain.ops.random import *\nfrom dagtrain.plan.interpret import interpret\n"
        "print(interpret(dt.Graph.of(normal(fold_in(key(9), 4), (5,))))[0].tobytes().hex())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == value(normal(fold_in(key(9), 4), (5,))).tobytes().hex()


def test_draws_stay_what_they_are() -> None:
    # A change of these numbers breaks the promise that a seed gives the same run in every version.
    np.testing.assert_array_equal(derive(key(7), 1), RECORDED_KEY)
    np.testing.assert_allclose(value(uniform(key(7), (3,), dtype="f8")), RECORDED_UNIFORM, rtol=1e-15)
    np.testing.assert_allclose(value(normal(key(7), (3,), dtype="f8")), RECORDED_NORMAL, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_uniform_statistics(dtype: str) -> None:
    draws = value(uniform(key(1), (MANY,), 2.0, 5.0, dtype=dtype))
    assert draws.dtype == np.dtype(dtype)
    wide = draws.astype(float)
    assert wide.min() >= 2
    assert wide.max() <= 5
    assert abs(wide.mean() - 3.5) < 5 * np.sqrt(9 / 12 / MANY) + 1e-3
    assert abs(wide.var() - 9 / 12) < 0.01
    counts, _ = np.histogram(wide, 10, (2, 5))
    assert np.abs(counts / MANY - 0.1).max() < 0.005


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_normal_statistics(dtype: str) -> None:
    draws = value(normal(key(1), (MANY,), -1.0, 2.0, dtype=dtype)).astype(float)
    standard = (draws + 1) / 2
    assert abs(standard.mean()) < 5 / np.sqrt(MANY)
    assert abs(standard.var() - 1) < 0.02
    assert abs((standard**3).mean()) < 0.04
    assert abs((standard**4).mean() - 3) < 0.15


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_bernoulli_statistics(probability: float) -> None:
    draws = value(bernoulli(key(1), probability, (MANY,)))
    assert set(np.unique(draws)) <= {0.0, 1.0}
    assert abs(draws.mean() - probability) <= 5 * np.sqrt(probability * (1 - probability) / MANY)


def test_draws_have_derivative_zero_and_functions_of_them_their_own() -> None:
    scale = dt.array(2.0)
    noise = normal(key(1), (4,), dtype="f8")
    (g,) = gradient(np.sum(noise * scale), [scale])
    np.testing.assert_allclose(value(g), value(noise).sum())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: key(-1), ArgumentError, "from 0 to 2\\*\\*64 - 1, got -1"),
        (lambda: key(1.5), ArgumentError, "got 1.5"),
        (lambda: key(True), ArgumentError, "got True"),
        (lambda: uniform(np.zeros(3, np.uint64), (2,)), ShapeError, "a key is uint64\\[2\\].*got uint64\\[3\\]"),
        (lambda: normal(np.zeros(2), (2,)), DTypeError, "a key is uint64\\[2\\].*got float64\\[2\\]"),
        (lambda: normal(key(0), (2,), dtype=int), DTypeError, "draws floats, not int64"),
        (lambda: fold_in(key(0), 1.5), DTypeError, "one whole number"),
        (lambda: fold_in(key(0), np.arange(2)), DTypeError, "one whole number"),
        (lambda: bernoulli(key(0), 1.5), ArgumentError, "between 0 and 1, got 1.5"),
    ],
)
def test_wrong_keys_and_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
