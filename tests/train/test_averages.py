"""Averages of the weights: they are predicted and evaluated with on request, and survive checkpoints; training does not change."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import optim
from dagtrain.errors import ArgumentError, UnknownNameError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 6)).astype("f4")
Y = (X.sum(axis=1) > 0).astype("i8")


def new(optimizer):
    model = dt.nn.Sequential([dt.nn.Dense(8, "tanh"), dt.nn.Dense(2)], input_shape=(6,))
    return dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, shards=2, engine="inline")


def fit(trainer, epochs=2, **options):
    return trainer.fit(X, Y, epochs=epochs, batch_size=20, verbose=0, **options)


class Weights(dt.callbacks.Callback):
    def on_train_begin(self):
        self.each = []

    def on_epoch_end(self, epoch, logs):
        self.each.append(self.trainer.weights())


def test_the_average_is_what_the_weights_were(tmp_path):
    record, trainer = Weights(), new(optim.averaged(optim.adam(0.1), decay=1.0, every=3))
    whole = fit(trainer, 4, callbacks=[record], checkpoint=tmp_path)
    assert whole.fingerprint == fit(new(optim.adam(0.1)), 4).fingerprint  # three steps an epoch
    for name, values in trainer.weights("average").items():
        np.testing.assert_allclose(values, np.mean([weights[name] for weights in record.each], axis=0), rtol=1e-5, atol=1e-7)
    other = new("adam")
    other.load_weights(trainer.weights("average"))
    np.testing.assert_array_equal(trainer.predict(X, weights="average"), other.predict(X))
    assert trainer.evaluate(X, Y, weights="average") == other.evaluate(X, Y) != trainer.evaluate(X, Y)
    loaded = dt.load(tmp_path, engine="inline")
    np.testing.assert_array_equal(loaded.predict(X, weights="average"), other.predict(X))
    assert fit(loaded).fingerprint == fit(trainer).fingerprint
    np.testing.assert_array_equal(loaded.weights("average")["dense_1.kernel"], trainer.weights("average")["dense_1.kernel"])


def test_before_the_first_update_it_is_the_weights_and_groups_without_one_stay():
    rule = optim.every(2, optim.averaged(optim.adam(0.1), decay=0.5))
    trainer = new(optim.by_name({"dense_1.*": optim.frozen(), "*.bias": optim.sgd(0.3), "*": rule}))
    first = trainer.weights()
    np.testing.assert_array_equal(trainer.weights("average")["dense_2.kernel"], first["dense_2.kernel"])
    fit(trainer)
    now, average = trainer.weights(), trainer.weights("average")
    assert [name for name in now if not np.array_equal(now[name], average[name])] == ["dense_2.kernel"]
    trainer.optimizer = optim.averaged(optim.adam(0.1))  # its average begins anew
    np.testing.assert_array_equal(trainer.weights("average")["dense_2.kernel"], now["dense_2.kernel"])


def test_mistakes():
    trainer = new("adam")
    with pytest.raises(ArgumentError, match=r'keeps no average of the weights: .* optim.averaged\("adam"\)'):
        trainer.predict(X, weights="average")
    with pytest.raises(UnknownNameError, match="unknown weights 'averages'"):
        trainer.evaluate(X, Y, weights="averages")
