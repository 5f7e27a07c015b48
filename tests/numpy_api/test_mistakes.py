"""What NumPy's face refuses: functions, arguments and shapes, each named, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DagtrainError, ShapeError, UnsupportedError

Case = Callable[..., Any]


def test_unsupported_function_is_named_with_advice() -> None:
    x = dt.input("x", (2, 2))
    psi = np.frompyfunc(abs, 1, 1)
    for function, name, advice in (
        (np.linalg.cholesky, "np.linalg.cholesky", "compute()"),
        (np.histogram, "np.histogram", "compute()"),
        (np.unique, "np.unique", "np.where(mask, x, 0)"),
        (lambda x: np.fill_diagonal(x, 0), "np.fill_diagonal", "Tensors never change"),
        (lambda x: np.linspace(0, x, 3), "np.linspace", "np.linspace(0, 1, n)"),
        (lambda x: np.apply_along_axis(sum, 0, x), "np.apply_along_axis", "dt.scan"),
        (np.nanmedian, "np.nanmedian", "Supported are np.nanmean"),
        (np.modf, "np.modf", "np.fmod"),
        (psi, f"{psi.__name__} is", "compute()"),  # another library's ufunc is not called NumPy's
    ):
        with pytest.raises(UnsupportedError) as caught:
            function(x)
        message = str(caught.value)
        assert message.startswith(name), message
        assert advice in message, message
        assert len(message) < 250


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: np.max(x, where=x > 0), "where= needs initial="),
        (lambda x: np.sum(x, out=np.zeros(())), "out="),
        (lambda x: np.reshape(x, (3, 2), order="A"), "order='A'"),
        (lambda x: np.pad(x, 1, mode="mean"), "mode='mean'"),
        (lambda x: np.linalg.norm(x, ord="nuc"), "ord='nuc'"),
        (lambda x: np.repeat(x, x.astype(int)), "np.repeat"),
        (lambda x: np.where(x > 0), "not known beforehand"),
        (lambda x: np.power.outer(x, x, dtype="f4"), "np.power.outer with dtype"),
        (lambda x: np.add.at(x, [0], 1), "np.add.at"),
        (lambda x: np.add(x, 1, where=np.array([True])), "np.add with where"),
        (lambda x: np.sum(x, keepdims="yes"), "keepdims='yes'"),
        (np.modf, "np.modf"),
        (np.subtract.reduce, "np.subtract.reduce"),
        (lambda x: x.sum(casting="safe"), "casting"),
        (lambda x: x.mean(casting="same_kind"), "casting"),
        (lambda x: x.sum(kepdims=True), "kepdims"),
    ],
)
def test_unsupported_argument_is_named(function: Case, message: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        function(dt.input("x", (2, 3), np.float64))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: np.sum(x, axis=2), "axis 2 does not exist, the tensor has 2 axes"),
        (lambda x: np.sum(x, axis=(0, 0)), "names one axis twice"),
        (lambda x: np.sum(x, axis=0.5), "whole number"),
        (lambda x: np.reshape(x, (4, 2)), "cannot reshape (2, 3) (6 elements) to (4, 2) (8 elements)"),
        (lambda x: np.reshape(x, (4, -1)), "6 is not a multiple of 4"),
        (lambda x: np.reshape(x, (-1, -1)), "at most one is -1"),
        (lambda x: np.broadcast_to(x, (3, 3)), "cannot broadcast (2, 3) to (3, 3)"),
        (lambda x: x @ x, "matmul of shapes (2, 3) and (2, 3): the last axis of the first (3)"),
        (lambda x: x @ 2.0, "multiply by a number with *"),
        (lambda x: np.einsum("ij,jk->ik", x, x), "label 'j' has lengths 3 and 2"),
        (lambda x: np.einsum("ij->k", x), "output label 'k' is on no operand"),
        (lambda x: np.einsum("ijk->k", x), "3 labels for a tensor of shape (2, 3)"),
        (lambda x: np.einsum("ij,jk", x), "names 2 operands, got 1"),
        (lambda x: np.tensordot(x, x, 1), "axis 1 (3) against axis 0 (2)"),
        (lambda x: np.concatenate([x, x[:, :1]], 0), "equal lengths on all other axes, got shapes (2, 3), (2, 1)"),
        (lambda x: np.stack([x, x[:1]]), "equal shapes, got (2, 3), (1, 3)"),
        (lambda x: np.split(x, 2, 1), "length 3 does not divide into 2 equal parts"),
        (lambda x: np.squeeze(x, 0), "axis 0 of shape (2, 3) has length 2, not 1"),
        (lambda x: np.transpose(x, (0, 0)), "twice"),
        (lambda x: np.max(x[:0]), "max and min of nothing: shape (0, 3)"),
        (lambda x: np.argmax(x[:, :0], 1), "argmax of nothing"),
    ],
)
def test_wrong_shape_is_named(function: Case, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        function(dt.input("x", (2, 3), np.float64))
    assert message in str(caught.value)


def test_errors_are_of_one_tree_and_of_pythons_kinds() -> None:
    x = dt.input("x", (2, 3))
    for wrong, kind in ((lambda: x @ x, ValueError), (lambda: np.unique(x), TypeError)):
        with pytest.raises(kind) as caught:
            wrong()
        assert isinstance(caught.value, DagtrainError)
