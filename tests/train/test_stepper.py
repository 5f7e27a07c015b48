"""Steps without epochs: the bits of a fit of the same rows, on every engine, through changes, saves, lost states and errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data import BatchPlan
from dagtrain.engines.commits import Commit, StateLostError
from dagtrain.engines.engine import InlineEngine
from dagtrain.errors import ArgumentError, ClusterError, DataError, NotFiniteError

pytestmark = pytest.mark.combined

X = np.random.default_rng(0).normal(size=(52, 3)).astype("f4")
Y = (X.sum(1) > 0).astype("i8")
W = np.random.default_rng(1).uniform(size=52).astype("f4")
PLAN = BatchPlan(len(X), 16, 2, seed=0)
ROWS = [np.concatenate(PLAN.step(epoch, i)) for epoch in range(3) for i in range(PLAN.steps_per_epoch)]
"""Of each step of a fit of three epochs, the last of each with 4 rows."""


def settings(**options: Any) -> dict[str, Any]:
    model = dt.nn.Sequential([dt.nn.BatchNorm(), dt.nn.Dense(5, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(2)])
    return {"model": model, "loss": "cross_entropy", "metrics": ["accuracy"], "shards": 2, "engine": "inline", **options}


@pytest.fixture(scope="module")
def fitted() -> dt.Trainer:
    trainer = dt.Trainer(**settings())
    trainer.fit(X, Y, sample_weight=W, epochs=3, batch_size=16, verbose=0)
    return trainer


@pytest.mark.parametrize("engine", ["inline", "lanes", "scheduler"])
def test_steps_give_the_bits_of_a_fit(threads: Any, fitted: dt.Trainer, engine: str) -> None:
    """One by one, as batches that came just now, and as rows of a memory; nothing is left out by the engine."""
    with dt.Stepper(**settings(engine=engine)) as stepper:
        logs = [stepper.step(X[rows], Y[rows], sample_weight=W[rows]) for rows in ROWS[:2]]
        logs += stepper.run([(X[rows], Y[rows], W[rows]) for rows in ROWS[2:5]])
        assert stepper.state.step == 5
        logs += stepper.run(ROWS[5:], X, Y, sample_weight=W)
        assert stepper.trainer.predict(X).shape == (52, 2)
        assert stepper.state.fingerprint == fitted.state.fingerprint
        assert stepper.events == []
    assert stepper.state.fingerprint == fitted.state.fingerprint
    assert fitted.history is not None
    parts = [np.sum(W[rows]) for rows in ROWS[:4]]
    mean = sum(each["loss"] * weight for each, weight in zip(logs, parts, strict=False)) / sum(parts)
    assert mean == pytest.approx(fitted.history.history["loss"][0], rel=1e-5)
    assert set(logs[0]) == {"loss", "accuracy"}


def test_between_steps_anything_may_change(threads: Any, tmp_path: Any) -> None:
    fingerprints = set()
    for engine in ("inline", "lanes"):
        stepper = dt.Stepper(**settings(engine=engine))
        stepper.run(ROWS[:3], X, Y)
        stepper.trainer.learning_rate_scale = 0.5
        stepper.step(X[ROWS[3]], Y[ROWS[3]])
        before = stepper.trainer.weights()
        stepper.save(tmp_path / engine)
        stepper.run(ROWS[4:6], X, Y)
        stepper.trainer.load_weights(before)
        stepper.run(ROWS[6:8], X, Y)
        stepper.trainer.fit(X, Y, batch_size=16, verbose=0)
        stepper.step(X[:7], Y[:7])
        fingerprints.add(stepper.state.fingerprint)
        stepper.close()
        again = dt.Stepper.load(tmp_path / engine, engine="inline")
        again.run(ROWS[4:6], X, Y)
        again.trainer.load_weights(before)
        again.run(ROWS[6:8], X, Y)
        again.trainer.fit(X, Y, batch_size=16, verbose=0)
        fingerprints.add(again.trainer.partial_fit(X[:7], Y[:7]) and again.state.fingerprint)
    assert len(fingerprints) == 1


def test_partial_fit_is_a_step(fitted: dt.Trainer) -> None:
    trainer = dt.Trainer(**settings())
    for rows in ROWS:
        trainer.partial_fit(X[rows], Y[rows], sample_weight=W[rows])
    assert trainer.state.fingerprint == fitted.state.fingerprint
    assert trainer.evaluate(X, Y) == fitted.evaluate(X, Y)


class Forgetful(InlineEngine):
    """Loses the state after the given steps, as often as told."""

    def __init__(self, times: dict[int, int]) -> None:
        super().__init__(1)
        self.times = times

    def session(self, program: Any, source: Any, exact: bool = False) -> Any:
        session = super().session(program, source, exact)
        run = session.run

        def gone(ref: Any) -> Any:
            raise StateLostError("it is gone.")

        def forgetting(start: Any, steps: Any) -> Any:
            for item in run(start, steps):
                assert isinstance(item, Commit)
                if self.times.get(item.state.step, 0) > 0:
                    self.times[item.state.step] -= 1
                    item = item._replace(state=type(item.state)(item.state.step, 1.0, gone))  # the same commit
                yield item

        session.run = forgetting  # type: ignore[method-assign]
        return session


def test_a_state_that_is_lost_is_computed_again(fitted: dt.Trainer) -> None:
    with dt.Stepper(**settings(engine=Forgetful({1: 2, 5: 1, 12: 1}))) as stepper:
        stepper.step(X[ROWS[0]], Y[ROWS[0]], sample_weight=W[ROWS[0]])
        stepper.run(ROWS[1:5], X, Y, sample_weight=W)
        stepper.run(ROWS[5:], X, Y, sample_weight=W)
    assert stepper.state.fingerprint == fitted.state.fingerprint
    stepper = dt.Stepper(**settings(engine=Forgetful({2: 99})))
    stepper.run(ROWS[:1], X, Y)
    stepper.run(ROWS[1:2], X, Y)
    with pytest.raises(ClusterError, match="computed 8 times"):
        stepper.close()
    assert stepper.trainer.progress.state is not None
    assert stepper.state.step == 1, "the last state that is here"


def test_a_step_that_breaks_leaves_the_trainer_before_it() -> None:
    def cost(w: Any, x: Any) -> Any:
        return np.mean(np.log(x @ w))

    stepper = dt.Stepper(cost, parameters=np.ones(3, "f4"), shards=1, engine="inline", optimizer=dt.optim.sgd(0.01))
    stepper.step(np.ones((4, 3)))
    good = stepper.state.fingerprint
    for broken in (lambda: stepper.step(-np.ones((4, 3))), lambda: stepper.run([np.ones((4, 3)), -np.ones((4, 3))])):
        with pytest.raises(NotFiniteError, match="'log'"):
            broken()
        assert (stepper.state.step, stepper.state.fingerprint) == (1, good)
    stepper.step(np.ones((4, 3)))
    assert stepper.state.step == 2


WRONG = {
    "other columns": (lambda s: s.step(X[:8, :2], Y[:8]), DataError, "rows of shape"),
    "no targets": (lambda s: s.step(X[:8]), DataError, "targets"),
    "rows that are no numbers": (lambda s: s.run([[0.5]], X, Y), ArgumentError, "numbers of rows"),
    "a row that is not there": (lambda s: s.run([[0, 99]], X, Y), DataError, "a row that x, y or sample_weight does not have"),
    "a batch of four": (lambda s: s.run([(X, Y, W, W)]), ArgumentError, "a tuple of 4"),
    "negative weights": (lambda s: s.step(X[:8], Y[:8], sample_weight=-W[:8]), DataError, "negative"),
}


@pytest.mark.parametrize(("use", "error", "says"), WRONG.values(), ids=WRONG)
def test_wrong_rows_are_refused(use: Any, error: type[Exception], says: str) -> None:
    with dt.Stepper(**settings()) as stepper:
        stepper.step(X[:8], Y[:8])
        with pytest.raises(error, match=says):
            use(stepper)
        assert stepper.state.step == 1
        stepper.step(X[:8], Y[:8])
        assert stepper.run([]) == []


def test_wrong_uses_are_refused() -> None:
    with pytest.raises(DataError, match="the first batch has 1 rows for 2 shards"):
        dt.Stepper(**settings()).step(X[:1], Y[:1])
    trainer = dt.Trainer(**settings())
    with pytest.raises(ArgumentError, match="give the trainer alone"):
        dt.Stepper(trainer, loss="mse")

    def step(*arguments: Any) -> None:
        dt.Stepper(trainer).step(X, Y)

    with pytest.raises(ArgumentError, match="the trainer is in a fit"):
        trainer.fit(X, Y, verbose=0, callbacks=[dt.callbacks.LambdaCallback(on_epoch_end=step)])


def test_other_settings_between_steps_take_effect() -> None:
    """An optimiser, an engine, a number of threads."""
    found = []
    for closes in (False, True):
        stepper = dt.Stepper(**settings(optimizer=dt.optim.sgd(0.1)))
        for optimizer in (dt.optim.sgd(0.5), dt.optim.adam()):
            stepper.step(X[:8], Y[:8])
            if closes:
                stepper.close()
            stepper.trainer.optimizer = optimizer
        stepper.step(X[:8], Y[:8])
        found.append(stepper.state.fingerprint)
        engine = Forgetful({4: 1})
        stepper.trainer.engine = engine
        stepper.step(X[:8], Y[:8])
        assert (stepper.state.step, engine.times) == (4, {4: 0})
    assert found[0] == found[1]


def test_steps_may_come_from_several_threads_one_after_the_other(fitted: dt.Trainer) -> None:
    with dt.Stepper(**settings()) as stepper, ThreadPoolExecutor(1) as other:
        for i, rows in enumerate(ROWS):
            step = lambda rows=rows: stepper.step(X[rows], Y[rows], sample_weight=W[rows])  # noqa: E731
            other.submit(step).result() if i % 3 else step()
            assert [other.submit(lambda: stepper.state.step).result(), stepper.state.step] == [i + 1] * 2
    assert stepper.state.fingerprint == fitted.state.fingerprint


def test_a_batch_of_a_size_that_fails_leaves_the_stepper_as_it_was() -> None:
    def cost(w: Any, x: Any) -> Any:
        if len(x) == 20:
            raise ValueError("twenty rows")
        return np.mean((x @ w) ** 2)

    stepper = dt.Stepper(cost, parameters=np.ones(3, "f4"), shards=2, threads=2, engine="inline")
    stepper.step(X[:8])
    with pytest.raises(Exception, match="twenty rows"):
        stepper.step(X[:40])
    stepper.step(X[:8])
    assert stepper.state.step == 2


class Full(InlineEngine):
    """Cannot begin."""

    def session(self, program: Any, source: Any, exact: bool = False) -> Any:
        raise ClusterError("there is no room.")


def test_a_first_step_that_fails_decides_nothing() -> None:
    trainer = dt.Trainer(**settings(engine=Full()))
    with pytest.raises(ClusterError, match="no room"):
        trainer.partial_fit(X, Y)
    trainer.engine = "inline"
    trainer.partial_fit(X[:, :2], Y)
    assert trainer.state.step == 1
