"""Autoencoders beside principal components, and stacks of machines as the beginning of a network."""

import pickle

import dask
import numpy as np
import pytest

from dagtrain import nn, optim, unsupervised
from dagtrain.data import load_digits
from dagtrain.errors import ArgumentError, DataError, ShapeError


def principal(trained, held_out, count):
    """The mean squared error of the best linear code of so many numbers."""
    mean = trained.mean(axis=0)
    axes = np.linalg.svd(trained - mean, full_matrices=False)[2][:count]
    codes = (held_out - mean) @ axes.T
    return float(np.mean((codes @ axes + mean - held_out) ** 2))


def test_a_denoising_code_is_better_than_principal_components_on_torn_digits(thorough):
    """Digits a quarter of whose values are missing; both codes have 12 numbers. In full also the whole digits."""
    data = load_digits()
    scale = data.x.max()
    x, held_out = data.x / scale, data.x_validation / scale
    torn = held_out * (np.random.default_rng(0).random(held_out.shape) >= 0.25)
    coder = unsupervised.Autoencoder.dense(64, code=12, hidden=(128,), noise=0.25, seed=0)
    coder.fit(x, epochs=60 if thorough else 10, batch_size=32, engine="inline")
    mean = x.mean(axis=0)
    axes = np.linalg.svd(x - mean, full_matrices=False)[2][:12]
    linear = np.mean(((torn - mean) @ axes.T @ axes + mean - held_out) ** 2)
    assert np.mean((coder.reconstruct(torn) - held_out) ** 2) < (0.6 if thorough else 0.9) * linear


def test_kinds_of_codes():
    draw = np.random.default_rng(0)
    rows = (draw.random((200, 1)) * np.ones(16)).astype("f4")
    assert principal(rows, rows, 1) < 1e-6  # one number is enough
    pictures = rows.reshape(-1, 4, 4, 1)
    for coder, x in (
        (unsupervised.Autoencoder.dense(16, code=1, hidden=(16,), optimizer=optim.adam(1e-2)), rows),
        (unsupervised.Autoencoder.convolutional((4, 4, 1), code=2, filters=(4, 8), optimizer=optim.adam(1e-2)), pictures),
        (unsupervised.VariationalAutoencoder.dense(16, code=1, hidden=(16,), variance=0.01, optimizer=optim.adam(1e-2)), rows),
    ):
        coder.fit(x, epochs=30, batch_size=20, engine="inline")
        assert coder.reconstruct(x).shape == x.shape
        assert coder.error(x) < 0.5 * x.var()
    made = coder.sample(300)
    assert made.mean(axis=1).std() > 0.1
    assert np.ptp(made, axis=1).mean() < 0.3  # sixteen times about the same


def test_two_workers_give_the_same_bits(client):
    x = np.random.default_rng(0).random((60, 6)).astype("f4")
    for kind in (unsupervised.Autoencoder, unsupervised.VariationalAutoencoder):

        def fit(engine, kind=kind):
            return kind.dense(6, code=2, hidden=(8,)).fit(x, epochs=2, batch_size=20, shards=2, engine=engine).fingerprint

        assert fit("lanes") == fit("inline")


def test_a_stack_begins_a_network_with_its_weights():
    x = np.random.default_rng(0).random((50, 6)).astype("f4")
    stack = unsupervised.DBN([5, 4], seed=0).fit(x, epochs=3)
    trainer = stack.classifier(3, loss="cross_entropy")
    weights = trainer.weights()
    assert np.array_equal(weights["hidden_2.kernel"], stack.machines[1].weights.astype("f4"))
    hidden = x
    for i in (1, 2):
        hidden = 1 / (1 + np.exp(-(hidden @ weights[f"hidden_{i}.kernel"] + weights[f"hidden_{i}.bias"])))
    assert stack.transform(x) == pytest.approx(hidden, abs=1e-6)
    assert stack.reconstruct(x).shape == x.shape
    assert stack.fit(x, epochs=1).transform(x).shape == (50, 4)


def test_what_cannot_be_made_is_named():
    with pytest.raises(ArgumentError, match="cannot be halved 2 times"):
        unsupervised.Autoencoder.convolutional((6, 8, 1), code=2)
    with pytest.raises(ArgumentError, match="call fit"):
        unsupervised.Autoencoder.dense(4, code=2).encode(np.zeros((1, 4)))
    with pytest.raises(ArgumentError, match="noise"):
        unsupervised.Autoencoder.dense(4, code=2, noise=1.0)
    with pytest.raises(ArgumentError, match="hidden is a list of whole numbers"):
        unsupervised.Autoencoder.dense(4, code=2, hidden=8)
    with pytest.raises(ArgumentError, match=r"shape \(height, width, channels\)"):
        unsupervised.Autoencoder.convolutional((8, 8), code=2)
    with pytest.raises(ArgumentError, match="encoder is a layer"):
        unsupervised.Autoencoder([nn.Dense(2)], nn.Dense(4))
    with pytest.raises(ShapeError, match=r"gives rows of shape \(1,\), and those of x have the shape \(4,\)"):  # which would be broadcast
        unsupervised.Autoencoder.dense(1, code=2).fit(np.zeros((8, 4)))


def test_rows_lie_where_they_will_and_are_checked_where_they_are_used():
    x = np.random.default_rng(0).random((40, 4)).astype("f4")

    def fitted(rows):
        return unsupervised.Autoencoder.dense(4, code=2, hidden=(3,)).fit(rows, epochs=1, batch_size=20, shards=1)

    coder = fitted(x)
    assert fitted([dask.delayed(x[:30]), dask.delayed(x[30:])]).encode(x).shape == (40, 2)
    for rows, words in ((x[:0], "x is empty"), (x + np.nan, "not finite: row 0"), (x.astype(str), "x has dtype <U")):
        with pytest.raises(DataError, match=words):
            coder.encode(rows)
    again = pickle.loads(pickle.dumps(coder))
    assert again.fit(x, epochs=1).fingerprint == coder.fit(x, epochs=1).fingerprint
    with pytest.raises(ArgumentError, match="goes on with shards=1, and 2 comes too late"):
        coder.fit(x, epochs=1, shards=2)
