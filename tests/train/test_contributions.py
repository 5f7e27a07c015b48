"""Rules of learning that are no gradient of a cost: values, shards, states, engines, checkpoints, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, ShapeError

X = (np.random.default_rng(0).normal(size=(48, 3)) * [3.0, 1.0, 0.2]).astype("f4")
Y = (X @ np.array([1.0, -2.0, 0.5])).astype("f4")
WEIGHTS = np.linspace(0.5, 2, 48).astype("f4")


def delta(parameters: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """The delta rule: the gradient of half the squared error, written by hand."""
    error = x @ parameters["w"] - y
    weight = np.sum(sample_weight)
    return {"w": x.T @ (error * sample_weight)}, {"loss": (np.sum(sample_weight * error**2) / 2, weight), "off": (np.sum(error), weight)}


def chain(parameters: Any, states: Any, x: Any, key: Any) -> Any:
    """Moves w to the data and to noise that a state remembers."""
    noise = dt.normal(key, x.shape)
    pull = np.sum(parameters["w"] - x - 0.1 * noise - 0.01 * states["particles"], axis=0)
    after = {"particles": states["particles"] * 0.5 + noise[0], "steps": states["steps"] + len(x)}
    return {"w": pull}, after, {"loss": (np.sum((parameters["w"] - x) ** 2), len(x))}


def chained() -> dt.Contribution:
    states = {"particles": np.zeros(3), "steps": np.array(0)}
    return dt.Contribution(chain, states=states, reduce={"particles": "shard", "steps": "sum"})


def trainer_of(rule: Any, **options: Any) -> dt.Trainer:
    return dt.Trainer(rule, parameters={"w": np.zeros(3)}, optimizer=dt.optim.sgd(0.05), **{"shards": 4, "seed": 3, **options})


def train(rule: Any, epochs: int = 3, **options: Any) -> dt.Trainer:
    trainer = trainer_of(rule, **options)
    trainer.fit(X, epochs=epochs, batch_size=20, verbose=0)
    return trainer


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_the_delta_rule_is_least_squares(shards: int) -> None:
    rules = dt.Contribution(delta, sums=["loss", "off"]), lambda p, x, y: (x @ p["w"] - y) ** 2 / 2
    trainers = [trainer_of(rule, shards=shards, dtype="float64") for rule in rules]
    histories = [t.fit(X, Y, sample_weight=WEIGHTS, epochs=2, batch_size=20, verbose=0).history for t in trainers]
    np.testing.assert_allclose(trainers[0].parameters["w"], trainers[1].parameters["w"], rtol=1e-12)
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-12)
    scores = trainers[0].evaluate(X, Y, sample_weight=WEIGHTS)
    np.testing.assert_allclose(scores["loss"], trainers[1].evaluate(X, Y, sample_weight=WEIGHTS)["loss"], rtol=1e-12)
    np.testing.assert_allclose(scores["off"], np.sum(X @ trainers[0].parameters["w"] - Y) / WEIGHTS.sum(), atol=1e-5)


def test_states_are_kept_by_shard_and_added_up() -> None:
    states = train(chained()).weights()
    assert int(states["steps"]) == 3 * 48
    assert states["particles"].shape == (4, 3)
    assert len({tuple(row) for row in states["particles"]}) == 4


def test_a_run_is_the_same_on_any_engine_and_in_pieces(client: Any, tmp_path: Any) -> None:
    whole = train(chained())
    for engine in ("lanes", "scheduler"):
        other = train(chained(), engine=engine, client=client)
        assert (other.history.fingerprint, other.history.events) == (whole.history.fingerprint, [])
    first = train(chained(), epochs=1)
    first.save(tmp_path)
    again = dt.load(tmp_path, model=chained())
    again.fit(X, epochs=2, batch_size=20, verbose=0)
    assert again.history.fingerprint == whole.history.fingerprint
    with pytest.raises(ArgumentError, match=r"is of a contribution: give it, as in dt\.load\(path, model=dt\.Contribution"):
        dt.load(tmp_path)
    with pytest.raises(ArgumentError, match="is of a contribution, and model= is <function delta"):
        dt.load(tmp_path, model=delta)


def rule(gradients: Any, sums: Any) -> Any:
    return dt.Contribution(lambda parameters, x: (gradients, sums(x)))


def one(x: Any) -> Any:
    return {"loss": (np.sum(x), len(x))}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rule(np.zeros(3), one), ArgumentError, r"gradients nested as \*, and the parameters are nested as \{'w'"),
        (lambda: rule({"w": np.zeros(2)}, one), ShapeError, r"gradient of 'w' has shape \(2,\), the parameter \(3,\)"),
        (lambda: rule({"w": np.zeros(3)}, lambda x: {"cost": (0, 1)}), ArgumentError, r"returns \(gradients, sums\), with sums.*for loss"),
        (lambda: rule({"w": np.zeros(3)}, lambda x: {"loss": np.sum(x)}), ArgumentError, r"'loss' is a pair of two numbers"),
        (lambda: dt.Contribution(delta, sums=["loss", "off"]), ArgumentError, "delta takes y, and fit got none"),
        (lambda: dt.Contribution(lambda parameters, rows: None), ArgumentError, r"unknown argument of <lambda> 'rows'.*Known"),
        (lambda: dt.Contribution(chain), ArgumentError, "chain takes states, and 0 are given"),
        (lambda: dt.Contribution(delta, states={"a": 1.0}), ArgumentError, "delta takes no states, and 1 are given"),
        (lambda: dt.Contribution(delta, sums=["a", "a"]), ArgumentError, "sums are different names"),
        (lambda: dt.Contribution("delta"), ArgumentError, "takes a function, not a str"),
        (lambda: dt.Contribution(chain, states={"n": np.array(0)}, reduce={"n": "mean"}), ArgumentError, r"'n' holds values of int64"),
    ],
)
def test_mistakes_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        train(make())


def test_what_a_rule_cannot_do_is_said() -> None:
    trainer = train(chained())
    with pytest.raises(ArgumentError, match="chain has states by shard, which exist in training alone"):
        trainer.evaluate(X)
    with pytest.raises(ArgumentError, match="has no outputs to predict"):
        trainer.predict(X)
    with pytest.raises(ArgumentError, match="needs its first parameters"):
        dt.Trainer(chained())
    with pytest.raises(ArgumentError, match="no metrics"):
        dt.Trainer(chained(), metrics=["accuracy"], parameters={"w": np.zeros(3)})
    with pytest.raises(ArgumentError, match="a function of the data alone"):
        train(dt.Contribution(lambda parameters, x: ({"w": parameters["w"]}, {"loss": (np.sum(x), np.sum(parameters["w"] ** 2))})))
