"""States of layers by each reduction: what they are after steps, with empty shards, and where there is nothing to reduce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data import BatchPlan
from dagtrain.errors import ArgumentError
from tests.step.remembering import Remembers, remembered

ROWS, BATCH, FEATURES = 19, 8, 3
X = np.random.default_rng(5).uniform(0, 4, (ROWS, FEATURES)).astype("f4")
Y = np.arange(ROWS) % 2


def trainer_of(shards: int | str, **options: Any) -> Any:
    model = dt.nn.Sequential([Remembers(), dt.nn.Dense(2)])
    return dt.Trainer(model, **{"loss": "cross_entropy", "shards": shards, "engine": "inline", **options})


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_states_are_those_of_plain_python(shards: int) -> None:
    """The last step of an epoch has 3 rows."""
    trainer = trainer_of(shards)
    trainer.fit(X, Y, epochs=2, batch_size=BATCH, verbose=0)
    plan = BatchPlan(ROWS, BATCH, shards, seed=0)
    batches = [[X[rows] for rows in plan.step(epoch, i)] for epoch in range(2) for i in range(plan.steps_per_epoch)]
    assert shards < 5 or not all(len(rows) for batch in batches for rows in batch), "a shard is empty"
    states = {name.partition(".")[2]: value for name, value in trainer.weights().items() if name.startswith("remembers")}
    expected = remembered(batches, FEATURES)
    assert states.keys() == expected.keys()
    for name, value in expected.items():
        if states[name].dtype.kind == "f":
            np.testing.assert_allclose(states[name], value, rtol=1e-5, err_msg=name)
        else:
            assert np.array_equal(states[name], value), name
    assert [states[name].dtype.name for name in ("steps", "bins", "high", "rows")] == ["int64", "int64", "bool", "int32"]
    assert states["kept"].tobytes() == next(rows for rows in batches[-1] if len(rows))[0].tobytes(), "not through a sum"


def test_states_are_saved_and_training_goes_on_from_them_with_as_many_shards(tmp_path: Any) -> None:
    """The states, the weights, and their dtypes are those of a run without a stop."""
    one, other = trainer_of(3), trainer_of(3)
    want = one.fit(X, Y, epochs=3, batch_size=BATCH, verbose=0).fingerprint
    folder = str(tmp_path)
    other.fit(X, Y, epochs=1, batch_size=BATCH, verbose=0, checkpoint=folder)
    with pytest.raises(ArgumentError, match=r"shards: 3 there, 2 here; state remembers_1.memory: float32\[3, 3\], by shard there, float32"):
        trainer_of(2).fit(X, Y, epochs=3, batch_size=BATCH, verbose=0, checkpoint=folder, resume=True)
    assert trainer_of(3).fit(X, Y, epochs=3, batch_size=BATCH, verbose=0, checkpoint=folder, resume=True).fingerprint == want
    again = dt.load(folder, custom={"Remembers": Remembers})
    assert again.history is None
    assert {name: (v.dtype, v.tobytes()) for name, v in again.weights().items()} == {
        name: (v.dtype, v.tobytes()) for name, v in one.weights().items()
    }
    one.save_weights(f"{folder}/weights.safetensors")
    other.load_weights(f"{folder}/weights.safetensors")
    assert other.state.fingerprint == want
    with pytest.raises(ArgumentError, match=r"'remembers_1\.bins' are float32, but the model's are int64"):
        other.load_weights({"remembers_1.bins": np.ones(4, "f4")}, strict=False)


def test_other_shards_than_those_of_the_states_are_refused() -> None:
    trainer = trainer_of("auto")
    trainer.fit(np.tile(X, (8, 1)), np.tile(Y, 8), batch_size=128, verbose=0)
    shards = len(trainer.weights()["remembers_1.rows"])
    assert shards > 1
    with pytest.raises(ArgumentError, match=rf"'remembers_1.memory' has a value for each of {shards} shards, and these batches 1"):
        trainer.fit(X, Y, batch_size=8, verbose=0)


@dataclass(frozen=True)
class Odd(dt.nn.Layer):
    """Asks for a state as told, and updates it with what a function makes of it."""

    settings: Any
    change: Any = lambda state: state

    def forward(self, c: dt.nn.Context, x: Any) -> Any:
        for settings in self.settings:
            state = c.state("s", (), **settings)
        c.update("s", self.change(state))
        return x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Odd([{"reduce": "median"}]), "unknown reduce: 'median'. Did you mean 'mean'?"),
        (Odd([{"dtype": "int64"}]), '\'s\' holds values of int64, and their mean over shards is no whole number: take reduce="sum", "max"'),
        (Odd([{"dtype": "bool", "reduce": "sum"}]), 'values of bool, and they have no sum: take reduce="max"'),
        (Odd([{"dtype": "complex64"}]), "'s' has the dtype complex64"),
        (Odd([{"reduce": "max"}, {"reduce": "first"}]), "'s' is asked for with reduce='max' and with reduce='first'"),
        (Odd([{"dtype": "int64", "reduce": "max"}], lambda s: s * 0.5), "'s' is int64, and its update float64: convert it with .astype"),
    ],
)
def test_mistakes_are_named(layer: Any, message: str) -> None:
    with pytest.raises(dt.errors.DagtrainError) as error:
        layer.init(dt.key(0), (2, 3))
    assert message in str(error.value)


def test_a_state_by_shard_does_not_exist_outside_training() -> None:
    trainer = dt.Trainer(dt.nn.Sequential([Odd([{"reduce": "shard"}]), dt.nn.Dense(2)]), loss="cross_entropy", engine="inline")
    trainer.fit(X, Y, verbose=0)
    for call in (lambda: trainer.evaluate(X, Y), lambda: trainer.predict(X), lambda: trainer.fit(X, Y, validation_data=(X, Y), verbose=0)):
        with pytest.raises(
            ArgumentError, match=r"layer 'odd_1'.*'s' has a value for each shard of a step of training, and none in evaluation"
        ):
            call()
    assert "1 numbers of running statistics" in str(trainer.summary())


def test_a_state_that_becomes_infinite_is_explained() -> None:
    trainer = dt.Trainer(dt.nn.Sequential([Odd([{"reduce": "shard"}], lambda s: s * 1e30 + 1e30), dt.nn.Dense(2)]), loss="cross_entropy")
    with pytest.raises(dt.errors.NotFiniteError, match="the op 'multiply'"):
        trainer.fit(X, Y, epochs=3, batch_size=BATCH, verbose=0)


@pytest.mark.parametrize("frozen", ["layer", "optimizer"])
def test_what_no_step_updates_stays_to_the_last_bit(frozen: str) -> None:
    """A mean over three shards of equal values would not: their parts do not add up to 1 in floats."""
    layers = [dt.nn.BatchNorm(trainable=frozen != "layer"), dt.nn.Dense(2)]
    rule = dt.optim.by_name({"batch_norm_1.*": dt.optim.frozen(), "*": "adam"}) if frozen == "optimizer" else "adam"
    trainer = dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", optimizer=rule, shards=3, engine="inline")
    trainer.fit(X, Y, verbose=0)
    mean = np.array([0.1, 0.7, 1 / 3], "f4")
    trainer.load_weights({"batch_norm_1.mean": mean}, strict=False)
    trainer.fit(X, Y, epochs=10, batch_size=10, verbose=0)
    assert trainer.weights()["batch_norm_1.mean"].tobytes() == mean.tobytes()
