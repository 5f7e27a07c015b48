"""NumPy's ufuncs and operators on tensors: all of them, with NumPy 2's promotion and broadcasting."""

from __future__ import annotations

import itertools
import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, UnsupportedError
from dagtrain.graph import Graph, Tensor
from dagtrain.numpy_api.ufuncs import COMPOSED_UFUNCS, UFUNCS
from dagtrain.plan.interpret import interpret

from ..each import each

DTYPES = ["?", "i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8"]
BINARY = [np.add, np.multiply, np.divide, np.power, np.maximum, np.less, np.arctan2, np.floor_divide, np.hypot, np.logaddexp]
OPERATORS: list[Callable[..., Any]] = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow, operator.lt, operator.le,
    operator.gt, operator.ge, operator.eq, operator.ne,
]  # fmt: skip
# NumPy's ufuncs that tensors do not support; each raises an error that names it.
MISSING = {"bitwise_count", "conjugate", "divmod", "frexp", "isnat", "ldexp", "matvec", "modf", "nextafter", "spacing", "vecdot", "vecmat"}


def value(tensor: Tensor, *arrays: Any) -> Any:
    graph = Graph.of(tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return interpret(graph, *arrays)[0]


def quiet(function: Callable[..., Any], *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(function(*args))


def same(result: Any, expected: Any) -> None:
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """The result's dtype, or "error"."""
    try:
        return quiet(function, *args).dtype
    except (TypeError, OverflowError):
        return "error"


@each(itertools.product(UFUNCS, DTYPES))
def test_every_ufunc_in_every_dtype(ufunc: np.ufunc, dtype: str) -> None:
    arrays = [np.array([[1, 2, 3], [3, 1, 2]]).astype(dtype), np.array([[2, 1, 1], [1, 2, 3]]).astype(dtype)][: ufunc.nin]
    if ufunc is np.matmul:
        arrays[1] = arrays[1].T
    leaves = [dt.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    if outcome(ufunc, *arrays) == "error":
        with pytest.raises(DTypeError, match=ufunc.__name__):
            ufunc(*leaves)
        return
    y = ufunc(*leaves)
    expected = quiet(ufunc, *arrays)
    assert y.spec == dt.Spec(expected.shape, expected.dtype)
    same(value(y, *arrays), expected)


@each(itertools.product(DTYPES, DTYPES))
def test_promotion_of_two_arrays(left: str, right: str) -> None:
    a, b = np.ones((2, 3), left), np.ones(3, right)
    x, y = dt.input("x", a.shape, a.dtype), dt.input("y", b.shape, b.dtype)
    for ufunc in BINARY:
        dtype = outcome(ufunc, a, b)
        if dtype == "error":
            with pytest.raises(DTypeError):
                ufunc(x, y)
        else:
            assert ufunc(x, y).dtype == dtype
            same(value(ufunc(x, y), a, b), quiet(ufunc, a, b))


@pytest.mark.slow
@each(itertools.product(DTYPES, [2, 2.0, True, np.float32(2), np.float64(2), np.int8(2), np.array(2.0, "f2")]))
def test_promotion_of_numbers(dtype: str, number: Any) -> None:
    a = np.array([1, 2, 3]).astype(dtype)
    x = dt.input("x", a.shape, a.dtype)
    for ufunc in BINARY:
        for forwards in (True, False):
            args, tensors = ((a, number), (x, number)) if forwards else ((number, a), (number, x))
            result_dtype = outcome(ufunc, *args)
            if result_dtype == "error":
                with pytest.raises(DTypeError):
                    ufunc(*tensors)
            else:
                assert ufunc(*tensors).dtype == result_dtype
                same(value(ufunc(*tensors), a), quiet(ufunc, *args))


def test_python_numbers_are_weak_and_numpys_are_not() -> None:
    x = dt.input("x", (2,), np.float32)
    assert (x * 2.0).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64
    assert (dt.input("n", (2,), np.int8) + 1).dtype == np.int8


def test_comparisons_and_bounds_may_lie_beyond_the_dtype() -> None:
    a = np.array([0, 1, 255], np.uint8)
    x = dt.input("x", a.shape, a.dtype)
    for number in (-1, 256, 2**70, -(2**70)):
        for function in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
            same(value(function(x, number), a), function(a, number))
            same(value(function(number, x), a), function(number, a))
    same(value(np.clip(x, -1, 300), a), a)
    same(value(x.clip(1, 2**70), a), a.clip(1, 255))


def test_python_integer_beyond_the_dtype_is_refused_as_by_numpy() -> None:
    with pytest.raises(OverflowError):
        np.ones(2, np.int8) + 1000
    with pytest.raises((OverflowError, DTypeError)):
        dt.input("n", (2,), np.int8) + 1000


@each(itertools.product(OPERATORS, ["array", "number", "tensor"]))
def test_operators_in_both_directions(function: Callable[..., Any], other: str) -> None:
    a = np.array([[1.0, 2.5, 3.0], [0.5, 2.0, 7.0]])
    b: Any = {"array": np.array([2.0, 0.5, 3.0]), "number": 2.0, "tensor": np.array([2.0, 0.5, 3.0])}[other]
    x = dt.input("x", a.shape, a.dtype)
    if other == "tensor":
        y = dt.input("y", b.shape, b.dtype)
        same(value(function(x, y), a, b), quiet(function, a, b))
    else:
        same(value(function(x, b), a), quiet(function, a, b))
        same(value(function(b, x), a), quiet(function, b, a))


@pytest.mark.parametrize("function", [operator.neg, operator.pos, abs])
def test_signs(function: Callable[..., Any]) -> None:
    a = np.array([1.0, -2.0, 0.0])
    same(value(function(dt.input("x", a.shape, a.dtype)), a), function(a))


@pytest.mark.parametrize("function", [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift])
def test_bits(function: Callable[..., Any]) -> None:
    a, b = np.array([1, 6, 3]), np.array([3, 1, 2])
    x, y = dt.input("x", (3,), a.dtype), dt.input("y", (3,), b.dtype)
    same(value(function(x, y), a, b), function(a, b))
    same(value(~x, a), ~a)


def test_matmul_operator_with_arrays_on_either_side() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    same(value(dt.input("a", a.shape, a.dtype) @ b, a), a @ b)
    same(value(a @ dt.input("b", b.shape, b.dtype), b), a @ b)


def test_divmod() -> None:
    a = np.array([7.5, -7.5])
    quotient, rest = divmod(dt.input("x", a.shape, a.dtype), 2.0)
    same(value(quotient, a), a // 2.0)
    same(value(rest, a), a % 2.0)


SHAPES = [(), (1,), (4,), (3, 1), (1, 4), (3, 4), (2, 1, 4), (2, 3, 4), (0,), (2, 0)]


@each(itertools.product(SHAPES, SHAPES))
def test_broadcasting(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    x, y = dt.input("x", left, np.float64), dt.input("y", right, np.float64)
    try:
        expected = np.broadcast_shapes(left, right)
    except ValueError:
        with pytest.raises(ValueError, match="add cannot combine shapes"):
            x + y
        return
    a, b = np.random.default_rng(0).normal(size=left), np.random.default_rng(1).normal(size=right)
    assert (x + y).shape == expected
    same(value(x + y, a, b), np.asarray(a + b))


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.maximum, np.minimum])
def test_reduce(ufunc: np.ufunc, axis: Any) -> None:
    a = np.random.default_rng(0).normal(size=(3, 4))
    x = dt.input("x", a.shape, a.dtype)
    np.testing.assert_allclose(value(ufunc.reduce(x, axis=axis), a), ufunc.reduce(a, axis=axis), rtol=1e-14)
    np.testing.assert_allclose(value(ufunc.reduce(x, axis=axis, keepdims=True), a), ufunc.reduce(a, axis=axis, keepdims=True), rtol=1e-14)


def test_accumulate() -> None:
    a = np.random.default_rng(0).normal(size=(3, 4))
    x = dt.input("x", a.shape, a.dtype)
    np.testing.assert_allclose(value(np.add.accumulate(x, axis=1), a), np.add.accumulate(a, axis=1))
    np.testing.assert_allclose(value(np.multiply.accumulate(x), a), np.multiply.accumulate(a))


def test_all_of_numpys_ufuncs_are_supported_or_an_error() -> None:
    everything = {u for n in dir(np) if isinstance(u := getattr(np, n), np.ufunc)}
    assert {u.__name__ for u in everything - set(UFUNCS)} <= MISSING
    for ufunc in everything - set(UFUNCS) - set(COMPOSED_UFUNCS) - {np.divmod, np.conjugate}:
        leaves = [dt.input(f"x{i}", (2,), np.float64) for i in range(ufunc.nin)]
        with pytest.raises(UnsupportedError, match=rf"np\.{ufunc.__name__} is not supported on tensors"):
            ufunc(*leaves)


def test_conjugate_of_reals_is_itself() -> None:
    x = dt.input("x", (2,))
    assert np.conjugate(x) is x
