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
from dagtrain.report.records import Event
from dagtrain.step.state import State
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
    "an early stopping that restores nothing": ({"early": True}, [], 1, [STEPS * EPOCHS]),
}


@pytest.mark.parametrize("look", LOOKS)
def test_commits_end_where_the_state_is_asked_for(apart: Any, look: str) -> None:
    """The first time it is asked for within a commit, the steps before are repeated; then commits end there."""
    options, does, calls, commits = LOOKS[look]
    options = dict(options)
    trainer, engine = new()
    callback = dt.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: [do(trainer, epoch) for do in does])
    early = [dt.callbacks.EarlyStopping("loss", patience=EPOCHS)] if options.pop("early", False) else []
    fit(trainer, callback, *early, **options)
    assert bits(trainer) == apart
    assert (engine.calls, engine.commits) == (calls, commits)
    assert trainer.ledger().epochs == list(range(EPOCHS - 8, EPOCHS))
    trainer.ledger().verify()


def test_one_look_within_an_epoch_is_forgotten_after_an_epoch_without(apart: Any) -> None:
    trainer, engine = new()
    fit(
        trainer,
        dt.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: len(engine.commits) == 1 and batch == 1 and trainer.state),
    )
    assert bits(trainer) == apart
    assert engine.commits == [STEPS * EPOCHS, 1, 1, *[1] * (STEPS - 2), *[1] * STEPS, *[STEPS] * (EPOCHS - 2)]
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


class Telling(Counted):
    """Tells of something before each stream; a state where a stream is to begin may be lost, and a repetition may break."""

    def __init__(self, loses: int = 0, breaks: bool = False) -> None:
        super().__init__(lambda step: self.breaks and step == 3 * STEPS)
        self.loses, self.breaks = loses, breaks

    def session(self, program: Any, source: Any, exact: bool = False) -> Any:
        session = super().session(program, source, exact)
        run = session.run

        def telling(start: Any, steps: Any) -> Any:
            yield Event("lost", "a worker")
            if not isinstance(start, State) and self.loses:
                self.loses -= 1
                raise StateLostError("it is gone.")
            for item in run(start, steps):
                yield item
                if self.breaks and self.calls > 3:
                    raise ClusterError("the cluster is gone.")

        session.run = telling  # type: ignore[method-assign]
        return session


def test_a_callback_that_changes_the_rate_before_the_first_commit_keeps_weights_that_were_just_restored() -> None:
    """No commit has come from them when the stream is closed again."""
    found = set()
    for engine in (Telling(), Counted()):
        trainer, _ = new(engine=engine)
        first: list[Any] = []

        def restore(epoch: int, logs: Any, trainer: Any = trainer, first: Any = first) -> None:
            first.append(trainer.state)
            if epoch == 2:
                trainer.restore_weights(first[0])
                if isinstance(trainer.engine, Counted) and not isinstance(trainer.engine, Telling):
                    trainer.learning_rate_scale = 0.5

        def slower(event: Event, trainer: Any = trainer, first: Any = first) -> None:
            if len(first) == 3 and event.kind == "lost":
                trainer.learning_rate_scale = 0.5

        fit(trainer, dt.callbacks.LambdaCallback(on_epoch_end=restore, on_event=slower))
        found.add(bits(trainer)[0])
    assert len(found) == 1


def test_a_state_that_is_lost_where_a_stream_begins_is_computed_again(apart: Any) -> None:
    """A rate that changes and changes back: the streams after it end with their epochs, and begin where the one before ended."""
    trainer, engine = new(engine=Telling(loses=2))

    def twice(epoch: int, logs: Any) -> None:
        if epoch == 1:
            trainer.learning_rate_scale = 0.5
            trainer.learning_rate_scale = 1.0

    fit(trainer, dt.callbacks.LambdaCallback(on_epoch_end=twice))
    assert bits(trainer) == apart
    assert isinstance(engine, Telling)
    assert engine.loses == 0
    trainer.ledger().verify()


def test_callbacks_are_told_of_a_repetition_when_it_is_over(apart: Any) -> None:
    """They may ask for the state that it makes, and set another."""
    trainer, engine = new(engine=Telling())
    at: list[int] = []

    def look(event: Event) -> None:
        at.append(trainer.state.step)

    late = dt.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epoch == 2 and trainer.state, on_event=look)
    fit(trainer, late)
    assert bits(trainer) == apart
    assert at == [0, 3 * STEPS, 3 * STEPS]
    assert engine.calls == 3


def test_an_error_while_steps_are_repeated_goes_back_to_the_last_state_that_is_here(apart: Any) -> None:
    """And not to one on the way."""
    trainer, _ = new(engine=Telling(breaks=True))
    with pytest.raises(ClusterError, match="the cluster is gone"):
        fit(trainer, dt.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epoch in (0, 2) and trainer.state))
    assert trainer.state.step == trainer.progress.epochs * STEPS
    trainer.ledger().verify()
    left, trainer.engine = EPOCHS - trainer.progress.epochs, "inline"
    fit(trainer, epochs=left)
    assert bits(trainer)[0] == apart[0]


def test_a_state_lost_at_the_end_of_an_epoch_of_a_stream_is_computed_again() -> None:
    found = []
    for times in (0, 1):
        losses: list[int] = []
        engine = Counted(lambda step, times=times, losses=losses: step == 8 and len(losses) < times and not losses.append(step))
        trainer, _ = new(engine=engine)
        trainer.fit(lambda: ((X[i : i + 16], Y[i : i + 16]) for i in range(0, 48, 12)), epochs=3, verbose=0)
        found.append((trainer.state.step, trainer.state.fingerprint, len(losses)))
    assert [each[0] for each in found] == [12, 12]
    assert (found[0][1], found[1][2]) == (found[1][1], 1)


def test_an_iterator_that_is_interrupted_after_an_epoch_goes_on_without_a_gap() -> None:
    """Its batches are given up only when the state after them is here: they come once."""

    def interrupt(epoch: int, logs: Any) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    batches = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 34, 3)]
    whole, broken = new()[0], new()[0]
    whole.fit(iter(batches), steps_per_epoch=4, epochs=3, verbose=0)
    once = iter(batches)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(once, steps_per_epoch=4, epochs=3, verbose=0, callbacks=[dt.callbacks.LambdaCallback(on_epoch_end=interrupt)])
    assert broken.progress.place == (2, 0)
    broken.fit(once, steps_per_epoch=4, epochs=1, verbose=0)
    assert broken.state.fingerprint == whole.state.fingerprint


def test_each_event_before_a_fit_comes_once() -> None:
    class Telling(dt.callbacks.Callback):
        seen = 0

        def on_train_begin(self) -> None:
            self.tell("it begins")

        def on_event(self, event: Event) -> None:
            self.seen += 1

    trainer, _ = new()
    callback = Telling()
    fit(trainer, callback, epochs=1)
    assert callback.seen == 1


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
