"""Transformers in training: the same bits on every engine, and the same losses and metrics for texts that are padded further."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn


@pytest.mark.slow
def test_the_engines_give_the_same_bits_and_padding_does_not_matter(client, tmp_path):
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 9, (48, 7)).astype("i4")
    weights = (np.arange(6) < rng.integers(1, 7, (48, 1))).astype("f4")
    x, y = tokens[:, :-1], tokens[:, 1:].astype("i8")

    def fit(engine, dropout, extra):
        model = nn.models.TransformerLM(9, num_layers=1, num_heads=2, width=8, max_length=12, dropout=dropout)
        trainer = dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], optimizer=dt.optim.adam(0.02), shards=4, engine=engine)
        wider = [np.pad(a, ((0, 0), (0, extra))) for a in (x, y, weights)]
        history = trainer.fit(*wider[:2], sample_weight=wider[2], epochs=2, batch_size=12, verbose=0)
        return trainer, history

    fits = {engine: fit(engine, 0.1, 0) for engine in ("inline", "lanes", "scheduler")}
    assert len({history.fingerprint for _, history in fits.values()}) == 1
    fits["inline"][0].save(tmp_path / "run")
    assert np.array_equal(dt.load(tmp_path / "run").predict(x), fits["lanes"][0].predict(x))
    short, long = (fit("inline", 0.0, extra)[1].history for extra in (0, 5))
    assert np.allclose(short["loss"], long["loss"], rtol=1e-5)
    assert short["accuracy"] == long["accuracy"]
