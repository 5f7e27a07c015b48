"""Every NumPy function, method and attribute that tensors support, against NumPy itself on random arrays."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError
from dagtrain.graph import Graph, Tensor
from dagtrain.numpy_api.methods import METHODS
from dagtrain.ops.reduce import logsumexp
from dagtrain.ops.softmax import log_softmax, softmax
from dagtrain.plan.interpret import interpret

from ..each import each

Case = Callable[..., Any]
RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4))
B = RNG.normal(size=(3, 4))
V = RNG.normal(size=4)
C = RNG.normal(size=(2, 3, 4))
S = RNG.normal(size=(4, 4))
N = RNG.integers(-5, 6, (3, 4))
P = A > 0
NEW = np.lib.NumpyVersion(np.__version__) >= "2.2.0"  # takes dicts as widths of a padding

CASES: dict[Any, list[tuple[Case, tuple[Any, ...]]]] = {
    np.sum: [
        (np.sum, (A,)), (lambda a: np.sum(a, 0), (A,)), (lambda a: np.sum(a, axis=(0, -1), keepdims=True), (C,)), (np.sum, (N,)),
        (np.sum, (P,)), (lambda a: np.sum(a, dtype=np.float32), (A,)), (np.sum, (N.astype("i1"),)), (np.sum, (N.astype("u2"),)),
        (lambda a, p: np.sum(a, 0, where=p), (A, P)), (lambda a: np.sum(a, initial=2.0), (A,)), (lambda a: a.sum(where=a > 0), (A,)),
    ],
    np.mean: [
        (np.mean, (A,)),
        (lambda a: np.mean(a, -1, keepdims=True), (C,)),
        (np.mean, (N,)),
        (np.mean, (P,)),
        (np.mean, (A.astype("f4"),)),
        (lambda a, p: np.mean(a, axis=1, where=p), (A, B < 1)),
        (lambda a: np.mean(a, where=[True, False, True, True]), (N,)),
    ],
    np.prod: [
        (lambda a, p: np.prod(a, 1, where=p, initial=3.0), (A, P)), (np.prod, (A,)), (lambda a: np.prod(a, axis=1), (A,)), (np.prod, (N,)),
    ],
    np.max: [
        (np.max, (A,)), (lambda a: np.max(a, 0, initial=0.0), (A,)), (lambda a, p: np.max(a, initial=-1.0, where=p), (A, P)),
        (lambda a: np.max(a, axis=1, keepdims=True), (A,)), (np.max, (N,)),
    ],
    np.min: [(np.min, (A,)), (lambda a: np.min(a, axis=0), (A,))],
    np.any: [(np.any, (P,)), (lambda a, p: np.any(a, 0, where=p), (N, P)), (lambda a: np.any(a, axis=0), (P,)), (np.any, (N,))],
    np.all: [(np.all, (P,)), (lambda a, p: np.all(a, 0, where=p), (N, P)), (lambda a: np.all(a, axis=1, keepdims=True), (P,))],
    np.var: [(np.var, (A,)), (lambda a: np.var(a, axis=0, ddof=1), (A,)), (lambda a: np.var(a, 1, keepdims=True), (A,)), (np.var, (N,))],
    np.std: [(np.std, (A,)), (lambda a: np.std(a, 0, correction=1), (A,)), (lambda a: np.std(a, axis=1, ddof=1), (A,))],
    np.count_nonzero: [(np.count_nonzero, (N,)), (lambda a: np.count_nonzero(a, axis=0), (N,))],
    np.argmax: [(np.argmax, (A,)), (lambda a: np.argmax(a, axis=1), (A,)), (lambda a: np.argmax(a, axis=0, keepdims=True), (A,))],
    np.argmin: [(np.argmin, (A,)), (lambda a: np.argmin(a, axis=-1), (A,))],
    np.argsort: [
        (np.argsort, (A,)), (lambda a: np.argsort(a, axis=None), (A,)), (lambda a: np.argsort(a, axis=0), (A,)),
        (lambda a: np.argsort(a, kind="stable"), (N,)),
    ],
    np.sort: [(np.sort, (A,)), (lambda a: np.sort(a, axis=None), (A,)), (lambda a: np.sort(a, axis=0), (A,))],
    np.cumsum: [(np.cumsum, (A,)), (lambda a: np.cumsum(a, axis=1), (A,)), (lambda a: np.cumsum(a, 0), (P,))],
    np.cumprod: [(np.cumprod, (A,)), (lambda a: np.cumprod(a, axis=0), (A,))],
    np.diff: [
        (np.diff, (A,)), (lambda a: np.diff(a, prepend=0.0), (A,)), (lambda a, b: np.diff(a, axis=0, append=b), (A, B)),
        (lambda a: np.diff(a, n=2, axis=0), (A,)),
    ],
    np.clip: [
        (lambda a: np.clip(a, -0.5, 0.5), (A,)), (lambda a: np.clip(a, None, 0), (A,)), (lambda a, b: np.clip(a, b, b + 1), (A, V)),
        (lambda a: np.clip(a, min=0), (A,)), (lambda a: np.clip(a, a_min=-1, a_max=1), (A.astype("f4"),)),
    ],
    np.where: [
        (np.where, (P, A, B)), (lambda c, a: np.where(c, a, 0), (P, A)), (lambda c, a: np.where(c, 0, a), (P, A.astype("f4"))),
        (lambda c: np.where(c, 1, 2), (P,)), (lambda c: np.where(c, 1.0, 2), (P,)), (lambda n, a: np.where(n, a, -a), (N, A)),
        (np.where, (P, A, V)),
    ],
    np.round: [(np.round, (A,)), (lambda a: np.round(a, 2), (A,)), (np.round, (N,))],
    np.matrix_transpose: [(np.matrix_transpose, (C,))],
    np.linalg.norm: [
        (np.linalg.norm, (A,)),
        (lambda a: np.linalg.norm(a, axis=1), (A,)),
        (lambda a: np.linalg.norm(a, ord=1, axis=0, keepdims=True), (A,)),
        (lambda a: np.linalg.norm(a, np.inf), (V,)), (lambda a: np.linalg.norm(a, 2), (V,)), (np.linalg.norm, (N,)),
    ],
    np.trace: [(np.trace, (S,)), (lambda a: np.trace(a, 1), (A,)), (lambda a: np.trace(a, axis1=1, axis2=2), (C,))],
    np.diagonal: [(np.diagonal, (A,)), (lambda a: np.diagonal(a, -1), (S,)), (lambda a: np.diagonal(a, 0, 1, 2), (C,))],
    np.tril: [(np.tril, (S,)), (lambda a: np.tril(a, -1), (C,))],
    np.triu: [(np.triu, (S,)), (lambda a: np.triu(a, 1), (A,))],
    np.average: [
        (np.average, (A,)), (lambda a, w: np.average(a, axis=0, weights=w), (A, np.abs(B))),
        (lambda a, w: np.average(a, axis=1, weights=w), (A, np.abs(V))), (lambda a, w: np.average(a, weights=w), (A, np.abs(B))),
    ],
    np.zeros_like: [(lambda a: np.zeros_like(a) + a, (A,)), (lambda a: a + np.zeros_like(a, dtype=np.int64), (A,))],
    np.empty_like: [(lambda a: a * np.empty_like(a).shape[0], (A,))],
    np.ones_like: [(lambda a: a + np.ones_like(a), (A.astype("f4"),))],
    np.full_like: [(lambda a: a + np.full_like(a, 2.5), (A,)), (lambda a: a + np.full_like(a, 2, dtype=np.int64), (A,))],
    np.shape: [(lambda a: a * np.shape(a)[0], (A,))],
    np.ndim: [(lambda a: a * np.ndim(a), (A,))],
    np.size: [(lambda a: a * np.size(a) + np.size(a, 0), (A,))],
    np.result_type: [(lambda a: a.astype(np.result_type(a, np.complex64)), (A.astype("f4"),))],
    np.can_cast: [(lambda a: a * np.can_cast(a, "f8"), (A.astype("f4"),))],
    np.isrealobj: [(lambda a: a * np.isrealobj(a), (A,))],
    np.iscomplexobj: [(lambda a: a * np.iscomplexobj(a), (A,))],
    np.reshape: [
        (lambda a: np.reshape(a, (2, 6), "F"), (A,)), (lambda a: np.reshape(a.T, (4, -1), order="F"), (A,)),
        (lambda a: np.reshape(a, (4, 3)), (A,)), (lambda a: np.reshape(a, (2, -1)), (A,)), (lambda a: np.reshape(a, -1), (A,)),
    ],
    np.ravel: [(np.ravel, (A,)), (lambda a: np.ravel(a, "F"), (C,))],
    np.transpose: [(np.transpose, (C,)), (lambda a: np.transpose(a, (1, 0, 2)), (C,)), (lambda a: np.transpose(a, (-1, 0, 1)), (C,))],
    np.swapaxes: [(lambda a: np.swapaxes(a, 0, -1), (C,))],
    np.moveaxis: [(lambda a: np.moveaxis(a, 0, -1), (C,)), (lambda a: np.moveaxis(a, [0, 1], [-1, 0]), (C,))],
    np.broadcast_to: [(lambda a: np.broadcast_to(a, (3, 4)), (V,)), (lambda a: np.broadcast_to(a, shape=(2, 3, 4)), (A,))],
    np.expand_dims: [(lambda a: np.expand_dims(a, 1), (A,)), (lambda a: np.expand_dims(a, (0, -1)), (A,))],
    np.squeeze: [(lambda a: np.squeeze(a[:, None, :, None]), (A,)), (lambda a: np.squeeze(a[:, None], axis=1), (A,))],
    np.flip: [(np.flip, (A,)), (lambda a: np.flip(a, 1), (A,)), (lambda a: np.flip(a, (0, 2)), (C,))],
    np.flipud: [(np.flipud, (A,))],
    np.fliplr: [(np.fliplr, (A,))],
    np.concatenate: [
        (lambda a, b: np.concatenate([a, b]), (A, B)), (lambda a, b: np.concatenate((a, b), axis=-1), (A, B)),
        (lambda a, b: np.concatenate([a, b], axis=None), (A, V)), (lambda a, b: np.concatenate([a, b]), (A, N)),
    ],
    np.stack: [(lambda a, b: np.stack([a, b]), (A, B)), (lambda a, b: np.stack([a, b], axis=-1), (A, B))],
    np.vstack: [(lambda a, b: np.vstack([a, b]), (A, V))],
    np.hstack: [(lambda a, b: np.hstack([a, b]), (A, B)), (lambda a, b: np.hstack([a, b]), (V, V))],
    np.split: [
        (lambda a: sum(np.split(a, 2, axis=1)), (A,)),
        (lambda a: np.split(a, [1, 3], axis=1)[1], (A,)),
        (lambda a: np.split(a, 3)[2], (A,)),
    ],
    np.tile: [(lambda a: np.tile(a, 2), (A,)), (lambda a: np.tile(a, (2, 1, 3)), (A,)), (lambda a: np.tile(a, (2,)), (C,))],
    np.roll: [
        (lambda a: np.roll(a, 1), (A,)),
        (lambda a: np.roll(a, -2, axis=1), (A,)),
        (lambda a: np.roll(a, 7, 0), (A,)),
        (lambda a: np.roll(a, 0, 0), (A,)),
        (lambda a: np.roll(a, (1, -2), axis=(0, 1)), (A,)), (lambda a: np.roll(a, 1, axis=(0, 1)), (A,)),
    ],
    np.take: [
        (lambda a: np.take(a, [2, 0], 0), (A,)),
        (lambda a: np.take(a, np.array([[0, -1], [3, 3]]), axis=1), (A,)),
        (lambda a: np.take(a, 5), (A,)),
    ],
    np.take_along_axis: [
        (lambda a, i: np.take_along_axis(a, i, 1), (A, np.argsort(B, 1))),
        (lambda a: np.take_along_axis(a, np.array([[0, 1, 2, 2]]), 0), (A,)),
    ],
    np.dot: [
        (np.dot, (A, S)),
        (np.dot, (V, V)),
        (np.dot, (A, V)),
        (lambda a: np.dot(a, 2.0), (A,)),
        (np.dot, (C, S)),
        (np.dot, (C, RNG.normal(size=(2, 4, 5)))),
    ],
    np.vdot: [(np.vdot, (A, B))],
    np.inner: [(np.inner, (A, B)), (np.inner, (V, V)), (np.inner, (C, V))],
    np.outer: [(np.outer, (V, V)), (np.outer, (A, V))],
    np.tensordot: [
        (lambda a, b: np.tensordot(a, b, 1), (C, S)),
        (lambda a, b: np.tensordot(a, b, axes=([1, 0], [0, 1])), (A, RNG.normal(size=(4, 3)))),
        (lambda a, b: np.tensordot(a, b, axes=0), (V, V)), (np.tensordot, (A, B)),
    ],
    np.einsum: [
        (lambda a, b: np.einsum("ij,ij->i", a, b), (A, B)),
        (lambda a, b: np.einsum("ij,ij", a, b), (A, B)),
        (lambda a: np.einsum("ii", a), (S,)),
        (lambda a, b: np.einsum("...j,jk", a, b), (C, S)),
        (lambda a, b: np.einsum("i,j->ij", a, b), (V, V)),
        (lambda a: np.einsum("ijk->kji", a), (C,)),
        (lambda a, b: np.einsum("...ij, ...jk -> ...ik", a, b), (C, RNG.normal(size=(2, 4, 3)))),
    ],
    np.astype: [(lambda a: np.astype(a, np.float32), (A,)), (lambda a: np.astype(a, int), (A,)), (lambda a: np.astype(a, bool), (N,))],
    np.copy: [(np.copy, (A,))],
    np.isclose: [(np.isclose, (A, A + 1e-9)), (lambda a, b: np.isclose(a, b, atol=0.5), (A, B))],
    np.atleast_1d: [(lambda a: np.atleast_1d(a[0]), (V,)), (np.atleast_1d, (A,))],
    np.atleast_2d: [(np.atleast_2d, (V,)), (np.atleast_2d, (C,))],
    np.repeat: [(lambda a: np.repeat(a, 2), (A,)), (lambda a: np.repeat(a, 3, axis=1), (A,))],
    np.pad: [
        (lambda a: np.pad(a, 1), (A,)),
        (lambda a: np.pad(a, ((1, 0), (2, 3)), constant_values=0.5), (A,)),
        (lambda a: np.pad(a, (1, 2)), (V,)),
        *((lambda a, mode=mode: np.pad(a, ((1, 0), (2, 3)), mode=mode), (A,)) for mode in ("edge", "reflect", "symmetric", "wrap")),
        (lambda a: np.pad(a, ((1, 2),)), (A,)), (lambda a: np.pad(a, 1, mode="constant", constant_values=7), (N,)),
    ],
}  # fmt: skip
METHOD_CASES: dict[str, list[Case]] = {
    "sum": [lambda a: a.sum(), lambda a: a.sum(0), lambda a: a.sum(axis=1, keepdims=True)],
    "mean": [lambda a: a.mean(), lambda a: a.mean(axis=0)],
    "prod": [lambda a: a.prod(1)],
    "max": [lambda a: a.max(), lambda a: a.max(axis=1, keepdims=True)],
    "min": [lambda a: a.min(0)],
    "any": [lambda a: (a > 1).any()],
    "all": [lambda a: (a > -9).all(axis=0)],
    "var": [lambda a: a.var(), lambda a: a.var(axis=0, ddof=1)],
    "std": [lambda a: a.std(1)],
    "argmax": [lambda a: a.argmax(), lambda a: a.argmax(1)],
    "argmin": [lambda a: a.argmin(axis=0)],
    "argsort": [lambda a: a.argsort(), lambda a: a.argsort(0)],
    "cumsum": [lambda a: a.cumsum(), lambda a: a.cumsum(axis=0)],
    "cumprod": [lambda a: a.cumprod(1)],
    "clip": [lambda a: a.clip(-1, 1), lambda a: a.clip(min=0)],
    "conj": [lambda a: a.conj()],
    "conjugate": [lambda a: a.conjugate()],
    "round": [lambda a: a.round(), lambda a: a.round(1)],
    "trace": [lambda a: a.trace()],
    "diagonal": [lambda a: a.diagonal(), lambda a: a.diagonal(1)],
    "repeat": [lambda a: a.repeat(2), lambda a: a.repeat(2, axis=0)],
    "astype": [lambda a: a.astype(np.float32), lambda a: a.astype("i8"), lambda a: a.astype(a.dtype)],
    "copy": [lambda a: a.copy()],
    "reshape": [lambda a: a.reshape(4, 3), lambda a: a.reshape((2, 6)), lambda a: a.reshape(-1), lambda a: a.reshape(2, -1, order="C")],
    "ravel": [lambda a: a.ravel()],
    "flatten": [lambda a: a.flatten()],
    "squeeze": [lambda a: a[:1].squeeze(), lambda a: a[:1].squeeze(0), lambda a: a[:1].squeeze(axis=(0,))],
    "swapaxes": [lambda a: a.swapaxes(0, 1)],
    "transpose": [lambda a: a.transpose(), lambda a: a.transpose(1, 0), lambda a: a.transpose((1, 0))],
    "take": [lambda a: a.take([1, 0], axis=1), lambda a: a.take(np.array([3]))],
    "dot": [lambda a: a.dot(a.T)],
}


def on_tensors(function: Case, arrays: tuple[Any, ...]) -> Any:
    leaves = [dt.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    result = function(*leaves)
    assert isinstance(result, Tensor), f"no tensor but {result!r}"
    return interpret(Graph({str(leaf.name): leaf for leaf in leaves}, {"y": result}), *arrays)[0]


def agree(function: Case, arrays: tuple[Any, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(function(*arrays))
        result = on_tensors(function, arrays)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-13)


FUNCTION_CASES = [
    pytest.param(case, arrays, id=f"{f.__name__}-{i}") for f, cases in CASES.items() for i, (case, arrays) in enumerate(cases)
]


@each(FUNCTION_CASES)
def test_function_agrees_with_numpy(function: Case, arrays: tuple[Any, ...]) -> None:
    agree(function, arrays)


@each(
    pytest.param(c, dtype, id=f"{name}-{i}-{dtype}")
    for name, cases in METHOD_CASES.items()
    for i, c in enumerate(cases)
    for dtype in ("f8", "f4")
)
def test_method_agrees_with_numpy(function: Case, dtype: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, result = np.asarray(function(A.astype(dtype))), on_tensors(function, (A.astype(dtype),))
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(result, expected, rtol=1e-12 if dtype == "f8" else 1e-5, atol=1e-6)


def test_every_supported_method_has_a_case() -> None:
    assert set(METHODS) == set(METHOD_CASES)


def test_transposes() -> None:
    agree(lambda a: a.T, (C,))
    agree(lambda a: a.mT, (C,))


@each(itertools.product(["sum", "mean", "prod", "max", "cumsum", "argmax", "any"], ["f4", "f8", "i4", "i8", "u1", "?"]))
def test_reductions_have_numpys_dtypes(name: str, dtype: str) -> None:
    function = getattr(np, name)
    agree(function, (np.array([[1, 0, 2], [3, 1, 1]]).astype(dtype),))


def test_float16_is_accumulated_in_float32() -> None:
    half, ones = np.full(66_000, 0.5, "f2"), np.ones((5000, 2), "f2")
    large = np.full((300, 2), 500, "f2")
    mask = np.arange(len(half)) % 2 == 0
    cases: list[tuple[Case, Any, Any]] = [
        (np.mean, half, 0.5), (np.mean, large, 500), (lambda a: np.sum(a, axis=0), ones, [5000, 5000]), (np.sum, half, 33_000),
        (lambda a: np.mean(a, axis=0), ones, [1, 1]), (lambda a: np.mean(a, where=mask), half, 0.5), (np.nanmean, half, 0.5),
        (lambda a: np.average(a, axis=0), ones, [1, 1]), (lambda a: np.average(a, weights=2 * a), half, 0.5),
         (lambda a: np.var(a, axis=0), large, [0, 0]), (np.std, half, 0),
        (lambda a: np.einsum("ij->j", a), ones, [5000, 5000]), (lambda a: np.einsum("ij,ij->j", a, a), ones, [5000, 5000]),
        (np.linalg.norm, large, np.sqrt(600) * 500), (softmax, half * 0, 1 / 66_000), (log_softmax, half * 0, -np.log(66_000)),
        (logsumexp, half * 0, np.log(66_000)), (np.median, half, 0.5),
        (lambda a: dt.nn.losses.mean_squared_error(a, a - 100), large, 10_000),
    ]  # fmt: skip
    for function, array, expected in cases:
        for result in (on_tensors(function, (array,)), dt.compile(function)(array)):
            assert result.dtype == np.float16
            np.testing.assert_allclose(result, np.broadcast_to(np.float16(expected), result.shape), rtol=1e-3)


def test_infinity_and_nan_are_close_as_numpy_says() -> None:
    values = np.array([1.0, np.inf, -np.inf, np.nan, 1e300])
    for equal_nan in (False, True):
        agree(lambda a, b, e=equal_nan: np.isclose(a, b, equal_nan=e), (values[:, None], values))
    agree(np.isclose, (np.array([1, 2], "u1"), np.array([2, 2], "u1")))  # unsigned differences would wrap around
    agree(lambda a: np.allclose(a, np.inf), (A,))


def test_quantiles_at_infinities_and_between_numbers_far_apart() -> None:
    inf, far = np.inf, 1.7e308
    for line, level, expected in (
        ([1, inf], 0.5, inf), ([inf, inf], 0.5, inf), ([-inf, 1], 0.25, -inf), ([-far, far], 0.25, -far / 2), ([far, far], 0.5, far),
        ([-inf, 0, inf], 0.5, 0), ([-inf, inf], 0.5, np.nan), ([0.1, 0.1], 0.3, 0.1), ([1, np.nan], 0.0, np.nan),
    ):  # fmt: skip
        with np.errstate(invalid="ignore" if np.isnan(expected) else "raise"):
            (result,) = on_tensors(lambda a, q=level: np.quantile(a, [q]), (np.array(line, float),))
        np.testing.assert_equal(result, expected)


def test_casts_to_what_tensors_do_not_hold_are_refused() -> None:
    x = dt.input("x", (2,))
    for dtype in (object, "U3", "S2", "M8[D]", np.dtype("V2"), np.dtype([("a", "f4")]), "no dtype"):
        for cast in (x.astype, lambda d: np.astype(x, d), lambda d: np.sum(x, dtype=d), lambda d: np.stack([x, x], dtype=d)):
            with pytest.raises(DTypeError, match=r"tensors hold|no dtype"):
                cast(dtype)


def test_forms_that_numpy_takes() -> None:
    vector, tall = V, RNG.normal(size=(4, 1))
    for function, arrays in (
        (lambda a, b: np.einsum(a, [0, 1], b, [2, 1], [0, 2]), (A, B)), (lambda a, b: np.einsum(a, [0, 1], b, [0, 1]), (A, B)),
        (lambda a: np.einsum(a, [Ellipsis, 3, 1], [1, Ellipsis]), (C,)), (lambda a, b: np.einsum("...ij,...j", a, b), (C, A[:1])),
        (lambda a, b: np.einsum("ij,kj->ik", a, b), (A, tall)), (lambda a, b: np.einsum("ij,ij->ij", a, b), (A, A[:, :1])),
        (lambda a: np.hstack([a[0, 0], a[1, 1]]), (A,)), (lambda a: np.pad(a[0, 0], 1), (A,)),
        (np.tril, (vector,)), (lambda a: np.triu(a, 1), (vector,)),
        (lambda a: np.full_like(a, a[0, 0]), (A,)), (lambda a: np.diff(a[0], prepend=a[0, 0]), (A,)), (np.diff, (P,)),
        *(((lambda a: np.pad(a, {-1: (1, 2)}), (A,)), (lambda a: np.pad(a, {0: 1}, constant_values=3.0), (A,))) if NEW else ()),
        (lambda a: np.repeat(a, [0, 2, 1], axis=0), (A,)), (lambda a: np.round(a * 1000, -2), (A,)), (lambda a: a[[]], (A,)),
        (lambda a: np.take(a, [9, -9], mode="wrap"), (V,)),
        (lambda a: np.take(a, [9, -9], mode="clip"), (V,)), (lambda a: np.take(a, [], axis=0), (A,)),
    ):  # fmt: skip
        agree(function, arrays)
    np.testing.assert_array_equal(dt.grad(lambda x: np.sum(np.prod(x, axis=1)))(np.zeros((2, 0, 4))), np.zeros((2, 0, 4)))
