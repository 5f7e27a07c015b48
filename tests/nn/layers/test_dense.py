"""Dense."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, ShapeError, UnknownNameError
from dagtrain.ops.random import key

SPEC = dt.Spec((5, 3), np.dtype("f4"))
X = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")


def test_dense_is_matrix_product_bias_activation():
    layer = nn.Dense(4, "tanh", bias_initializer="ones")
    params, state = layer.init(key(0), SPEC)
    y, after = layer.apply(params, state, X)
    np.testing.assert_allclose(y, np.tanh(X @ params["kernel"] + 1), rtol=1e-6)
    assert state == after == {}


def test_dense_without_bias_has_a_kernel_only():
    params, _ = nn.Dense(4, use_bias=False).init(key(0), SPEC)
    assert set(params) == {"kernel"}


def test_dense_works_along_the_last_axis():
    layer = nn.Dense(4)
    params, _ = layer.init(key(0), dt.Spec((2, 7, 3), np.dtype("f4")))
    assert layer.apply(params, {}, np.zeros((2, 7, 3), "f4"))[0].shape == (2, 7, 4)


@pytest.mark.parametrize("dtype", ["i8", "u1", "f2", "f8", "?"])
def test_dense_computes_in_the_dtype_of_its_parameters(dtype):
    layer = nn.Dense(4, "gelu")
    params, _ = layer.init(key(0), SPEC)
    graph = dt.trace(lambda p, x: layer.apply(p, {}, x)[0], params, dt.Spec((5, 3), np.dtype(dtype)))
    assert graph.outputs["output"].dtype == np.float32
    assert layer.apply(params, {}, np.ones((5, 3), dtype))[0].dtype == np.float32


def test_parameters_are_float64_for_float64_inputs_only():
    assert nn.Dense(2).init(key(0), dt.Spec((5, 3), np.dtype("f8")))[0]["kernel"].dtype == np.float64
    assert nn.Dense(2).init(key(0), dt.Spec((5, 3), np.dtype("i8")))[0]["kernel"].dtype == np.float32


def test_kernel_and_bias_are_drawn_from_different_keys():
    params, _ = nn.Dense(3, kernel_initializer="normal", bias_initializer="normal").init(key(0), SPEC)
    assert not np.array_equal(params["kernel"][0], params["bias"])


def test_own_initialiser():
    params, _ = nn.Dense(2, kernel_initializer=lambda key, shape, dtype: np.full(shape, 7.0)).init(key(0), SPEC)
    np.testing.assert_array_equal(params["kernel"], np.full((3, 2), 7, "f4"))
    assert params["kernel"].dtype == np.float32


@pytest.mark.parametrize("units", [0, -3, 2.5, True, "10"])
def test_wrong_units(units):
    with pytest.raises(ArgumentError, match="head: units must be a whole number from 1 up"):
        nn.Dense(units, name="head")


def test_unknown_activation_or_initialiser():
    with pytest.raises(UnknownNameError, match="Did you mean 'relu'"):
        nn.Dense(3, "relo")
    with pytest.raises(UnknownNameError, match="he_normal"):
        nn.Dense(3, kernel_initializer="he_norml")
    with pytest.raises(UnknownNameError, match="tanh"):
        nn.Activation("tahn")


def test_dense_refuses_other_features_and_vectors():
    params, _ = nn.Dense(4).init(key(0), SPEC)
    with pytest.raises(ShapeError, match=r"the shape \(3, 4\), but for these inputs the layer asks for \(2, 4\)"):
        nn.Dense(4).apply(params, {}, np.zeros((5, 2), "f4"))
    with pytest.raises(ShapeError, match=r"Reshape x to \(-1, 1\)"):
        nn.Dense(4).init(key(0), dt.Spec((5,), np.dtype("f4")))
