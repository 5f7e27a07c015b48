"""Rows that need much memory are evaluated and predicted in parts of a fixed length: the same bits from arrays, streams and partitions."""

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.step.scores import MOST_BYTES, rows_at_once

ROWS, WIDE = 72, 1 << 20
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("f4")
RAMP = np.linspace(0, 3, WIDE, dtype="f4")


def wide(x):
    """4 MiB a row in between."""
    return np.max(x[:, :1] * RAMP, axis=1, keepdims=True) + x


@pytest.fixture(scope="module")
def trainer():
    model = dt.nn.Sequential([dt.nn.Lambda(wide), dt.nn.Dense(2)], input_shape=(3,))
    return dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], shards=1)


@pytest.mark.slow
def test_parts_are_halves_of_what_fits(trainer):
    y = np.arange(ROWS) % 2
    assert len(trainer.predict(X[:2])) == 2
    length = rows_at_once(trainer.program.output_plan, ROWS)
    assert length == 36
    assert trainer.program.output_plan(length).memory.needed <= MOST_BYTES < trainer.program.output_plan(ROWS).memory.needed
    outputs = trainer.predict(X)
    np.testing.assert_array_equal(outputs, trainer.predict(X, batch_size=length))

    here = trainer.evaluate(X, y)
    assert here["loss"] == pytest.approx(
        np.mean(np.log(1 + np.exp(outputs[np.arange(ROWS), 1 - y] - outputs[np.arange(ROWS), y]))), rel=1e-4
    )
    assert trainer.evaluate(da.from_array(X, chunks=(40, 3)), da.from_array(y, chunks=40)) == here
    assert trainer.evaluate(lambda: ((X[i : i + 7], y[i : i + 7]) for i in range(0, ROWS, 7))) == here


@pytest.mark.parametrize(("most", "rows"), [(10**9, 1000), (1000, 1000), (999, 500), (501, 500), (300, 250), (7, 4), (0.5, 1)])
def test_lengths_by_a_plan_of_one_byte_a_row(most, rows):
    class Plan:
        def __init__(self, rows):
            self.memory = type("Memory", (), {"needed": rows})

    assert rows_at_once(Plan, 1000, most) == rows
