"""`sort`, `argsort` and `top_k`: ties, NaN, gradients, and that only what is read is computed."""

from __future__ import annotations

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, ShapeError

A = np.array([[3.0, 1.0, 3.0, -2.0, 1.0], [0.0, np.nan, np.inf, -np.inf, 5.0]])


def test_equal_elements_keep_their_order_and_nan_is_greatest() -> None:
    values, positions = dt.compile(lambda a: dt.top_k(a, 4))(A)
    np.testing.assert_array_equal(values, [[3, 3, 1, 1], [np.nan, np.inf, 5, 0]])
    assert positions.tolist() == [[0, 2, 1, 4], [1, 2, 4, 0]]
    order, ordered = dt.compile(lambda a: (np.argsort(a, axis=1), np.sort(a)))(A)
    np.testing.assert_array_equal(order, np.argsort(A, axis=1, kind="stable"))
    np.testing.assert_array_equal(ordered, np.sort(A))


def test_sorting_and_its_positions_are_one_node() -> None:
    f = dt.compile(lambda a: (np.sort(a), np.argsort(a)))
    f(A)
    assert f.plan.source.count("sort(") == 1
    alone = dt.compile(np.sort)
    alone(A)
    assert "None]" in alone.plan.source


def test_gradients_go_back_to_where_elements_came_from() -> None:
    a = A[0] + np.array([0, 0, 0.5, 0, 0.25])
    assert dt.gradcheck(lambda a: np.sort(a) @ np.arange(5.0) + np.sum(dt.top_k(a, 2)[0] ** 2), a)
    second = dt.grad(lambda a: dt.top_k(a, 2, axis=0)[0][1])(A[0])  # of two equal ones the later
    assert second.tolist() == [0, 0, 1, 0, 0]


def test_mistakes_are_named() -> None:
    with pytest.raises(ShapeError, match="there are 5 elements along axis 1"):
        dt.top_k(A, 6)
    with pytest.raises(ShapeError, match="no axis"):
        dt.top_k(1.0, 1)
    with pytest.raises(ArgumentError, match="k of top_k"):
        dt.top_k(A, 1.5)
