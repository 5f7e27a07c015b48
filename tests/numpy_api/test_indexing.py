"""Every form of index that tensors support, against NumPy, with derivatives; and the errors of all other forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, ShapeError, UnsupportedError
from dagtrain.graph import Graph
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient

X = np.random.default_rng(0).normal(size=(4, 5, 6))
H, J = np.array([3, 0, -1]), np.array([0, 2, 2])
K = np.array([[0, 1], [-2, 1]])

INDICES: list[Any] = [
    0, -1, np.int64(2), (1, 2), (1, -2, 3),
    slice(None), slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(3, 0, -2), slice(-2, None), slice(2, 2), slice(10, 20),
    slice(None, -10, -1), slice(-100, 100),
    (slice(1, 3), slice(None, None, -2)), (slice(None), 1), (0, slice(None), -1), (slice(None), slice(None), slice(5, None, -3)),
    None, (None, 1), (slice(None), None), (0, None, slice(1, 3), None), (Ellipsis, None), (None, Ellipsis, 0),
    Ellipsis, (Ellipsis, 0), (0, Ellipsis), (1, Ellipsis, slice(None, None, 2)), (), (Ellipsis,),
    H, [0, 2], K, (H, J), (H, slice(None), J), (slice(None), H), (slice(None), H, J), (slice(None), slice(None), K),
    (0, H), (H, 0), (slice(None), 0, H), (0, slice(None), H), (H, Ellipsis), (Ellipsis, H), (K, H[:2]), (H[:, None], J), (slice(1, 3), H),
    (slice(None, None, -1), H, slice(0, 2)),
    (H, J, J), (None, H), (H, None), (slice(None), None, H), (slice(None), H, None), (K, None, slice(1, 3)),
    ([0, 1], [2, 3], [4, 5]),
    range(2), range(0), [], [[]], slice(-5, None, -1), (slice(-9, None, -2), [0, 1]), (slice(None), slice(-7, -9, -1)),
    X[:, 0, 0] > 0, X > 0.5, (slice(None), X[0, :, 0] > 0), (1, X[0] > 0), (Ellipsis, [True, False, True, False, False, True]),
    (slice(None), H, None, 0), (H, None, 0), (None, H, None, J), (0, None, Ellipsis, H),
    (slice(None), 0, Ellipsis, [0, 3]),
    (0, Ellipsis, slice(None), [0, 3]), (0, slice(None), Ellipsis, [0, 3]), (slice(None), 0, [0, 3], Ellipsis),
]  # fmt: skip


def name(index: Any) -> str:
    return str(index).replace("slice(None, None, None)", ":").replace("\n", "")


@pytest.mark.parametrize("index", INDICES, ids=name)
def test_index_agrees_with_numpy(index: Any) -> None:
    x = dt.input("x", X.shape, X.dtype)
    y = x[index]
    assert y.shape == X[index].shape
    np.testing.assert_array_equal(interpret(Graph({"x": x}, {"y": y}), X)[0], X[index])


@pytest.mark.parametrize("index", INDICES, ids=name)
def test_derivative_of_index_is_a_sum_at_its_places(index: Any) -> None:
    x = dt.input("x", X.shape, X.dtype)
    weights = np.random.default_rng(1).normal(size=X[index].shape)
    (g,) = gradient(np.sum(x[index] * weights), [x])
    expected = np.zeros_like(X)
    np.add.at(expected, index, weights)
    np.testing.assert_allclose(interpret(Graph({"x": x}, {"g": g}), X)[0], expected, rtol=1e-14, atol=1e-15)


TENSOR_INDICES: list[tuple[Callable[[Any, Any], Any], Any]] = [
    (lambda x, i: x[i], H),
    (lambda x, i: x[i], K),
    (lambda x, i: x[i, J], H),
    (lambda x, i: x[:, i], H),
    (lambda x, i: x[np.arange(3), i], J),
    (lambda x, i: x[i, :, 0], H),
    (lambda x, i: x[i], np.int64(2)),
    (lambda x, i: x[1, i], np.int64(-1)),
    (lambda x, i: x[..., i], J),
]


@pytest.mark.parametrize(("function", "places"), TENSOR_INDICES)
def test_tensor_as_index_agrees_with_numpy(function: Any, places: Any) -> None:
    places = np.asarray(places)
    x, i = dt.input("x", X.shape, X.dtype), dt.input("i", places.shape, places.dtype)
    y = function(x, i)
    assert y.shape == function(X, places).shape
    np.testing.assert_array_equal(interpret(Graph({"x": x, "i": i}, {"y": y}), X, places)[0], function(X, places))


Y = np.random.default_rng(1).normal(size=(3, 4, 5, 2))


@pytest.mark.parametrize(
    "index",
    [
        (slice(None), H, slice(None), np.array([0, 1, 1])),
        (slice(None), 1, slice(None), np.array([0, 1])),
        (slice(None), np.array([0, 1]), slice(1, 3), 0),
        (np.array([0, 1]), slice(None), slice(None), np.array([0, 1])),
        (slice(None), H, H[:, None], slice(None)),
    ],
    ids=name,
)
def test_separated_arrays_put_their_axes_first(index: Any) -> None:
    y = dt.input("y", Y.shape, Y.dtype)
    assert y[index].shape == Y[index].shape
    np.testing.assert_array_equal(interpret(Graph({"y": y}, {"z": y[index]}), Y)[0], Y[index])


def test_index_of_an_empty_tensor() -> None:
    x = dt.input("x", (0, 3))
    assert x[:].shape == (0, 3)
    assert x[:, 1].shape == (0,)
    assert x[np.zeros(0, int)].shape == (0, 3)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (4, IndexError, "index 4 is out of bounds for axis 0 of length 4 (shape (4, 5, 6))"),
        ((0, -6), IndexError, "axis 1 of length 5"),
        (np.array([0, 4]), IndexError, "positions from 0 to 4 are out of bounds for axis 0 of length 4"),
        ((0, 0, 0, 0), ShapeError, "4 indices for a tensor of shape (4, 5, 6), which has 3 axes"),
        ((Ellipsis, Ellipsis), ShapeError, "at most one '...'"),
        (np.ones(3, bool), IndexError, "mask of shape (3,) does not fit"),
        (True, UnsupportedError, "mask"),
        ("name", UnsupportedError, "'name'"),
        (1.5, UnsupportedError, "1.5"),
        (np.array([0.5]), DTypeError, "positions must be integers"),
    ],
)
def test_wrong_index_is_named(index: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        dt.input("x", X.shape)[index]
    assert message in str(caught.value)


def test_tensor_index_out_of_bounds_is_an_error_of_the_run_at_the_users_line() -> None:
    x, i = dt.input("x", (3,)), dt.input("i", (2,), np.int64)
    graph = Graph({"x": x, "i": i}, {"y": x[i]})
    with pytest.raises(RuntimeError, match=r"gather .*test_indexing.py:\d+.*out of bounds"):
        interpret(graph, np.zeros(3), [0, 7])
