"""Recurrent networks in training: the same bits on every engine, and the same losses for sequences that are padded further."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn


@pytest.mark.slow
def test_the_engines_give_the_same_bits_and_padding_does_not_matter(client, tmp_path):
    rng = np.random.default_rng(0)
    x, lengths, y = rng.normal(size=(48, 6, 3)).astype("f4"), rng.integers(0, 7, 48), rng.integers(0, 3, 48)
    layers = [nn.Stateful(nn.SimpleRNN(4, return_sequences=True), rows=3), nn.Bidirectional(nn.LSTM(4, return_sequences=True, dropout=0.1))]
    model = nn.Sequential([*layers, nn.Dense(5, "relu"), nn.GRU(5), nn.Dense(3)])
    trainers = {engine: dt.Trainer(model, loss="cross_entropy", shards=4, engine=engine) for engine in ("inline", "lanes", "scheduler")}
    histories = {engine: t.fit((x, lengths), y, epochs=2, batch_size=12, verbose=0) for engine, t in trainers.items()}
    assert len({history.fingerprint for history in histories.values()}) == 1
    trainers["inline"].save(tmp_path / "run")
    assert np.array_equal(dt.load(tmp_path / "run").predict((x, lengths)), trainers["lanes"].predict((x, lengths)))
    padded = dt.Trainer(model, loss="cross_entropy", shards=4)
    further = padded.fit((np.pad(x, ((0, 0), (0, 5), (0, 0))), lengths), y, epochs=2, batch_size=12, verbose=0)
    assert np.allclose(further.history["loss"], histories["inline"].history["loss"], rtol=1e-6)
