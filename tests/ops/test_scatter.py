"""`scatter` against NumPy, with equal places, zeros and ties; and gradients there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import UnknownNameError

A = np.array([1.0, -2.0, 3.0, 0.5])
PLACES = np.array([0, 2, 0, 0, -1])
VALUES = np.array([2.0, 5.0, -1.0, 4.0, 0.25])
HOW: dict[str, Any] = {"add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum}


@pytest.mark.parametrize("how", ["set", *HOW])
def test_values_are_those_of_numpy_and_gradients_are_right(how: str) -> None:
    expected = A.copy()
    if how == "set":
        expected[PLACES] = VALUES
    else:
        HOW[how].at(expected, PLACES, VALUES)
    np.testing.assert_array_equal(dt.scatter(A, PLACES, VALUES, how).compute(), expected)
    assert dt.gradcheck(lambda a, v: np.sum(np.sin(dt.scatter(a, PLACES, v, how))), A, VALUES, argnums=(0, 1))


def test_leading_axes_and_broadcast_updates() -> None:
    a, rows, columns = np.arange(12.0).reshape(3, 4), np.array([0, 2]), np.array([1, 3])
    expected = a.copy()
    expected[rows, columns] = 7
    np.testing.assert_array_equal(dt.scatter(a, (rows, columns), 7).compute(), expected)
    expected = a.copy()
    expected[rows] = [9, 8, 7, 6]
    np.testing.assert_array_equal(dt.scatter(a, rows, np.array([9, 8, 7, 6])).compute(), expected)


def test_the_last_update_of_a_place_has_the_cotangent() -> None:
    g = dt.grad(lambda v: np.sum(dt.scatter(A, PLACES, v) * 10))(VALUES)
    assert g.tolist() == [0, 10, 0, 10, 10]


def test_products_have_gradients_at_zeros() -> None:
    def product(a: Any, v: Any) -> Any:
        return dt.scatter(a, np.array([0, 0, 1, 1, 2]), v, "multiply")[:3] @ np.array([1.0, 10.0, 100.0])

    by_a, by_v = dt.grad(product, argnums=(0, 1))(np.array([2.0, 3.0, 0.0]), np.array([0.0, 5.0, 0.0, 0.0, 7.0]))
    assert by_a.tolist() == [0, 0, 700]
    assert by_v.tolist() == [10, 0, 0, 0, 0]


def test_equal_extremes_share_the_cotangent() -> None:
    def top(a: Any, v: Any) -> Any:
        return dt.scatter(a, np.array([0, 0, 1]), v, "maximum")[0]

    by_a, by_v = dt.grad(top, argnums=(0, 1))(np.array([4.0, 0.0]), np.array([4.0, 4.0, 9.0]))
    np.testing.assert_allclose([*by_a, *by_v], [1 / 3, 0, 1 / 3, 1 / 3, 0])


def test_unknown_ways_are_named() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown way to scatter 'mul'.*Did you mean 'multiply'"):
        dt.scatter(A, PLACES, VALUES, "mul")
