"""NumPy functions composed of others, against NumPy itself; and their gradients."""

import warnings
from functools import partial

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ShapeError, UnsupportedError
from dagtrain.graph import Tensor

RNG = np.random.default_rng(1)
A = RNG.normal(size=(3, 4))
B = RNG.normal(size=(3, 4))
C = RNG.normal(size=(2, 3, 4))
V = RNG.normal(size=4)
W = RNG.normal(size=3)
S = RNG.normal(size=(4, 4))
N = RNG.integers(-5, 6, (3, 4))
P = A > 0
HOLES = np.where(A > 0.5, np.nan, A)
HOLES[1] = np.nan
ENDLESS = np.where(A > 0.5, np.inf, np.where(A < -0.5, -np.inf, HOLES))
F = A.astype("f4")

CASES = {
    np.quantile: [
        (lambda a: np.quantile(a, 0.3), A),
        (lambda a: np.quantile(a, 0.75, axis=0, keepdims=True), F),
        (lambda a: np.quantile(a, [0.0, 0.5, 1.0], axis=(0, 2)), C),
        (lambda a: np.quantile(a, [[0.1, 0.2]], axis=1, keepdims=True), F),
        (lambda a: np.quantile(a, 0.5, axis=1), HOLES),
        (lambda a: np.quantile(a, 0.4), N),
    ],
    np.percentile: [(lambda a: np.percentile(a, 30), A), (lambda a: np.percentile(a, [25, 75], axis=1), A)],
    np.median: [(np.median, A), (partial(np.median, axis=0, keepdims=True), F), (partial(np.median, axis=-1), N), (np.median, W)],
    np.ptp: [(np.ptp, A), (partial(np.ptp, axis=0, keepdims=True), A)],
    np.nan_to_num: [
        (np.nan_to_num, ENDLESS),
        (lambda a: np.nan_to_num(a, nan=3.0, posinf=7.0, neginf=-7.0), ENDLESS.astype("f4")),
        (np.nan_to_num, N),
    ],
    np.nansum: [(np.nansum, HOLES), (partial(np.nansum, axis=1, keepdims=True), HOLES), (partial(np.nansum, dtype="f4"), HOLES)],
    np.nanmean: [(np.nanmean, HOLES), (partial(np.nanmean, axis=1), HOLES.astype("f4"))],
    np.nanvar: [(np.nanvar, HOLES), (partial(np.nanvar, axis=1, ddof=1), HOLES)],
    np.nanstd: [(np.nanstd, HOLES), (partial(np.nanstd, axis=0, keepdims=True), HOLES)],
    np.imag: [(np.imag, A)],
    np.angle: [(np.angle, A), (partial(np.angle, deg=True), A)],
    np.nanprod: [(partial(np.nanprod, axis=0), HOLES)],
    np.nanmax: [(np.nanmax, HOLES), (partial(np.nanmax, axis=1, keepdims=True), HOLES), (np.nanmax, N)],
    np.nanmin: [(partial(np.nanmin, axis=0), HOLES), (partial(np.nanmin, axis=1), HOLES.astype("f4"))],
    np.append: [(np.append, A, B), (partial(np.append, axis=1), A, B)],
    np.atleast_3d: [(np.atleast_3d, V), (np.atleast_3d, A), (np.atleast_3d, C), (lambda a: np.atleast_3d(a[0]), V)],
    np.column_stack: [(lambda v, a: np.column_stack([v, a]), W, A)],
    np.array_split: [(lambda a: np.array_split(a, 3, axis=1), A), (lambda a: np.array_split(a, [1, 2]), A)],
    np.unstack: [(np.unstack, A), (lambda a: np.unstack(a, axis=-1), A)],
    np.rot90: [(partial(np.rot90, k=k), A) for k in range(-1, 5)] + [(partial(np.rot90, axes=(2, 1)), C)],
    np.diag: [*((partial(np.diag, k=k), V) for k in (-2, 0, 1)), (np.diag, S), (partial(np.diag, k=-1), S)],
    np.block: [(lambda a, b: np.block([[a, b], [b, a]]), A, B), (lambda v: np.block([v, 2.0]), V),
               (lambda v, w: np.block([[v], [w]]), V, V)],
    np.dstack: [(lambda a, b: np.dstack([a, b]), A, B), (lambda v: np.dstack([v, v]), V)],
    np.vsplit: [(lambda a: np.vsplit(a, 3), A)],
    np.hsplit: [(lambda a: np.hsplit(a, 2), A), (lambda v: np.hsplit(v, [1]), V)],
    np.dsplit: [(lambda a: np.dsplit(a, 2), C)],
    np.rollaxis: [(lambda a, i=i, j=j: np.rollaxis(a, i, j), C) for i in (0, 1, -1) for j in (-3, -1, 0, 1, 2, 3)],
    np.broadcast_arrays: [(np.broadcast_arrays, V, A), (lambda a: np.broadcast_arrays(a, 1.0), A)],
    np.select: [
        (lambda p, a, b: np.select([p, a > b], [a, b], -1.0), P, A, B),
        (lambda p, a: np.select([p, p], [a, a * 2]), P, F),
    ],
    np.polyval: [(lambda x: np.polyval([1.0, -2.0, 3.0], x), A), (np.polyval, V, A), (lambda x: np.polyval([], x), A)],
    np.sinc: [(np.sinc, A), (np.sinc, np.array([0.0, 1.0, 0.5]))],
    np.fix: [(np.fix, A * 3)],
    np.real: [(np.real, A)],
    np.allclose: [(np.allclose, A, A + 1e-12), (np.allclose, A, B), (partial(np.allclose, atol=9.0), A, B)],
    np.array_equiv: [(np.array_equiv, A, A), (np.array_equiv, A[:1], A), (np.array_equiv, A, W)],
    np.isreal: [(np.isreal, A)],
    np.iscomplex: [(np.iscomplex, A)],
    np.nancumsum: [(np.nancumsum, HOLES), (partial(np.nancumsum, axis=0), HOLES)],
    np.nancumprod: [(partial(np.nancumprod, axis=1), HOLES)],
    np.meshgrid: [(np.meshgrid, V, W, A), (partial(np.meshgrid, indexing="ij", sparse=True), V, W), (np.meshgrid, V)],
    np.tril_indices_from: [(lambda a: a[np.tril_indices_from(a, -1)], A)],
    np.triu_indices_from: [(lambda a: a[np.triu_indices_from(a, 1)], A)],
    np.array_equal: [(np.array_equal, A, A), (np.array_equal, A, B), (np.array_equal, A, V),
                     (partial(np.array_equal, equal_nan=True), HOLES, HOLES)],
    np.trapezoid: [(np.trapezoid, A), (np.trapezoid, A, V), (lambda y: np.trapezoid(y, dx=0.5, axis=0), A)],
    np.cumulative_sum: [(np.cumulative_sum, V), (lambda a: np.cumulative_sum(a, axis=1, include_initial=True), F)],
    np.cumulative_prod: [(lambda a: np.cumulative_prod(a, axis=0, include_initial=True), A)],
    np.convolve: [(partial(np.convolve, mode=mode), *pair) for mode in ("full", "same", "valid") for pair in ((V, W), (W, V), (V, V))],
    np.kron: [(np.kron, A, S), (np.kron, V, A), (np.kron, C, V)],
    np.linalg.matrix_power: [(lambda a, n=n: np.linalg.matrix_power(a, n), S) for n in (0, 1, 2, 5, 8)],
    np.linalg.matmul: [(np.linalg.matmul, C, S)],
    np.linalg.multi_dot: [(lambda a, b: np.linalg.multi_dot([a, b, b]), A, S)],
    np.linalg.outer: [(np.linalg.outer, V, W)],
    np.linalg.tensordot: [(partial(np.linalg.tensordot, axes=1), C, S)],
    np.linalg.matrix_transpose: [(np.linalg.matrix_transpose, C)],
    np.linalg.diagonal: [(partial(np.linalg.diagonal, offset=1), C)],
    np.linalg.trace: [(np.linalg.trace, C), (partial(np.linalg.trace, dtype=np.float32), S)],
    np.linalg.vector_norm: [(np.linalg.vector_norm, A), (partial(np.linalg.vector_norm, axis=1, keepdims=True), A),
                            (partial(np.linalg.vector_norm, ord=1, keepdims=True), A)],
    np.linalg.matrix_norm: [(np.linalg.matrix_norm, C), (partial(np.linalg.matrix_norm, keepdims=True), C)],
    np.linalg.vecdot: [(np.linalg.vecdot, A, B), (partial(np.linalg.vecdot, axis=0), A, B)],
}  # fmt: skip
UFUNC_CASES = [
    (np.vecdot, A, B), (np.vecdot, C, V), (np.multiply.outer, V, W), (np.subtract.outer, A, W),
    *((getattr(np, name), *arguments) for name, arguments in (("matvec", (C, V)), ("vecmat", (W, C))) if hasattr(np, name)),
]  # fmt: skip


def values(result):
    """One array, or the arrays of a list."""
    return list(result) if isinstance(result, list | tuple) else [result]


@pytest.mark.parametrize("case", [c for cases in CASES.values() for c in cases] + UFUNC_CASES)
def test_what_numpy_gives(case):
    function, *arrays = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, results = values(function(*arrays)), values(dt.compile(function)(*arrays))
    assert len(results) == len(expected)
    # NumPy converts to float64 midway, tensors at the start.
    single = any(np.asarray(a).dtype == np.float32 for a in (*arrays, *expected))
    for ours, theirs in zip(results, expected, strict=True):
        assert (np.shape(ours), np.asarray(ours).dtype) == (np.shape(theirs), np.asarray(theirs).dtype)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6 if single else 1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("function", "arrays"),
    [
        (np.median, (A,)),
        (lambda a: np.sum(np.quantile(a, [0.2, 0.9], axis=1) ** 2), (A,)),
        (lambda a: np.nanmean(np.where(P, np.nan, a) ** 2), (A,)),
        (lambda a: np.sum(np.pad(a, 2, mode="reflect") ** 2), (A,)),
        (lambda a: np.sum(np.diag(a, 1) @ np.ones((5, 2))), (V,)),
        (lambda a, v: np.sum(np.convolve(a, v, "same") ** 2), (V, W)),
        (lambda a: np.mean(a**2, where=P), (A,)),
        (lambda p, x: np.sum(np.polyval(p, x)), (V, A)),
        (lambda a: np.sum(np.roll(a, (1, 2), (0, 1)) * B), (A,)),
        (lambda a, b: np.sum(np.kron(a, b) ** 2), (A, S)),
    ],
)
def test_gradients(function, arrays):
    assert dt.gradcheck(function, *arrays, argnums=tuple(range(len(arrays))))


def test_what_is_left_out_has_no_gradient():
    np.testing.assert_array_equal(dt.grad(np.nansum)(HOLES), np.where(np.isnan(HOLES), 0.0, 1.0))
    for function in (
        np.nanmean,
        np.nanvar,
        np.nanstd,
        np.nanprod,
        np.nanmax,
        lambda a: np.sum(np.nancumsum(a)),
        lambda a: np.var(a, where=~np.isnan(a)),
    ):
        gradient = dt.grad(function)(HOLES)
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[np.isnan(HOLES)], 0)


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (lambda x: np.quantile(x, 1.5), UnsupportedError, "numbers from 0 to 1 as quantiles, got 1.5"),
        (lambda x: np.quantile(x, 0.5, method="lower"), UnsupportedError, "method='lower'"),
        (lambda x: np.median(x[:0]), ShapeError, "quantile of nothing"),
        (lambda x: np.convolve(x, x), ShapeError, "two vectors"),
        (lambda x: np.convolve(x[0], x[0], "half"), UnsupportedError, "mode='half'"),
        (lambda x: np.linalg.matrix_power(x, 2), UnsupportedError, "square matrices"),
        (np.cumulative_sum, ShapeError, "say along which"),
        (lambda x: np.diag(x[None]), ShapeError, r"two axes, got shape \(1, 2, 3\)"),
        (lambda x: np.vsplit(x[0], 3), ShapeError, "two axes or more"),
        (lambda x: np.tril(x[0, 0]), ShapeError, "at least one axis"),
        (lambda x: np.select([x > 0], []), ShapeError, "as many choices as conditions"),
        (lambda x: np.nanmax(x, initial=0), UnsupportedError, "np.nanmax with initial=0"),
    ],
)
def test_errors(function, kind, message):
    with pytest.raises(kind, match=message):
        function(dt.input("x", (2, 3), np.float64))


def test_a_list_of_tensors_in_a_block_may_hold_numbers():
    assert isinstance(np.block([[dt.input("x", (2, 2)), np.ones((2, 1))]]), Tensor)
