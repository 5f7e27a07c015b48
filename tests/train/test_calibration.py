"""Calibration: the temperature of held-out data is the one of least cross-entropy, saved with the model and off in training."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, DataError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4000, 2)).astype("f4")


def too_sure(layer, loss, kernel):
    trainer = dt.Trainer(nn.Sequential([nn.Dense(len(kernel[0])), layer], input_shape=(2,)), loss=loss)
    trainer.load_weights({"dense_1.kernel": np.array(kernel)}, strict=False)
    return trainer


def test_two_classes_with_an_offset(tmp_path):
    y = RNG.random(4000) < 1 / (1 + np.exp(-(X[:, 0] - 1)))
    trainer = too_sure(nn.Temperature(offset=True), "binary_focal_cross_entropy", [[3.0], [0.0]])
    plain = trainer.predict(X)
    fitted = dt.calibrate(trainer, X, y)
    assert fitted.temperature == pytest.approx(3, rel=0.15)
    assert fitted.offset == pytest.approx(-1, abs=0.15)
    np.testing.assert_allclose(trainer.predict(X), plain / fitted.temperature + fitted.offset, rtol=1e-4, atol=1e-5)
    assert trainer.predict(X, probabilities=True).mean() == pytest.approx(y.mean(), abs=1e-5)
    again = dt.calibrate(trainer, da.from_array(X, chunks=(999, 2)), da.from_array(y, chunks=999))  # from the same logits as before
    assert again == fitted
    trainer.save(tmp_path)
    np.testing.assert_array_equal(dt.load(tmp_path).predict(X), trainer.predict(X))
    weights = trainer.weights()
    trainer.fit(X[:64], y[:64], epochs=1, verbose=0)
    other = too_sure(nn.Temperature(offset=True), "binary_focal_cross_entropy", [[3.0], [0.0]])
    other.fit(X[:64], y[:64], epochs=1, verbose=0)
    for name, array in other.weights().items():  # training goes on as if there were none, which stays
        np.testing.assert_array_equal(trainer.weights()[name], weights[name] if "temperature" in name else array)


def test_classes():
    logits = X @ np.array([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0]])
    y = (logits + RNG.gumbel(size=logits.shape)).argmax(axis=1)
    trainer = too_sure(nn.Temperature(), "cross_entropy", [[4.0, -4.0, 0.0], [0.0, 4.0, 4.0]])
    fitted = dt.calibrate(trainer, X, y)
    assert fitted.temperature == pytest.approx(4, rel=0.1)
    assert fitted.loss < fitted.loss_before - 0.1


def test_a_weight_counts_rows():
    y, counts = RNG.random(500) < 1 / (1 + np.exp(-X[:500, 0])), RNG.integers(0, 3, 500)
    weighted, repeated = (too_sure(nn.Temperature(offset=True), "binary_cross_entropy", [[3.0], [0.0]]) for _ in range(2))
    fitted = dt.calibrate(weighted, X[:500], y, sample_weight=counts)
    assert fitted == pytest.approx(dt.calibrate(repeated, np.repeat(X[:500], counts, axis=0), np.repeat(y, counts)), rel=1e-6)
    with pytest.raises(DataError, match="no row counts"):
        dt.calibrate(weighted, X[:500], y, sample_weight=0 * counts)
    classes, chosen = RNG.integers(0, 2, 500), RNG.random(500) < 0.5
    of_classes = too_sure(nn.Temperature(), "cross_entropy", [[1.0, -1.0], [0.0, 0.0]])
    y = np.where(RNG.random(500) < 0.8, X[:500, 0] < 0, classes).astype(int)
    fitted = dt.calibrate(of_classes, X[:500], y, sample_weight=chosen.astype(float))
    assert fitted == pytest.approx(dt.calibrate(of_classes, X[:500][chosen], y[chosen]), rel=1e-6)


def test_the_layer_is_the_last_one():
    layers = [nn.Dense(1), nn.Temperature(), nn.Rescaling(1.0, 0.5)]
    trainer = dt.Trainer(nn.Sequential(layers, input_shape=(2,)), loss="binary_cross_entropy")
    with pytest.raises(ArgumentError, match="here layers follow it"):
        dt.calibrate(trainer, X, X[:, 0] > 0)
    with pytest.raises(ArgumentError, match="takes a trainer"):
        dt.calibrate(nn.Sequential(layers), X, X[:, 0] > 0)


def test_mistakes():
    y = X[:, 0] > 0
    for trainer, labels, error, says in (
        (too_sure(nn.Dropout(0.1), "binary_cross_entropy", [[1.0], [0.0]]), y, ArgumentError, "ends with nn.Temperature"),
        (too_sure(nn.Temperature(), "mean_squared_error", [[1.0], [0.0]]), y[:, None], ArgumentError, "makes no probabilities"),
        (too_sure(nn.Temperature(offset=True), "cross_entropy", [[1.0, 2], [0.0, 1]]), y, ArgumentError, "for two classes by one logit"),
        (too_sure(nn.Temperature(), "binary_cross_entropy", [[1.0], [0.0]]), y, DataError, "without any error"),
        (too_sure(nn.Temperature(), "binary_cross_entropy", [[-1.0], [0.0]]), y, DataError, "not tell the labels apart better"),
        (too_sure(nn.Temperature(offset=True), "binary_cross_entropy", [[1.0], [0.0]]), X[:, 0] > 0.5, DataError, "without any error"),
    ):
        with pytest.raises(error, match=says):
            dt.calibrate(trainer, X, labels)
    with pytest.raises(ArgumentError, match="offset is True or False"):
        nn.Temperature(1.0)
