"""Several short epochs run in one call of the engine, with the same results in less time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data.ledger import Ledger
from dagtrain.engines.engine import InlineEngine
from dagtrain.errors import NotFiniteError

pytestmark = pytest.mark.combined

X = np.random.default_rng(0).normal(size=(50, 3)).astype("f4")
Y = (X.sum(1) > 0).astype("i8")
STEPS = 4


class Counted(InlineEngine):
    """Records the number of steps of each call."""

    def __init__(self) -> None:
        super().__init__(1)
        self.calls: list[int] = []

    def session(self, program: Any, source: Any, exact: bool = False) -> Any:
        session = super().session(program, source, exact)
        run = session.run  # type: ignore[attr-defined]

        def counted(state: Any, batches: Any, watch: Any, following: Any = ()) -> Any:
            self.calls.append(len(batches))
            return run(state, batches, watch, following)

        session.run = counted  # type: ignore[attr-defined]
        return session


class Steps(dt.callbacks.Callback):
    """Records its calls; stops at a step; `may_lag` is an argument."""

    def __init__(self, may_lag: bool, stop_at: int = -1) -> None:
        self.may_lag, self.stop_at = may_lag, stop_at
        self.epochs: list[tuple[str, int]] = []
        self.batches: list[int] = []

    def on_epoch_begin(self, epoch: int) -> None:
        self.epochs.append(("begin", epoch))

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.epochs.append(("end", epoch))

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        self.batches.append(batch)
        if len(self.batches) == self.stop_at:
            self.trainer.stop("enough")


def new(optimizer: Any = "adam", engine: Any = None) -> tuple[dt.Trainer, Counted]:
    engine = engine or Counted()
    model = dt.nn.Sequential([dt.nn.Dense(5, "tanh"), dt.nn.Dense(2)])
    return dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], shards=2, engine=engine), engine


def fit(trainer: dt.Trainer, epochs: int, **options: Any) -> Any:
    return trainer.fit(X, Y, epochs=epochs, batch_size=16, verbose=0, **options)


def bits(trainer: dt.Trainer) -> tuple[str, dict[str, list[float]]]:
    """Weights, and the history without times."""
    timed = ("seconds", "samples_per_second")
    return trainer.history.fingerprint, {k: v for k, v in trainer.history.history.items() if k not in timed}


@pytest.fixture(scope="module")
def apart() -> tuple[str, dict[str, list[float]]]:
    """Twenty epochs, each in a call of its own."""
    trainer, engine = new()
    fit(trainer, 20, callbacks=[Steps(may_lag=False)])
    assert engine.calls == [STEPS] * 20
    return bits(trainer)


def test_the_same_bits_and_the_same_history(apart: Any) -> None:
    trainer, engine = new()
    fit(trainer, 20)
    assert bits(trainer) == apart
    assert engine.calls[0] == STEPS  # the time of an epoch is unknown yet
    assert max(engine.calls) > STEPS
    assert sum(engine.calls) == 20 * STEPS
    assert trainer.ledger().epochs == list(range(12, 20))
    trainer.ledger().verify()
    assert all(trainer.ledger().complete(e) for e in trainer.ledger().epochs)


def test_a_second_fit_continues(apart: Any) -> None:
    trainer, _ = new()
    first, second = fit(trainer, 13), fit(trainer, 7)
    assert (first.epochs, second.epochs) == (13, 7)
    assert [*first.history["loss"], *second.history["loss"]] == apart[1]["loss"]
    assert bits(trainer)[0] == apart[0]


@pytest.mark.parametrize("may_lag", [True, False])
def test_callbacks_see_every_moment_in_order(may_lag: bool) -> None:
    steps = Steps(may_lag)
    trainer, engine = new()
    fit(trainer, 9, callbacks=[steps])
    assert steps.epochs == [(moment, epoch) for epoch in range(9) for moment in ("begin", "end")]
    assert steps.batches == [*range(STEPS)] * 9
    assert (max(engine.calls) > STEPS) == may_lag


class Silent:
    """A reporter without `may_lag`."""

    start = step = epoch = finish = staticmethod(lambda *arguments: None)


@pytest.mark.parametrize("looking", [{"validation_data": (X, Y)}, {"checkpoint": "run"}, {"reporter": Silent()}])
def test_if_the_state_of_each_epoch_is_used_each_is_a_call(looking: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer, engine = new()
    fit(trainer, 6, **looking)
    assert engine.calls == [STEPS] * 6


def test_a_file_of_the_history_has_every_epoch(tmp_path: Path) -> None:
    trainer, engine = new()
    fit(trainer, 9, callbacks=[dt.callbacks.CSVLogger(tmp_path / "a.csv")])
    assert max(engine.calls) > STEPS
    assert [line.partition(",")[0] for line in (tmp_path / "a.csv").read_text().split()] == ["epoch", *map(str, range(9))]


@pytest.mark.parametrize("stop_at", [STEPS, STEPS + 1, 3 * STEPS - 1, 3 * STEPS, 4 * STEPS + 2])
def test_a_stop_among_epochs_that_are_run_together(apart: Any, stop_at: int) -> None:
    trainer, _ = new()
    steps = Steps(True, stop_at)
    history = fit(trainer, 20, callbacks=[steps])
    assert len([epoch for moment, epoch in steps.epochs if moment == "begin"]) == -(-stop_at // STEPS)
    assert trainer.progress.state is not None
    assert (trainer.progress.state.step, history.epochs, history.stopped) == (stop_at, stop_at // STEPS, "enough")
    assert (0 if trainer.progress.begun is None else trainer.progress.begun.steps) == stop_at % STEPS
    trainer.ledger().verify()
    rest = fit(trainer, 20 - history.epochs)
    assert bits(trainer)[0] == apart[0]
    assert [*history.history["loss"], *rest.history["loss"]] == apart[1]["loss"]
    trainer.ledger().verify()


def test_an_error_of_the_reporter_leaves_the_trainer_at_a_boundary(apart: Any) -> None:
    class Full:
        may_lag = True

        def start(self, info: Any) -> None: ...
        def step(self, *info: Any) -> None: ...
        def finish(self, info: Any) -> None: ...
        def epoch(self, row: Any) -> None:
            if row["epoch"] == 3:
                raise OSError("no space left")

    trainer, engine = new()
    with pytest.raises(OSError, match="no space"):
        fit(trainer, 8, reporter=Full())
    assert trainer.progress.state is not None
    assert engine.calls[2] > STEPS
    assert trainer.progress.state.step == trainer.progress.epochs * STEPS
    fit(trainer, 20 - trainer.progress.epochs)
    assert bits(trainer)[0] == apart[0]


def test_epochs_before_one_that_turns_infinite_count() -> None:
    """They run again, each in a call of its own."""
    trainer, engine = new(dt.optim.sgd(lambda step: 0.1 + 1e39 * (step >= 9 * STEPS + 1)))
    with pytest.raises(NotFiniteError):
        fit(trainer, 20)
    assert trainer.progress.state is not None
    assert max(engine.calls) > STEPS
    assert (trainer.progress.epochs, trainer.progress.record.epochs, trainer.progress.state.step) == (9, 9, 9 * STEPS)
    trainer.ledger().verify()


def test_a_subclass_does_not_inherit_may_lag() -> None:
    class Impatient(dt.callbacks.TimeLimit):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            if epoch == 5:
                self.trainer.stop("enough")

    trainer, _ = new()
    assert fit(trainer, 20, callbacks=[Impatient(60)]).epochs == 6


def test_many_samples_are_not_held_for_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a million sample numbers are, however fast the machine is."""
    monkeypatch.setattr("dagtrain.train.loop._CALL_SECONDS", 600.0)
    x = np.zeros(((1 << 20) // 3, 1), "f4")
    engine = Counted()
    trainer = dt.Trainer(lambda w, x: np.mean(w + x), parameters=np.zeros((), "f4"), shards=1, engine=engine)
    trainer.fit(x, epochs=8, batch_size=len(x), verbose=0)
    assert max(engine.calls) == 3


def test_ctrl_c_twice_leaves_the_trainer_at_a_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second Ctrl-C arrives between two epochs."""
    from dagtrain.train.stopping import Stopping

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
        fit(trainer, 20)
    assert trainer.progress.state is not None
    assert trainer.progress.state.step == trainer.progress.epochs * STEPS == trainer.progress.record.epochs * STEPS
    assert trainer.progress.epochs > 4
    trainer.ledger().verify()
