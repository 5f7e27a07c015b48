"""numpy.linalg's inverses, solutions and determinants: values and errors are NumPy's, gradients those of differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, ExecutionError, ShapeError

from ..each import each

FUNCTIONS = {np.linalg.inv, np.linalg.solve, np.linalg.det, np.linalg.slogdet}
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(4, 3, 3)) + 2 * np.eye(3), RNG.normal(size=(3, 3))
V = RNG.normal(size=3)
CASES = [
    *((f, (a,)) for f in (np.linalg.inv, np.linalg.det, np.linalg.slogdet) for a in (A, A[0], A[0] + 1j * B, np.zeros((2, 0, 0)))),
    *((np.linalg.solve, pair) for pair in ((A[0], V), (A, B), (A[0], A), (A, V), (A[0] + 1j * B, V), (A[0], B[:, :0]))),
]


@each(CASES)
def test_values_and_gradients(function: Any, arrays: tuple[Any, ...]) -> None:
    def flat(*xs: Any) -> list[Any]:
        result = function(*xs)
        return list(result) if isinstance(result, tuple) else [result]

    expected = flat(*arrays)
    for value, right in zip(flat(*map(dt.array, arrays)), expected, strict=True):
        assert value.dtype == np.asarray(right).dtype
        np.testing.assert_array_equal(value.compute(), right)
    if not all(np.size(right) for right in expected):
        return
    weights = [RNG.normal(size=np.shape(r)) + (1j * RNG.normal(size=np.shape(r)) if np.iscomplexobj(r) else 0) for r in expected]
    along = [RNG.normal(size=a.shape) + (1j * RNG.normal(size=a.shape) if np.iscomplexobj(a) else 0) for a in arrays]

    def cost(*xs: Any) -> Any:
        return sum(np.sum(np.real(y * w)) for y, w in zip(flat(*xs), weights, strict=True))

    grads = dt.grad(cost, tuple(range(len(arrays))))(*arrays)
    by_rule = sum(np.sum(np.real(g * d)) for g, d in zip(grads, along, strict=True))
    sides = [cost(*(a + s * d for a, d in zip(arrays, along, strict=True))) for s in (1e-5, -1e-5, 2e-5, -2e-5)]
    np.testing.assert_allclose(by_rule, (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / 12e-5, rtol=1e-6, atol=1e-8)


def test_second_derivatives_and_many_rows() -> None:
    assert dt.gradcheck(lambda a: np.linalg.slogdet(a)[1] + np.linalg.det(a), A[0])
    assert dt.gradcheck(lambda a, b: np.sum(np.linalg.solve(a, b) ** 2) + np.sum(np.linalg.inv(a)), A[0], V, argnums=(0, 1))
    by_row = dt.vmap(np.linalg.solve, in_axes=(None, 0))(A[0], RNG.normal(size=(5, 3)))
    assert by_row.shape == (5, 3)
    np.testing.assert_allclose(dt.vmap(dt.grad(np.linalg.det))(A), np.linalg.det(A)[:, None, None] * np.linalg.inv(A).swapaxes(1, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: np.linalg.inv(dt.array(A[:, :2])), ShapeError, "square matrices"),
        (lambda: np.linalg.det(dt.array(V)), ShapeError, "square matrices"),
        (lambda: np.linalg.solve(dt.array(A), RNG.normal(size=(2, 1))), ShapeError, "3 equations"),
        (lambda: np.linalg.solve(dt.array(A), A[:2]), ShapeError, "leading axes"),
        (lambda: np.linalg.inv(dt.array(np.eye(2, dtype="f2"))), DTypeError, "float16"),
        (lambda: np.linalg.inv(dt.array(np.zeros((2, 2)))).compute(), ExecutionError, "Singular matrix"),
    ],
)
def test_wrong_calls_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
