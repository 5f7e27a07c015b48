"""The loop over the stream of commits: what it asks of the engine, how often steps are computed, and where an error leaves the trainer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data.ledger import Ledger
from dagtrain.engines.commits import Commit, StateLostError
from dagtrain.engines.engine import InlineEngine
from dagtrain.errors import ClusterError, NotFiniteError
from dagtrain.train.stopping import Stopping

pytestmark = pytest.mark.combined

X = np.random.default_rng(0).normal(size=(50, 3)).astype("f4")
Y = (X.sum(1) > 0).astype("i8")
STEPS, EPOCHS = 4, 12


class Counted(InlineEngine):
    """Records the calls of `run`, and the steps of each commit; `lose` decides whether a commit's state is lost."""

    def __init__(self, lose: Callable[[int], bool] = lambda step: False) -> None:
        super().__init__(1, commit=60.0)
        self.lose, self.calls, self.commits = lose, 0, list[int]()

    def session(self, program: Any, source: Any, exact: bool = False) -> Any:
        session = super().session(program, source, exact)
        run = session.run

        def counted(start: Any, steps: Any) -> Any:
            self.calls += 1
            for item in run(start, steps):
                assert isinstance(item, Commit)
                self.commits.append(len(item.sums))
                lost = self.lose(item.state.step)
                yield item._replace(state=replace(item.state, bring=self.gone)) if lost else item

        session.run = counted  # type: ignore[method-assign]
        return session

    def gone(self, ref: Any) -> Any:
        raise StateLostError("it is gone.")


def new(optimizer: Any = "adam", engine: Any = None) -> tuple[dt.Trainer, Counted]:
    engine = engine or Counted()
    model = dt.nn.Sequential([dt.nn.Dense(5, "tanh"), dt.nn.Dense(2)])
    return dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], shards=2, engine=engine), engine


def fit(trainer: dt.Trainer, *callbacks: Any, epochs: int = EPOCHS, **options: Any) -> Any:
    return trainer.fit(X, Y, epochs=epochs, batch_size=16, verbose=0, callbacks=callbacks, **options)


def bits(trainer: dt.Trainer) -> tuple[str, dict[str, list[float]]]:
    """Weights, and the history without times and validation."""
    assert trainer.history is not None
    return trainer.history.fingerprint, {name: trainer.history.history[name] for name in ("loss", "accuracy")}


@pytest.fixture(scope="module")
def apart() -> Any:
    """All epochs, each in a fit of its own."""
    trainer, losses = new(engine=InlineEngine(1, commit=0.0))[0], []
    for _ in range(EPOCHS):
        fit(trainer, epochs=1)
        losses.append(bits(trainer))
    return losses[-1][0], {name: [row[1][name][0] for row in losses] for name in ("loss", "accuracy")}


LOOKS = {
    "nothing": ({}, [], 1, [STEPS * EPOCHS]),
    "validation": ({"validation_data": (X, Y)}, [], 1, [STEPS] * EPOCHS),
    "a look at one epoch": ({}, [lambda trainer, epoch: epoch == 2 and trainer.state], 3, [STEPS * EPOCHS, *[STEPS] * EPOCHS]),
}


@pytest.mark.parametrize("look", LOOKS)
def test_commits_end_where_the_state_is_asked_for(apart: Any, look: str) -> None:
    """The first time it is asked for within a commit, the steps before are repeated; then commits end there."""
    options, does, calls, commits = LOOKS[look]
    trainer, engine = new()
    callback = dt.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: [do(trainer, epoch) for do in does])
    fit(trainer, callback, **options)
    assert bits(trainer) == apart
    assert (engine.calls, engine.commits) == (calls, commits)
    assert trainer.ledger().epochs == list(range(EPOCHS - 8, EPOCHS))
    trainer.ledger().verify()


def test_a_rate_that_changes_at_each_epoch_lets_nothing_run_ahead() -> None:
    """But for the first change, which nobody could know of."""
    trainer, engine = new(dt.optim.sgd(0.1))
    fit(trainer, dt.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch)))
    assert engine.commits == [STEPS * EPOCHS, *[STEPS] * EPOCHS]
    other, _ = new(dt.optim.sgd(lambda step: 0.1 / (1 + step // STEPS)))
    fit(other)
    assert bits(trainer) == bits(other)


def test_states_that_are_lost_are_computed_again(apart: Any) -> None:
    lost: list[int] = []
    engine = Counted(lambda step: step == 8 and len(lost) < 3 and not lost.append(step))  # type: ignore[func-returns-value]
    trainer, _ = new(engine=engine)
    fit(trainer, validation_data=(X, Y))
    assert bits(trainer) == apart
    assert len(lost) == 3
    assert trainer.history is not None
    assert [(event.kind, event.step) for event in trainer.history.events] == [("repeated", 4)] * 3
    trainer, _ = new(engine=Counted(lambda step: step == 8))
    with pytest.raises(ClusterError, match=r"the state of step 8 was computed 8 times and no worker has it; the last time: it is gone\."):
        fit(trainer, validation_data=(X, Y))
    assert (trainer.progress.place, trainer.state.step, trainer.history and trainer.history.epochs) == ((1, 0), 4, 1)
    trainer.ledger().verify()
    trainer.engine = "inline"
    fit(trainer, epochs=EPOCHS - 1)
    assert bits(trainer)[0] == apart[0]


@pytest.mark.parametrize("looked", [5, 8])
def test_steps_before_one_that_turns_infinite_count_up_to_the_last_state_that_is_here(looked: int) -> None:
    trainer, _ = new(dt.optim.sgd(lambda step: 0.1 + 1e39 * (step >= 9 * STEPS + 1)))
    look = dt.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epoch == looked and trainer.state)
    with pytest.raises(NotFiniteError, match="the update of step 37"):
        fit(trainer, look)
    epochs = looked + 1
    assert (trainer.progress.place, trainer.progress.record.epochs, trainer.state.step) == ((epochs, 0), epochs, epochs * STEPS)
    trainer.ledger().verify()


def test_ctrl_c_twice_leaves_the_trainer_at_a_boundary(monkeypatch: pytest.MonkeyPatch, apart: Any) -> None:
    """The second Ctrl-C arrives while an epoch is entered: training goes back to the last state that is here."""
    stopping: list[Stopping] = []
    monkeypatch.setattr(Stopping, "__init__", lambda self, before=Stopping.__init__: (before(self), stopping.append(self))[0])
    trainer, _ = new()
    close = Ledger.close

    def twice(ledger: Any, epoch: int) -> None:
        close(ledger, epoch)
        if epoch == 4:
            stopping[-1].interrupt()
            stopping[-1].interrupt()

    monkeypatch.setattr(Ledger, "close", twice)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, dt.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epoch == 2 and trainer.state))
    assert (trainer.state.step, trainer.progress.place, trainer.progress.record.epochs) == (3 * STEPS, (3, 0), 3)
    trainer.ledger().verify()
    monkeypatch.undo()
    fit(trainer, epochs=EPOCHS - 3)
    assert bits(trainer)[0] == apart[0]


def test_the_seconds_of_epochs_are_all_the_time_that_passed() -> None:
    """Validation and callbacks count too."""
    trainer, _ = new()
    slow = dt.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: time.sleep(0.02))
    began = time.perf_counter()
    history = fit(trainer, slow, validation_data=(X, Y)).history
    passed = time.perf_counter() - began
    assert 0.02 * (EPOCHS - 1) <= sum(history["seconds"]) <= passed
    assert history["samples_per_second"] == [len(X) / seconds for seconds in history["seconds"]]


def test_logs_of_a_step_are_computed_where_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _ = new()
    seen = []
    fit(trainer, dt.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append({**logs})), epochs=1)
    assert [sorted(logs) for logs in seen] == [["accuracy", "loss"]] * STEPS
    program = trainer.program
    monkeypatch.setattr(type(program), "numbers", lambda *args: pytest.fail("nobody reads them"))
    unread = dt.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: trainer.stop())
    assert fit(trainer, unread, epochs=1).stopped
