"""Dense, Activation, Flatten, Dropout."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, ShapeError, UnknownNameError
from dagtrain.ops.random import derive, key
from dagtrain.plan.interpret import interpret

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


def test_flatten_keeps_the_order_of_elements():
    x = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(nn.Flatten().apply({}, {}, x)[0], x.reshape(2, 12))


# ---- dropout


def drop(rate, k, shape=(400, 300), training=True):
    return nn.Dropout(rate).apply({}, {}, np.ones(shape, "f4"), key=k, training=training)[0]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_the_rate(rate):
    y = drop(rate, key(0))
    n = y.size
    assert np.mean(y == 0) == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / n))
    assert y.mean() == pytest.approx(1, abs=5 * np.sqrt(rate / (1 - rate) / n))
    assert set(np.unique(y)) == {0, np.float32(1 / (1 - rate))}


def test_dropout_is_a_function_of_the_key():
    np.testing.assert_array_equal(drop(0.5, key(4)), drop(0.5, key(4)))
    assert not np.array_equal(drop(0.5, key(4)), drop(0.5, derive(key(4), 0)))


def test_dropout_does_nothing_outside_training_or_at_rate_zero():
    assert (drop(0.5, key(0), training=False) == 1).all()
    assert (drop(0, None) == 1).all()


def test_dropout_of_tensors_is_that_of_arrays():
    layer = nn.Dropout(0.3)
    graph = dt.trace(lambda x, k: layer.apply({}, {}, x, key=k, training=True)[0], X, key(0))
    np.testing.assert_array_equal(interpret(graph, X, key(9))[0], layer.apply({}, {}, X, key=key(9), training=True)[0])
    assert all(node.dtype != np.float64 for node in graph.nodes)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), "half", True])
def test_wrong_rates(rate):
    with pytest.raises(ArgumentError, match="Dropout: rate must be"):
        nn.Dropout(rate)


def test_dropout_needs_a_key_in_training():
    with pytest.raises(ArgumentError, match="needs a key in training"):
        drop(0.5, None)
