"""Training reaches a known solution, or the accuracy of other libraries on the same data."""

from itertools import pairwise

import numpy as np
import pytest

import dagtrain as dt

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)


def test_digits_are_recognised(digits):
    model = dt.nn.Sequential([dt.nn.Dense(128, "relu"), dt.nn.Dense(10)])
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(5e-3), metrics=["accuracy"], shards=4)
    history = trainer.fit(digits.x, digits.y, epochs=25, batch_size=64, validation_data=digits[2:], verbose=0)
    assert history.history["val_accuracy"][-1] >= 0.97
    assert (trainer.predict(digits.x_validation).argmax(axis=1) == digits.y_validation).mean() >= 0.97


def test_batch_norm_and_dropout_recognise_digits_too(digits):
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(128, "relu"), dt.nn.Dropout(0.2), dt.nn.Dense(10)]
    trainer = dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", optimizer=dt.optim.adam(5e-3), metrics=["accuracy"], shards=2)
    trainer.fit(digits.x, digits.y, epochs=20, batch_size=64, verbose=0)
    assert trainer.evaluate(digits.x_validation, digits.y_validation)["accuracy"] >= 0.96


def test_linear_regression_reaches_the_closed_form():
    x = RANDOM.normal(size=(200, 4))
    y = x @ [1.0, -2.0, 3.0, 0.5] + 0.7 + RANDOM.normal(size=200) * 0.1
    design = np.column_stack([x, np.ones(200)])
    solution = np.linalg.lstsq(design, y, rcond=None)[0]

    def cost(params, x, y):
        return np.mean((x @ params["slopes"] + params["intercept"] - y) ** 2)

    start = {"slopes": np.zeros(4, "f4"), "intercept": np.zeros((), "f4")}
    trainer = dt.Trainer(cost, optimizer=dt.optim.sgd(0.2), parameters=start, shards=4)
    trainer.fit(x, y, epochs=60, batch_size=200, verbose=0)
    parameters = np.append(trainer.parameters["slopes"], trainer.parameters["intercept"])
    np.testing.assert_allclose(parameters, solution, rtol=1e-4, atol=1e-5)
    assert np.array_equal(start["slopes"], np.zeros(4))


def test_a_cost_of_x_alone():
    """The point with the least squared distance to all rows is their mean."""
    x = RANDOM.normal(loc=5.0, size=(90, 3))

    def cost(centre, x):
        return np.mean(np.sum((x - centre) ** 2, axis=1))

    trainer = dt.Trainer(cost, optimizer=dt.optim.sgd(0.25), parameters=np.zeros(3, "f4"), shards=2)
    history = trainer.fit(x, epochs=30, batch_size=90, verbose=0)
    np.testing.assert_allclose(trainer.parameters, x.mean(axis=0), rtol=1e-5)
    assert trainer.evaluate(x)["loss"] == pytest.approx(x.var(axis=0).sum(), rel=1e-4)
    assert set(history.history) == {"loss", "seconds", "samples_per_second"}


def test_labels_in_a_plain_cost_function_are_whole_numbers():
    """Logistic regression written by hand, its labels used as indices."""
    x = RANDOM.normal(size=(120, 2))
    y = (x[:, 0] > x[:, 1]).astype(int)

    def cost(params, x, y):
        logits = x @ params["w"]
        scores = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
        return -np.mean(np.take_along_axis(scores, y.reshape(-1, 1), 1))

    trainer = dt.Trainer(cost, optimizer=dt.optim.adam(0.1), parameters={"w": np.zeros((2, 2), "f4")}, shards=3)
    trainer.fit(x, y, epochs=20, batch_size=30, verbose=0)
    assert ((x @ trainer.parameters["w"]).argmax(axis=1) == y).mean() > 0.95


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta"])
def test_every_optimiser_by_name_lowers_the_loss(digits, optimizer):
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(10)]), loss="cross_entropy", optimizer=optimizer, shards=2)
    losses = trainer.fit(digits.x[:400], digits.y[:400], epochs=4, batch_size=32, verbose=0).history["loss"]
    assert all(later < earlier for earlier, later in pairwise(losses))
