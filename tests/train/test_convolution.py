"""Networks of convolutions: the same bits on every engine, and GoogLeNet with its heads. Digits: examples/pictures.py."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError


def network(filters):
    pools = [nn.MaxPooling2D(3, 2, "same"), nn.MaxPooling2D()]
    convolutions = [[nn.Conv2D(filters, 3, padding="same"), nn.BatchNorm(), nn.Activation("relu"), pool] for pool in pools]
    return nn.Sequential([*(layer for block in convolutions for layer in block), nn.Flatten(), nn.Dense(10)])


@pytest.mark.slow
def test_the_engines_give_the_same_bits(client, digits, tmp_path):
    x, y = digits.x[:96].reshape(-1, 8, 8, 1), digits.y[:96]
    trainers = {
        engine: dt.Trainer(network(4), loss="cross_entropy", shards=4, engine=engine) for engine in ("inline", "lanes", "scheduler")
    }
    histories = {engine: trainer.fit(x, y, epochs=2, batch_size=32, verbose=0) for engine, trainer in trainers.items()}
    assert len({history.fingerprint for history in histories.values()}) == 1
    trainers["inline"].save(tmp_path / "run")
    assert np.array_equal(dt.load(tmp_path / "run").predict(x), trainers["lanes"].predict(x))


def test_approximate_trainers_convolve_by_tiles_to_nearly_the_same(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(32, 8, 8, 32)).astype("f4"), random.integers(0, 4, 32)
    model = nn.Sequential([nn.Conv2D(32, 3, padding="same", activation="relu"), nn.GlobalAveragePooling2D(), nn.Dense(4)])
    losses, bits = {}, {}
    for approximate, threads in ((False, 1), (True, 1), (True, 2)):
        trainer = dt.Trainer(model, loss="cross_entropy", shards=2, threads=threads, approximate=approximate)
        history = trainer.fit(x, y, epochs=3, batch_size=16, verbose=0)
        losses[approximate, threads], bits[approximate, threads] = history.history["loss"], history.fingerprint
    np.testing.assert_allclose(losses[True, 1], losses[False, 1], rtol=1e-4)
    assert bits[True, 1] == bits[True, 2] != bits[False, 1]
    trainer.save(tmp_path)
    again = dt.load(tmp_path, engine="inline")
    assert (
        again.fit(x, y, epochs=1, batch_size=16, verbose=0).fingerprint == trainer.fit(x, y, epochs=1, batch_size=16, verbose=0).fingerprint
    )
    with pytest.raises(ArgumentError, match="approximate is True or False, got 'yes'"):
        dt.Trainer(model, loss="cross_entropy", approximate="yes")


@pytest.mark.slow
def test_googlenet_memorises_pictures_and_predicts_without_its_heads(thorough):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64, 32, 32, 3)).astype("f4"), random.integers(0, 10, 64)
    model = nn.models.GoogLeNet(10, (32, 32, 3), width=1.0 if thorough else 0.25, dropout=0.0)
    losses, targets = dict.fromkeys(("main", "aux1", "aux2"), "cross_entropy"), dict.fromkeys(("main", "aux1", "aux2"), y)
    options = {"loss_weights": {"aux1": 0.3, "aux2": 0.3}, "metrics": {"main": ["accuracy"]}, "shards": 1}
    trainer = dt.Trainer(model, loss=losses, optimizer=dt.optim.adam(3e-4 if thorough else 1e-3), **options)
    figures = trainer.fit(x, targets, epochs=100, batch_size=16, callbacks=[dt.callbacks.Target("main_loss", 0.02)], verbose=0).history
    assert figures["aux1_loss"][-1] < 0.8 * figures["aux1_loss"][0]
    assert figures["aux2_loss"][-1] < 0.8 * figures["aux2_loss"][0]
    assert trainer.evaluate(x, {"main": y})["main_accuracy"] == 1
    assert list(trainer.predict(x)) == ["main"]
