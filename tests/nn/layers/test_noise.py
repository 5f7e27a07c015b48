"""Layers that are random in training: what they leave, and that a key is all they depend on."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError
from dagtrain.ops.random import derive, key
from dagtrain.plan.interpret import interpret

X = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")


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


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.SpatialDropout1D(0.4), (50, 9, 20)), (nn.SpatialDropout2D(0.4), (50, 3, 4, 20)), (nn.SpatialDropout3D(0.4), (50, 2, 2, 3, 20))],
)
def test_channels_drop_as_a_whole(layer, shape):
    x = np.ones(shape, "f4")
    y = layer.apply({}, {}, x, key=key(1), training=True)[0].reshape(50, -1, 20)
    assert (y == y[:, :1]).all()
    assert np.mean(y == 0) == pytest.approx(0.4, abs=5 * np.sqrt(0.24 / 1000))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.6)}
    assert layer.apply({}, {}, x)[0] is x


@pytest.mark.parametrize(("layer", "spread"), [(nn.GaussianNoise(0.3), 0.3), (nn.GaussianDropout(0.2), 0.5)])
def test_gaussian_noise_has_its_spread_and_is_that_of_tensors(layer, spread):
    x = np.ones((400, 300), "f4")
    y = layer.apply({}, {}, x, key=key(1), training=True)[0]
    assert y.dtype == np.float32
    assert y.mean() == pytest.approx(1, abs=5 * spread / np.sqrt(y.size))
    assert y.std() == pytest.approx(spread, rel=0.02)
    assert layer.apply({}, {}, x)[0] is x
    graph = dt.trace(lambda x, k: layer.apply({}, {}, x, key=k, training=True)[0], X, key(0))
    np.testing.assert_array_equal(interpret(graph, X, key(9))[0], layer.apply({}, {}, X, key=key(9), training=True)[0])
