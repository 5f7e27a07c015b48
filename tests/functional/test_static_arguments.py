"""`compile` with static arguments: by position and name, with defaults, by keyword alone; one compilation for each value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DTypeError, GraphError, UnknownNameError

X = np.array([1.0, 2.0])


def test_static_arguments_are_python_values_and_each_value_is_compiled_once() -> None:
    traced = []

    def f(x: Any, steps: int, mode: str = "sum", *, shape: Any = (1, 2)) -> Any:
        traced.append((steps, mode, shape))
        for _ in range(steps):
            x = x * 2
        return np.sum(x) if mode == "sum" else x.reshape(shape)

    g = dt.compile(f, static_argnums=1, static_argnames=("mode", "shape"))
    assert g(X, 2) == g(X * 1, steps=2) == g(X, 2, "sum") == 12.0
    assert g(X, 0, mode="rows", shape=(2, 1)).shape == g(steps=0, x=X, mode="rows", shape=(2, 1)).shape == (2, 1)
    assert traced == [(2, "sum", (1, 2)), (0, "rows", (2, 1))]
    assert list(g.graph.inputs) == ["x"]
    assert "2 values of mode, shape, steps" in repr(g)
    assert g(dt.array(X), 1).compute() == 6.0
    assert dt.grad(lambda x: g(x, 3))(X).tolist() == [8, 8]


def test_numbers_of_other_types_and_extra_arguments_are_apart() -> None:
    g = dt.compile(lambda n, *xs, **more: xs[0] * n + more["y"], static_argnums=0)
    assert g(2, 3, y=1) == 7
    assert isinstance(g(2, 3, y=1), int)
    assert isinstance(g(2.0, 3, y=1), float)
    gradient = dt.compile(dt.grad(lambda x, power: x**power), static_argnames="power")
    assert gradient(3.0, 2) == 6.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dt.compile(lambda x, n: x, static_argnums=2), ArgumentError, "the argument 2, but <lambda> has 2"),
        (lambda: dt.compile(lambda x, mode: x, static_argnames="mod"), UnknownNameError, "Did you mean 'mode'"),
        (lambda: dt.compile(lambda x, n: x, static_argnums=1)(X, X), ArgumentError, "'n' is a ndarray, which has no hash"),
        (lambda: dt.compile(lambda x, n: x, static_argnums=1)(X), ArgumentError, "missing a required argument: 'n'"),
        (lambda: dt.compile(lambda x, mode: x)(X, "sum"), DTypeError, "'mode'.*static_argnames"),
        (lambda: dt.compile(lambda x, n: sum(x for _ in range(n)))(X, 2), GraphError, "static_argnames"),
    ],
)
def test_wrong_static_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_approximate_plans_hold_for_each_value_of_a_static_argument():
    def f(x, n):
        return n * (x * 0.0 + x)

    x = np.array([1.0, np.inf])
    with np.errstate(invalid="ignore"):
        assert np.isnan(dt.compile(f, static_argnums=1)(x, 2)[1])
    np.testing.assert_array_equal(dt.compile(f, static_argnums=1, approximate=True)(x, 2), [2.0, np.inf])
    np.testing.assert_array_equal(dt.compile(lambda x: f(x, 2), approximate=True)(x), [2.0, np.inf])
