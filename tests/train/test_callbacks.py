"""Callbacks are called in order, on any engine; the ready ones decide the same across a resume."""

from __future__ import annotations

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import callbacks
from dagtrain.errors import ArgumentError, UnknownNameError

pytestmark = pytest.mark.combined

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(100, 6)).astype("f4"), RNG.integers(0, 3, 100)


def new(rate: float = 1e-2, **options: Any) -> Any:
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(16, "tanh"), dt.nn.Dense(3)]
    options = {"optimizer": dt.optim.adam(rate), "shards": 2, "engine": "inline", **options}
    return dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", metrics=["accuracy"], **options)


def fit(trainer: Any, *observers: Any, epochs: int = 4, **options: Any) -> Any:
    options = {"validation_data": (X[:30], (Y[:30] + 1) % 3), "batch_size": 40, "verbose": 0, **options}
    return trainer.fit(X, Y, epochs=epochs, callbacks=list(observers), **options)


class Scripted(callbacks.Callback):
    """Replaces the values of a quantity, so that a test decides what callbacks see."""

    def __init__(self, values: list[float], name: str = "val_loss") -> None:
        self.values, self.name = values, name

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        for history in (self.trainer.history, self.trainer.progress.record):
            history.history[self.name][-1] = self.values[epoch]
        logs[self.name] = self.values[epoch]


class Notes(callbacks.Callback):
    """Records all moments, and the weights at the end of each epoch."""

    def __init__(self) -> None:
        self.moments: list[Any] = []
        self.weights: list[str] = []

    def on_train_begin(self) -> None:
        self.moments.append("train begins")

    def on_epoch_begin(self, epoch: int) -> None:
        self.moments.append(("epoch begins", epoch))

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        assert set(logs) == {"loss", "accuracy"}
        self.moments.append(batch)

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.moments.append(("epoch ends", epoch, list(logs)))
        self.weights.append(self.trainer.state.fingerprint)

    def on_train_end(self) -> None:
        self.moments.append("train ends")


@pytest.mark.parametrize("engine", ["inline", "lanes", "scheduler"])
def test_the_moments_in_their_order(threads: Any, engine: str) -> None:
    notes = Notes()
    plain = fit(new())
    assert fit(new(engine=engine), notes, epochs=2).fingerprint == notes.weights[-1]
    logs = ["loss", "accuracy", "val_loss", "val_accuracy", "seconds", "samples_per_second"]
    epochs = [[("epoch begins", e), 0, 1, 2, ("epoch ends", e, logs)] for e in (0, 1)]
    assert notes.moments == ["train begins", *epochs[0], *epochs[1], "train ends"]
    assert plain.history["loss"][:2] == fit(new(), epochs=2).history["loss"]


@pytest.mark.parametrize("engine", ["inline", "lanes", "scheduler"])
@pytest.mark.parametrize("moment", ["on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end", "on_train_end"])
def test_an_exception_ends_training_and_keeps_the_weights(threads: Any, engine: str, moment: str, tmp_path: Path) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("mine")

    notes, trainer = Notes(), new(engine=engine)
    with pytest.raises(RuntimeError, match="mine") as caught:
        fit(trainer, callbacks.LambdaCallback(**{moment: fail}), notes, epochs=1, checkpoint=tmp_path)
    assert f"LambdaCallback.{moment}" in caught.value.__notes__[0]
    steps = {"on_epoch_end": 3, "on_train_end": 3, "on_train_batch_end": 1}.get(moment, 0)
    assert (trainer.progress.state.step if trainer.progress.state else 0) == steps
    assert len(os.listdir(tmp_path)) == (steps > 0)
    again = fit(trainer, epochs=1) if steps < 3 else trainer.history
    assert fit(new(), epochs=1).fingerprint == (again.fingerprint if steps < 3 else trainer.state.fingerprint)


@pytest.mark.parametrize("kind", [callbacks.EarlyStopping, callbacks.ReduceLROnPlateau, lambda name: callbacks.Target(name, 1.0)])
def test_an_unknown_monitor_is_named_with_those_there_are(kind: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"'val_los'. Did you mean 'val_loss'\? Known: accuracy, loss, val_accuracy, val_loss"):
        fit(new(), kind("val_los"))
    with pytest.raises(UnknownNameError, match=r"'val_loss'.* Known: accuracy, loss\."):
        fit(new(), kind("val_loss"), validation_data=None)


@pytest.mark.parametrize("argument", [callbacks.TimeLimit(1), [print], ["early"], [callbacks.EarlyStopping]])
def test_wrong_lists_of_callbacks_are_refused(argument: Any) -> None:
    with pytest.raises(ArgumentError, match=r"callbacks is a list of dt\.callbacks\.Callback objects"):
        new().fit(X, Y, callbacks=argument, verbose=0)


def test_a_fit_within_a_fit_is_refused() -> None:
    trainer = new()
    with pytest.raises(ArgumentError, match="already in a fit"):
        fit(trainer, callbacks.LambdaCallback(on_epoch_end=lambda *arguments: fit(trainer)))


def test_a_fit_in_another_thread_is_refused() -> None:
    trainer = new()
    with ThreadPoolExecutor(1) as pool, pytest.raises(ArgumentError, match="already in a fit"):
        fit(trainer, callbacks.LambdaCallback(on_epoch_end=lambda *arguments: pool.submit(fit, trainer).result(timeout=60)))
    assert fit(trainer).epochs, "which the next one is not"


def test_a_trainer_is_saved_where_its_state_is_that_of_its_steps(tmp_path: Path) -> None:
    """In another thread, the ledger would count more samples than the state has seen."""
    trainer = new()
    with ThreadPoolExecutor(1) as pool, pytest.raises(ArgumentError, match="cannot be saved from another thread"):
        fit(trainer, callbacks.LambdaCallback(on_epoch_end=lambda *arguments: pool.submit(trainer.save, tmp_path).result(timeout=60)))
    trainer = new()
    fit(
        trainer, callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: trainer.save(tmp_path / str(trainer.state.step))), epochs=2
    )
    for step in range(1, 7):
        saved = dt.load(tmp_path / str(step), engine="inline")
        assert saved.state.step == step
        assert fit(saved, epochs=2 - (step - 1) // 3).fingerprint == trainer.history.fingerprint
        saved.ledger().verify()


# ---- EarlyStopping


@pytest.mark.parametrize(
    ("values", "options", "epochs", "best"),
    [
        ([3, 2, 1, 2, 2, 0], {"patience": 2}, 5, 2),
        ([3, 2, 1, 2, 0, 0], {"patience": 0}, 4, 2),
        ([3, 2, 1, 2, 0, 1], {"patience": 2}, 6, 4),
        ([3, 2.95, 2.9, 2.85, 1, 1], {"patience": 3, "min_delta": 0.5}, 4, 0),
        ([1, 2, 3, 2, 2, 4], {"patience": 2, "mode": "max"}, 5, 2),
        ([5, 4, 3, 2, 1, 0], {"patience": 2, "baseline": 1.5}, 2, 1),
        ([5, 1, 3, 2, 1, 0], {"patience": 2, "baseline": 1.5}, 4, 1),
        ([np.nan, 2, np.nan, np.nan, 0, 0], {"patience": 2}, 4, 1),
    ],
)
def test_early_stopping_ends_in_time_and_restores_the_best(values: list[float], options: Any, epochs: int, best: int) -> None:
    stopping, notes, trainer = callbacks.EarlyStopping("val_loss", restore_best_weights=True, **options), Notes(), new()
    history = fit(trainer, Scripted(values), stopping, notes, epochs=6)
    assert (history.epochs, stopping.best_epoch) == (epochs, best)
    assert history.fingerprint == notes.weights[best] == trainer.state.fingerprint
    waited = f"{stopping.wait} epoch{'' if stopping.wait == 1 else 's'}"
    assert history.stopped == (None if epochs == 6 else f"EarlyStopping: val_loss has not become better in {waited}")


def test_early_stopping_prefers_higher_accuracy() -> None:
    stopping = callbacks.EarlyStopping("val_accuracy", patience=2)
    history = fit(new(), Scripted([0.1, 0.5, 0.4, 0.3, 0.9], "val_accuracy"), stopping, epochs=5)
    assert (history.epochs, stopping.best_epoch) == (4, 1)
    assert history.stopped == "EarlyStopping: val_accuracy has not become better in 2 epochs"


@pytest.mark.parametrize("engine", ["inline", "lanes", "scheduler"])
@pytest.mark.parametrize("broken", [1, 3, 4])
def test_early_stopping_decides_the_same_over_a_resume(threads: Any, tmp_path: Path, engine: str, broken: int) -> None:
    values = [3.0, 1.0, 2.0, 2.0, 2.0, 0.0]
    whole, notes = new(), Notes()
    undisturbed = fit(whole, Scripted(values), callbacks.EarlyStopping(patience=3, restore_best_weights=True), notes, epochs=6)
    run = {"checkpoint": tmp_path, "resume": True, "keep": None}
    fit(new(engine=engine), Scripted(values), epochs=broken, **run)
    for _ in "again", "and again, when nothing is left to be done":
        stopping = callbacks.EarlyStopping(patience=3, restore_best_weights=True)
        history = fit(new(engine=engine), Scripted(values), stopping, epochs=6, **run)
        assert (history.epochs, stopping.best_epoch) == (undisturbed.epochs, 1) == (5, 1)
        assert history.fingerprint == undisturbed.fingerprint == notes.weights[1]


def test_missing_checkpoints_of_the_best_weights_are_an_event(tmp_path: Path) -> None:
    values = [1.0, 2.0, 2.0, 2.0, 2.0]
    fit(new(), Scripted(values), epochs=4, checkpoint=tmp_path, keep=1)
    stopping = callbacks.EarlyStopping(patience=9, restore_best_weights=True)
    history = fit(new(), Scripted(values), stopping, epochs=5, checkpoint=tmp_path, keep=1, resume=True)
    assert any("no checkpoint of epoch 1, the best, is kept" in event.text for event in history.events)
    assert history.fingerprint == fit(new(), epochs=5).fingerprint


def test_best_weights_are_not_restored_if_training_may_continue() -> None:
    trainer = new()
    ctrl_c = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epoch == 2 and trainer.stop("not the end"))
    fit(trainer, Scripted([1, 2, 3]), callbacks.EarlyStopping(patience=9, restore_best_weights=True), ctrl_c)
    assert fit(trainer, epochs=1).fingerprint == fit(new(), epochs=4).fingerprint


# ---- the learning rate


def test_a_rate_of_the_epoch_is_that_rate() -> None:
    half, scaled = new(rate=0.5 * 2**-6), new(rate=2**-6)
    expected = fit(half).fingerprint
    assert fit(scaled, callbacks.LearningRateScheduler(lambda epoch: 0.5 * 2**-6)).fingerprint == expected
    assert fit(new(rate=2**-6)).fingerprint != expected


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta"])
def test_without_a_rate_nothing_moves(optimizer: str) -> None:
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(3)]), loss="cross_entropy", optimizer=optimizer, engine="inline")
    trainer.fit(X, Y, verbose=0)
    before = trainer.state.fingerprint
    trainer.learning_rate_scale = 0
    assert trainer.fit(X, Y, verbose=0).fingerprint == before
    trainer.learning_rate_scale = np.float32(1)
    assert trainer.fit(X, Y, verbose=0).fingerprint != before


@pytest.mark.parametrize("engine", ["inline", "lanes", "scheduler"])
def test_reduced_rates_continue_over_a_resume(threads: Any, tmp_path: Path, engine: str) -> None:
    values = [3.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0]

    def plateau() -> Any:
        return callbacks.ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1, min_scale=0.25)

    scales: list[float] = []
    trainer = new()
    noting = callbacks.LambdaCallback(on_epoch_begin=lambda epoch: scales.append(trainer.learning_rate_scale))
    undisturbed = fit(trainer, Scripted(values), plateau(), noting, epochs=7)
    assert scales == [1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    assert trainer.learning_rate_scale == 0.25
    for epochs in range(1, 8):
        history = fit(new(engine=engine), Scripted(values), plateau(), epochs=epochs, checkpoint=tmp_path, resume=True)
    assert history.fingerprint == undisturbed.fingerprint != fit(new(), epochs=7).fingerprint
    assert dt.load(tmp_path).learning_rate_scale == 0.25


@pytest.mark.parametrize("scale", [-1, np.nan, np.inf, "half", None])
def test_a_scale_that_is_none_is_refused(scale: Any) -> None:
    trainer = new()
    fit(trainer, epochs=1)
    with pytest.raises(ArgumentError, match="learning_rate_scale must be a finite number from 0 up"):
        trainer.learning_rate_scale = scale


@pytest.mark.parametrize("engine", ["inline", "lanes", "scheduler"])
def test_a_rate_may_change_between_steps(threads: Any, engine: str) -> None:
    """The next step has it, as by a schedule."""
    trainer = new(engine=engine, optimizer=dt.optim.adam(0.02))

    def change(batch: int, logs: Any) -> None:
        trainer.learning_rate_scale = 1.0 / (1 + trainer.state.step)

    found = fit(trainer, callbacks.LambdaCallback(on_train_batch_end=change), epochs=2)
    assert found.fingerprint == fit(new(optimizer=dt.optim.adam(lambda step: 0.02 * (1.0 / (1 + step)))), epochs=2).fingerprint


def test_an_optimizer_without_a_rate_cannot_be_scaled() -> None:
    trainer = new(optimizer=dt.optim.clip_by_value(0.1))
    with pytest.raises(ArgumentError, match="has no learning rate to scale"):
        fit(trainer, callbacks.LambdaCallback(on_epoch_begin=lambda epoch: setattr(trainer, "learning_rate_scale", 0.5)))


RATES = {
    r"the optimizer clip_by_value\(limit=0\.1\) has no learning rate": dt.optim.clip_by_value(0.1),
    r"have one each: \*\.bias, \*\. Multiply them by trainer\.learning_rate_scale": dt.optim.by_name({"*.bias": "sgd", "*": "adam"}),
    r"that of the optimizer is constant\(value=0\.1\)": dt.optim.sgd(dt.optim.constant(0.1)),
    r"that of the optimizer is 0\.0": dt.optim.sgd(0.0),
}


@pytest.mark.parametrize(("message", "optimizer"), RATES.items())
def test_a_rate_of_the_epoch_stands_for_one_number(message: str, optimizer: Any) -> None:
    with pytest.raises(ArgumentError, match=message):
        fit(new(optimizer=optimizer), callbacks.LearningRateScheduler(lambda epoch: 0.5))


def test_one_rate_among_frozen_parameters_is_one_number() -> None:
    trainer = new(optimizer=dt.optim.by_name({"*.bias": dt.optim.frozen(), "*": dt.optim.sgd(0.1)}))
    fit(trainer, callbacks.LearningRateScheduler(lambda epoch: 0.05))
    assert trainer.learning_rate_scale == 0.5


# ---- the others


def test_a_target_ends_training_when_it_is_reached(tmp_path: Path) -> None:
    target = callbacks.Target("val_accuracy", 0.5)
    values = [0.1, 0.4, 0.6, 0.7]
    history = fit(new(), Scripted(values, "val_accuracy"), target, checkpoint=tmp_path)
    assert (history.epochs, history.stopped, target.reached) == (3, "Target: val_accuracy is 0.6", True)
    again = callbacks.Target("val_accuracy", 0.5)
    assert fit(new(), again, checkpoint=tmp_path, resume=True).fingerprint == history.fingerprint
    assert again.reached
    never = callbacks.Target("val_loss", -1.0)
    assert (fit(new(), never).stopped, never.reached) == (None, False)


def test_checkpoints_of_the_best(tmp_path: Path) -> None:
    path = tmp_path / "best-{epoch:02d}-{val_loss:.1f}"
    fit(new(), Scripted([3, 2, 2.5, 1]), callbacks.ModelCheckpoint(path, save_best_only=True))
    assert sorted(os.listdir(tmp_path)) == ["best-01-3.0", "best-02-2.0", "best-04-1.0"]
    notes = Notes()
    fit(new(), callbacks.ModelCheckpoint(tmp_path / "every", period=3), notes)
    assert dt.load(tmp_path / "every").state.fingerprint == notes.weights[2]
    with pytest.raises(ArgumentError, match=r"'\{val_los\}' cannot be filled in.*It may have: epoch, loss, accuracy, val_loss"):
        fit(new(), callbacks.ModelCheckpoint("{val_los}"))


def test_a_time_limit_ends_at_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("dagtrain.train.callbacks.time.monotonic", lambda: float(next(clock)))
    trainer = new()
    history = fit(trainer, callbacks.TimeLimit(5.0))
    assert history.stopped == "TimeLimit: 5 s are over"
    monkeypatch.undo()
    assert 0 < trainer.state.step < 12
    assert fit(trainer, epochs=4 - history.epochs).fingerprint == fit(new()).fingerprint


def test_the_history_as_a_file(tmp_path: Path) -> None:
    path, run = tmp_path / "log.csv", tmp_path / "run"
    fit(new(), callbacks.CSVLogger(path), epochs=2, checkpoint=run)
    history = fit(new(), callbacks.CSVLogger(path), checkpoint=run, resume=True)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [float(row["val_loss"]) for row in rows] == history.history["val_loss"]
    assert os.listdir(tmp_path).count("log.csv.part") == 0


def test_an_unknown_moment_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"'on_epoch_ends'.*Did you mean 'on_epoch_end'"):
        callbacks.LambdaCallback(on_epoch_ends=print)


@pytest.mark.parametrize(
    "make",
    [
        lambda: callbacks.EarlyStopping(patience=-1),
        lambda: callbacks.EarlyStopping(mode="best"),
        lambda: callbacks.EarlyStopping(min_delta=float("nan")),
        lambda: callbacks.ReduceLROnPlateau(factor=1),
        lambda: callbacks.ReduceLROnPlateau(cooldown=0.5),
        lambda: callbacks.ModelCheckpoint("path", period=0),
        lambda: callbacks.TimeLimit(0),
    ],
)
def test_invalid_settings_are_refused(make: Any) -> None:
    with pytest.raises(ArgumentError):
        make()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("on_batch_end", "Here it is 'on_train_batch_end'"),
        ("on_epoch_start", "Here it is 'on_epoch_begin'"),
        ("on_test_begin", "validation has no moments"),
        ("on_epoch_ende", "Did you mean 'on_epoch_end'"),
    ],
)
def test_a_method_that_is_never_called_is_refused(name: str, hint: str) -> None:
    mine = type("Mine", (callbacks.Callback,), {name: lambda self, *args: None})
    with pytest.raises(UnknownNameError, match=f"unknown moment of Mine '{name}'.*{hint}"):
        new().fit(X, Y, callbacks=[mine()], verbose=0)
    with pytest.raises(UnknownNameError, match=f"unknown moment of LambdaCallback '{name}'.*{hint}"):
        callbacks.LambdaCallback(**{name: print})


def test_a_target_that_no_model_reaches_is_refused() -> None:
    trainer = new()
    with pytest.raises(ArgumentError, match="val_accuracy never exceeds 1, so it cannot reach 97"):
        trainer.fit(X, Y, validation_data=(X, Y), callbacks=[callbacks.Target("val_accuracy", 97)], verbose=0)
    assert trainer.fit(X, Y, callbacks=[callbacks.Target("loss", 97)], verbose=0).stopped
