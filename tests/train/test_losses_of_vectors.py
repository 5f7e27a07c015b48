"""Losses that compare the vectors of one row, without y or with one number for each pair."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DataError

nn = dt.nn
RANDOM = np.random.default_rng(0)
X = {name: RANDOM.normal(size=(48, 5)).astype("f4") for name in ("anchor", "positive", "negative")}
TOGETHER = np.arange(48) % 2


def twins(*names):
    encoder = nn.Dense(3, name="encoder")
    inputs = [nn.Input((5,), name=name) for name in names]
    return nn.Model(inputs, nn.Concatenate()([encoder(x) for x in inputs]))


def new(model, loss, shards=2, **options):
    return dt.Trainer(model, loss=loss, optimizer=dt.optim.sgd(0.1), shards=shards, engine="inline", **options)


def test_triplets_train_without_targets():
    trainer = new(twins(*X), "triplet")
    history = trainer.fit(X, epochs=3, batch_size=16, validation_data=(X, None), verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert trainer.evaluate(X) == {"loss": history.history["val_loss"][-1]}
    other = new(twins(*X), "triplet", 3)
    np.testing.assert_allclose(other.fit(X, batch_size=16, epochs=3, verbose=0).history["loss"], history.history["loss"], rtol=1e-5)
    with pytest.raises(DataError, match="the loss 'triplet' takes no targets: leave y out"):
        trainer.fit(X, TOGETHER)
    with pytest.raises(DataError, match="takes no targets"):
        new(twins(*X), "triplet").fit(lambda: iter([(X, TOGETHER)]), verbose=0)
    with pytest.raises(ArgumentError, match="the metric 'mean_squared_error' compares outputs with y, and the loss 'triplet' takes none"):
        new(twins(*X), "triplet", metrics=["mse"])
    assert new(twins(*X), "triplet", metrics=["triplet"]).fit(X, verbose=0).history["triplet"]


def test_pairs_and_a_loss_without_targets_beside_others():
    pair = {name: X[name] for name in ("anchor", "positive")}
    trainer = new(twins(*pair), nn.losses.find("contrastive", margin=2.0))
    assert trainer.fit(pair, TOGETHER, epochs=2, batch_size=16, verbose=0).history["loss"]
    with pytest.raises(DataError, match="a binary target is 0 or 1"):
        new(twins(*pair), "contrastive").fit(pair, TOGETHER * 2, verbose=0)
    x = [nn.Input((5,), name=name) for name in X]
    encoder = nn.Dense(3)
    codes = [encoder(a) for a in x]
    model = nn.Model(x, {"metric": nn.Concatenate()(codes), "kind": nn.Dense(1)(codes[0])})
    both = new(model, {"metric": "triplet", "kind": "binary_cross_entropy"}, loss_weights={"metric": 0.5})
    row = both.fit(X, {"kind": TOGETHER}, batch_size=16, verbose=0).history
    assert row["loss"][0] == pytest.approx(0.5 * row["metric_loss"][0] + row["kind_loss"][0], rel=1e-5)
    assert set(both.evaluate(X, {"kind": TOGETHER})) >= {"metric_loss", "kind_loss"}


def test_counts_are_not_negative():
    x, y = X["anchor"], RANDOM.poisson(2.0, size=(48, 1))
    assert new(nn.Sequential([nn.Dense(1)]), "poisson").fit(x, y, verbose=0).history["loss"]
    with pytest.raises(DataError, match=r"y holds -\d, which is negative: row \d+, .* A count is 0 or more"):
        new(nn.Sequential([nn.Dense(1)]), "poisson").fit(x, y - y.max() - 1, verbose=0)
