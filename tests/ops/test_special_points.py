"""First and second derivatives where formulas overflow, cancel or divide zero by zero, against limits and conventions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import dagtrain as dt

from ..each import each

inf, pi = np.inf, np.pi
# A function, its arguments, by which of them it is differentiated in turn, and the derivative.
POINTS: list[tuple[Callable[..., Any], tuple[Any, ...], tuple[int, ...], float]] = [
    (np.arctan2, (1e-200, 1e-200), (0,), 5e199),
    (np.arctan2, (1e200, 1e200), (1,), -5e-201),
    (np.arctan2, (1.0, inf), (0,), 0.0),
    (np.arctan2, (0.0, 0.0), (0,), 0.0),
    (np.arctan2, (2.0, 1.0), (0, 1), 3 / 25),
    (np.arccosh, (np.float32(1e20),), (0,), 1e-20),
    (np.arccosh, (1 + 2.0**-50,), (0,), 1 / math.sqrt(2.0**-50 * (2 + 2.0**-50))),
    (np.arcsinh, (-1e200,), (0,), 1e-200),
    (np.arcsin, (1 - 2.0**-50,), (0,), 1 / math.sqrt(2.0**-50 * (2 - 2.0**-50))),
    (np.arcsin, (1e-9,), (0, 0), 1e-9),
    (np.arccos, (1.0,), (0, 0), -inf),
    (np.arctanh, (2.0**-50 - 1,), (0,), 1 / (2.0**-50 * (2 - 2.0**-50))),
    (np.expm1, (-40.0,), (0,), math.exp(-40)),
    (np.cbrt, (0.0,), (0, 0), -inf),
    (np.cbrt, (inf,), (0, 0), 0.0),
    (np.sinc, (0.0,), (0,), 0.0),
    (np.sinc, (0.0,), (0, 0), -(pi**2) / 3),
    (np.sinc, (1e-8,), (0,), -(pi**2) / 3 * 1e-8),
    (np.sinc, (1e-3,), (0, 0), -(pi**2) / 3 + pi**4 / 10 * 1e-6 - pi**6 / 168 * 1e-12),
    (np.sinc, (0.0,), (0, 0, 0, 0), pi**4 / 5),
    (np.sinc, (30.0,), (0, 0), -2 / 30**2),
    (np.copysign, (1.0, -0.0), (0,), -1.0),
    (np.copysign, (-3.0, -0.0), (0,), 1.0),
    (np.hypot, (0.0, 0.0), (0,), 0.0),
    (np.hypot, (0.0, 0.0), (0, 1), 0.0),
    (np.hypot, (1e200, 1e200), (0,), math.sqrt(0.5)),
    (np.logaddexp, (inf, 1.0), (0,), 1.0),
    (np.logaddexp, (inf, 1.0), (1,), 0.0),
    (np.logaddexp, (inf, 1.0), (0, 0), 0.0),
    (np.logaddexp, (-inf, -inf), (0,), 0.5),
    (np.logaddexp, (inf, inf), (1,), 0.5),
    (np.logaddexp, (1e17, 1e17), (0, 0), 0.25),
    (np.logaddexp, (-inf, 1.0), (1, 1), 0.0),
    (np.logaddexp2, (1.0, inf), (1,), 1.0),
    (np.logaddexp2, (-inf, -inf), (1, 0), 0.0),
    (lambda x: dt.logsumexp(np.stack([x, 1.0])), (inf,), (0,), 1.0),
    (lambda x, z: dt.logsumexp(np.stack([x, x, z])), (-inf, -inf), (1,), 1 / 3),
    (lambda x, z: dt.logsumexp(np.stack([x, x, z])), (1e17, 1e17), (1,), 1 / 3),
    (lambda x, z: dt.logsumexp(np.stack([x, x, z])[:, None]), (1e17, 1e17), (1, 1), 2 / 9),
    (lambda x, z: np.sum(np.cumprod(np.stack([x, z, 1e200]))), (1e200, 1e200), (1,), inf),
    (lambda a, b: a**b, (2.0, 0.0), (0, 1), 0.5),
    (lambda a, b: a**b, (0.0, 0.0), (0,), 0.0),
    (lambda a, b: a**b, (inf, 0.0), (0,), 0.0),
    (lambda a, b: a**b, (0.0, 1.0), (0, 0), 0.0),
    (lambda x: np.std(np.stack([x, x])), (3.0,), (0,), 0.0),
    (lambda x: np.std(np.stack([x])), (3.0,), (0, 0), 0.0),
    # Squares of what has a kink at 0 have none.
    (lambda x: np.abs(x) ** 2, (0.0,), (0, 0), 2.0),
    (lambda x: np.fabs(x) * np.fabs(x), (0.0,), (0, 0), 2.0),
    (lambda x: np.linalg.norm(np.stack([x, 2 * x])) ** 2, (0.0,), (0, 0), 10.0),
    (lambda x: np.hypot(x, 3 * x) ** 2, (0.0,), (0, 0), 20.0),
    (lambda x: np.sqrt(np.sum(np.stack([x, x]) ** 2)), (0.0,), (0,), 0.0),
]


@each(POINTS)
def test_derivative_at_a_special_point(function: Any, at: tuple[Any, ...], by: tuple[int, ...], right: float) -> None:
    def derivative(*arguments: Any) -> Any:
        return function(*arguments)

    for position in by:
        derivative = dt.grad(derivative, position, unconnected="zero")
    with np.errstate(divide="ignore", over="ignore"):
        value = derivative(*at)
    np.testing.assert_allclose(value, right, rtol=1e-7 if isinstance(at[0], np.float32) else 1e-12, atol=0)


def test_derivatives_of_infinities_do_not_spread_in_logarithms_of_sums() -> None:
    # Paths that are not possible yet have the log-probability -inf.
    steps = np.array([[-0.7, -0.7, -inf], [-inf, -0.7, -0.7], [-inf, -inf, 0.0]])

    def last(transition: Any) -> Any:
        state: Any = np.array([0.0, -inf, -inf])
        for _ in range(4):
            state = dt.logsumexp(state[:, None] + transition, 0)
        return state[2]

    g = dt.grad(last)(steps)
    assert np.isfinite(g).all()
    np.testing.assert_allclose(g[0].sum() + g[1].sum() + g[2].sum(), 4)  # each path has four steps


def test_derivatives_of_products_of_nothing_and_of_diagonals_of_three_axes() -> None:
    assert dt.grad(lambda x: np.sum(np.prod(x, axis=1)))(np.zeros((2, 0, 4))).shape == (2, 0, 4)
    g = dt.grad(lambda x: np.einsum("iii->i", x) @ np.array([1.0, 2.0]))(np.zeros((2, 2, 2)))
    assert g.ravel().tolist() == [1, 0, 0, 0, 0, 0, 0, 2]
