"""A loss is a sum and a weight on every engine: workers divide by the weight of the whole batch."""

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt

RANDOM = np.random.default_rng(4)
ROWS = 48
X = RANDOM.normal(size=(ROWS, 5)).astype("f4")
X[:, 4] = RANDOM.integers(0, 2, ROWS)  # a mask
X[16:32, 4] = 0  # the second of three batches has no weight
Y = RANDOM.normal(size=ROWS).astype("f4")
MORE = RANDOM.normal(size=(1100, 5)).astype("f4"), np.arange(1100) % 3  # two pieces of an evaluation


def in_blocks(array):
    return da.from_array(array, chunks=(250, *array.shape[1:]))


def cost(params, x, y):
    return np.sum(x[:, 4] * (x[:, :4] @ params["w"] - y) ** 2), np.sum(x[:, 4])


def fitted(**options):
    clipped = dt.optim.chain(dt.optim.clip_by_global_norm(0.1), dt.optim.adam(0.05))
    trainer = dt.Trainer(cost, parameters={"w": np.ones(4, "f4")}, optimizer=clipped, shards=5, **options)
    history = trainer.fit(X, Y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    return history.fingerprint, history.history["loss"]


@pytest.mark.parametrize("engine", ["lanes", "scheduler"])
def test_masked_and_empty_batches_have_the_bits_of_one_process(threads, engine):
    fingerprint, losses = fitted(engine="inline")
    assert fitted(engine=engine, client=threads) == (fingerprint, losses)


@pytest.mark.parametrize("engine", ["lanes", "scheduler"])
def test_metrics_of_many_parts_and_of_rows_are_joined_over_workers(threads, engine):
    model = dt.nn.Sequential([dt.nn.Dense(8, "relu"), dt.nn.Dense(3)])
    labels = np.arange(ROWS) % 3

    def fit(**options):
        trainer = dt.Trainer(model, loss="cross_entropy", metrics=["f1", "auc", "confusion_matrix"], shards=5, **options)
        history = trainer.fit(X, labels, epochs=2, batch_size=20, validation_data=MORE, verbose=0)
        return history.fingerprint, history.history["f1"], history.history["val_auc"], trainer.evaluate(*map(in_blocks, MORE))

    *expected, evaluated = fit(engine="inline")
    *found, there = fit(engine=engine, client=threads)
    assert found == expected
    assert there["auc"] == evaluated["auc"] == found[2][-1]
    assert evaluated["confusion_matrix"].sum() == len(MORE[0])
    assert np.array_equal(there["confusion_matrix"], evaluated["confusion_matrix"])
