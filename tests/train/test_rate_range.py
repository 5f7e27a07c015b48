"""The test of learning rates: where the loss falls and explodes, on a trainer that does not change."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import optim
from dagtrain.errors import ArgumentError

X = np.random.default_rng(0).normal(size=(64, 4)).astype("f4")
Y = X @ np.array([1.0, -2.0, 0.5, 3.0], "f4")


def new(optimizer):
    return dt.Trainer(dt.nn.Sequential([dt.nn.Dense(1)]), loss="mean_squared_error", optimizer=optimizer, engine="inline", shards=2)


def test_the_losses_are_those_of_a_rising_rate_until_they_explode():
    trainer = new(optim.sgd(0.5, momentum=0.9))
    rates = dt.learning_rate_range(trainer, X, Y, lowest=1e-4, highest=100.0, steps=40, batch_size=16)
    np.testing.assert_allclose(rates.rates, np.geomspace(1e-4, 100.0, 40)[: len(rates.rates)], rtol=1e-9)
    risen = new(optim.sgd(optim.exponential_decay(1e-4, 1e6 ** (1 / 39)), momentum=0.9))
    losses = []
    risen.fit(
        X,
        Y,
        epochs=2,
        batch_size=16,
        verbose=0,
        callbacks=[dt.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: losses.append(logs["loss"]))],
    )
    np.testing.assert_allclose(rates.losses[:8], losses, rtol=1e-6)
    assert len(rates.losses) < 40
    assert rates.losses[-1] > 4 * rates.losses.min()
    assert 1e-3 < rates.suggestion < 0.5
    assert trainer.fit(X, Y, verbose=0).fingerprint == new(optim.sgd(0.5, momentum=0.9)).fit(X, Y, verbose=0).fingerprint


def test_after_a_fit_it_begins_with_the_weights_and_changes_nothing():
    trainer = new(optim.sgd(0.1))
    trainer.fit(X, Y, epochs=20, batch_size=16, verbose=0)
    before = trainer.state.fingerprint
    rates = dt.learning_rate_range(trainer, X, Y, highest=1e-3, steps=4)
    assert rates.losses[0] == pytest.approx(trainer.evaluate(X[:], Y)["loss"], rel=1.0)
    assert trainer.state.fingerprint == before
    assert trainer.optimizer.learning_rate == 0.1


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        ("sgd", {"lowest": 1.0, "highest": 0.1}, "must be above lowest"),
        ("sgd", {"steps": 1}, "steps must be a whole number from 2 up"),
        (optim.sgd(optim.cosine(0.1, 10)), {}, "in place of one number above 0"),
        (optim.by_name({"*": optim.sgd(0.1)}), {}, "in place of one number above 0"),
    ],
)
def test_mistakes(optimizer, options, message):
    with pytest.raises(ArgumentError, match=message):
        dt.learning_rate_range(new(optimizer), X, Y, **options)
