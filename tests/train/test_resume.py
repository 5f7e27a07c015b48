"""Training that stops anywhere, for any reason, resumes to the bits and the history of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dagtrain as dt
from dagtrain.engines import InlineEngine, LanesEngine, SchedulerEngine, SegmentPolicy
from dagtrain.errors import ArgumentError

pytestmark = pytest.mark.combined

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(130, 12)).astype("f4"), RNG.integers(0, 4, 130)
STEPS, EPOCHS = 5, 4


def new(**options: Any) -> Any:
    """A trainer with running statistics, random numbers, slots, and a norm over all blocks."""
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(16, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(4)]
    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(1e-2))
    options = {"optimizer": optimizer, "shards": 3, "engine": "inline", "threads": 1, **options}
    return dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", metrics=["accuracy"], **options)


def fit(trainer: Any, epochs: int = EPOCHS, **options: Any) -> Any:
    """Fit with validation, and a learning rate that falls when the loss does not."""
    callbacks = [dt.callbacks.ReduceLROnPlateau("val_loss", 0.5, patience=1, min_delta=0.05), *options.pop("callbacks", [])]
    settings = {"epochs": epochs, "batch_size": 32, "verbose": 0, "validation_data": (X[:40], Y[:40]), **options}
    return trainer.fit(X, Y, callbacks=callbacks, **settings)


def at(step: int, act: Any) -> Any:
    """A callback that calls `act` once, after `step` steps of the run."""
    done = []

    class At(dt.callbacks.Callback):
        def on_epoch_begin(self, epoch: int) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any) -> None:
            if not done and self.epoch * STEPS + batch + 1 >= step:
                done.append(step)
                act()

    return At()


def stop_at(step: int, trainer: Any) -> Any:
    return at(step, lambda: trainer.stop("enough"))


@pytest.fixture(scope="module")
def undisturbed() -> Any:
    trainer = new()
    history = fit(trainer)
    assert trainer.learning_rate_scale < 1, "the run should have reduced its rate"
    return history


def same(history: Any, expected: Any) -> None:
    """Assert equal weights and histories to the last bit, except for times."""
    assert history.fingerprint == expected.fingerprint
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert history.history[name] == expected.history[name]


def each_used_once(trainer: Any, epochs: int = EPOCHS) -> None:
    ledger = trainer.ledger()
    ledger.verify()
    assert [e for e in ledger.epochs if ledger.complete(e)] == list(range(epochs))


@pytest.mark.slow
def test_any_stops(undisturbed: Any, thorough: bool) -> None:
    """Resumed each time by a new trainer that reads the checkpoint, or by the one that stopped."""

    @given(stops=st.lists(st.integers(1, STEPS * EPOCHS), max_size=5).map(sorted), threads=st.integers(1, 3), anew=st.booleans())
    @settings(max_examples=60 if thorough else 8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def check(stops: list[int], threads: int, anew: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trainer = new(threads=threads)
            for step in stops:
                fit(trainer, checkpoint=folder, resume=True, callbacks=[stop_at(step, trainer)])
                trainer = new(threads=threads) if anew else trainer
            history = fit(trainer, checkpoint=folder, resume=True)
        assert history.stopped is None
        same(history, undisturbed)
        each_used_once(trainer)

    check()


@pytest.mark.parametrize("step", [3, 5, 8])
def test_a_stop_ends_after_that_step(step: int) -> None:
    trainer = new()
    history = fit(trainer, callbacks=[stop_at(step, trainer)])
    assert trainer.state.step == step
    assert history.epochs == step // STEPS
    assert history.stopped == "enough"
    text = {3: "enough, after 3 steps", 5: "enough, after 1 epoch", 8: "enough, after 1 epoch and 3 steps"}[step]
    (event,) = [e for e in history.events if e.kind == "stop"]
    assert (event.text, event.step) == (text, step)
    assert event.line.endswith(f" s, step {step}: {text}")


def test_the_same_trainer_continues_without_a_checkpoint(undisturbed: Any) -> None:
    trainer = new()
    fit(trainer, callbacks=[stop_at(7, trainer)])
    rest = fit(trainer, epochs=3)
    assert rest.fingerprint == undisturbed.fingerprint
    assert rest.history["loss"] == undisturbed.history["loss"][1:]


def test_the_step_graph_continues_within_an_epoch() -> None:
    trainer = new()
    fit(trainer, callbacks=[stop_at(3, trainer)])
    graph = trainer.step_graph(4)
    whole = new()
    fit(whole, callbacks=[stop_at(7, whole)])
    assert graph.compute(scheduler="sync").state.fingerprint == whole.state.fingerprint


def test_an_epoch_that_was_begun_with_other_batches_is_begun_anew() -> None:
    trainer = new()
    fit(trainer, callbacks=[stop_at(2, trainer)])
    with pytest.warns(UserWarning, match="2 steps of epoch 0 were done with other batches"):
        fit(trainer, epochs=1, batch_size=65)
    assert trainer.state.step == 2 + 2
    each_used_once(trainer, 1)


def test_a_saved_trainer_continues_within_its_epoch(undisturbed: Any, tmp_path: Path) -> None:
    trainer = new()
    fit(trainer, callbacks=[stop_at(STEPS + 2, trainer)])
    trainer.save(tmp_path)
    dt.load(tmp_path).save(tmp_path / "again")
    trainer_again = dt.load(tmp_path / "again", engine="inline")
    assert fit(trainer_again, epochs=3).history["loss"] == undisturbed.history["loss"][1:]
    trainer_again.ledger().verify()


def distance(outputs: Any, targets: Any) -> Any:
    """A user's metric."""
    return np.mean(outputs**2)


def test_metrics_added_within_an_epoch_are_nan_for_that_epoch(tmp_path: Path) -> None:
    trainer = new()
    fit(trainer, callbacks=[stop_at(2, trainer)])
    trainer.save(tmp_path)
    other = dt.load(tmp_path, metrics=["accuracy", distance])
    history = other.fit(X, Y, epochs=2, batch_size=32, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(history["distance"]).tolist() == [False, True]


# ---- checkpoints within epochs


def test_checkpoints_are_written_within_epochs(tmp_path: Path) -> None:
    fit(new(engine=InlineEngine(1, commit=0.0)), epochs=2, checkpoint=tmp_path, checkpoint_every=1e-9, keep=None)
    within = [f"epoch-{e:06d}-step-{s:09d}" for e in (0, 1) for s in range(1, STEPS)]
    assert sorted(os.listdir(tmp_path)) == sorted([*within, "epoch-000001", "epoch-000002"])


def test_the_samples_of_an_epoch_under_way_take_no_space_in_a_checkpoint(tmp_path: Path) -> None:
    """They follow from the steps done."""
    trainer = new()
    fit(trainer, callbacks=[stop_at(STEPS + 2, trainer)], checkpoint=tmp_path)
    entries = json.loads((tmp_path / f"epoch-000001-step-{2:09d}" / "checkpoint.json").read_text())["ledger"]
    assert [(e["epoch"], e["ended"], e["other"]) for e in entries] == [(0, True, []), (1, False, [])]


def test_the_last_few_checkpoints_of_both_kinds_are_kept(tmp_path: Path) -> None:
    fit(new(engine=InlineEngine(1, commit=0.0)), epochs=2, checkpoint=tmp_path, checkpoint_every=1e-9, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["epoch-000001-step-000000004", "epoch-000002"]


def test_a_long_time_is_never_over_within_an_epoch(tmp_path: Path) -> None:
    fit(new(), epochs=1, checkpoint=tmp_path, checkpoint_every=3600)
    assert os.listdir(tmp_path) == ["epoch-000001"]


@pytest.mark.parametrize("every", ["step", 0, -1.0, True, None, float("nan")])
def test_checkpoint_every_is_checked(tmp_path: Path, every: Any) -> None:
    with pytest.raises(ArgumentError, match='checkpoint_every is "epoch" or a number of seconds above 0'):
        fit(new(), checkpoint=tmp_path, checkpoint_every=every)


KILLED = """
from test_resume import *
for step in (1, 4, 5, 13):
    process = os.fork()
    if process == 0:
        trainer, kill = new(engine=InlineEngine(1, commit=0.0)), at(step, lambda: os.kill(os.getpid(), 9))
        fit(trainer, checkpoint=f"{sys.argv[1]}/{step}", checkpoint_every=1e-9, callbacks=[kill])
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_killed_process_resumes(undisturbed: Any, tmp_path: Path) -> None:
    """Kill -9 after a step; the checkpoints on disk count."""
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=Path(__file__).parent, timeout=120, check=True)
    for step in (1, 4, 5, 13):
        trainer = new(threads=2)
        history = fit(trainer, checkpoint=tmp_path / str(step), resume=True)
        same(history, undisturbed)
        each_used_once(trainer)
        if step > 2:
            assert history.events[0].text.startswith("went on from")


# ---- Ctrl-C


def interrupt(times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # Python runs the handler here


@pytest.mark.parametrize("engine", ["inline", "lanes", "scheduler"])
def test_ctrl_c_ends_at_a_boundary_and_the_run_resumes(threads: Any, undisturbed: Any, tmp_path: Path, engine: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    short = {
        "inline": InlineEngine(1, commit=0.0),
        "lanes": LanesEngine(threads, SegmentPolicy(most=1)),
        "scheduler": SchedulerEngine(threads, segment=1),
    }
    history = fit(new(engine=short.get(engine, engine)), checkpoint=tmp_path, callbacks=[at(8, interrupt)])
    assert signal.getsignal(signal.SIGINT) is before
    assert history.stopped == "interrupted"
    assert history.epochs == 1
    assert [event.text for event in history.events] == ["interrupted, after 1 epoch and 3 steps"]
    assert "epoch-000001-step-000000003" in os.listdir(tmp_path)
    trainer = new(engine=engine)
    same(fit(trainer, checkpoint=tmp_path, resume=True), undisturbed)
    each_used_once(trainer)


def test_a_second_ctrl_c_is_a_keyboard_interrupt_at_once(undisturbed: Any) -> None:
    trainer, before = new(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, callbacks=[at(8, lambda: interrupt(2))])
    assert signal.getsignal(signal.SIGINT) is before
    assert trainer.state.step == STEPS, "the steps of the interrupted call do not count"
    assert fit(trainer, epochs=3).fingerprint == undisturbed.fingerprint
    each_used_once(trainer)


def test_an_interrupted_stop_within_steps_keeps_the_ledger_correct() -> None:
    trainer = new()
    fit(trainer, callbacks=[stop_at(2, trainer)])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, callbacks=[at(4, lambda: interrupt(2))])
    assert trainer.state.step == 2
    assert int(trainer.ledger().counts(0).sum()) == 64
    trainer.ledger().verify()


def test_other_threads_leave_the_signal_alone() -> None:
    handlers = []
    handler = signal.getsignal(signal.SIGINT)
    act = at(1, lambda: handlers.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=lambda: fit(new(), epochs=1, callbacks=[act]))
    thread.start()
    thread.join(60)
    assert handlers == [handler]


def test_a_process_that_ignores_the_signal_keeps_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = fit(new(), epochs=1, callbacks=[at(1, interrupt)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.stopped is None


def test_another_thread_stops_a_fit() -> None:
    trainer = new()
    assert trainer.stop() is False
    begun, stopped = threading.Event(), []

    def stop() -> None:
        begun.wait(30)
        stopped.append(trainer.stop("from another thread"))

    thread = threading.Thread(target=stop)
    thread.start()
    history = fit(trainer, epochs=10_000, callbacks=[at(1, begun.set)])
    thread.join()
    assert (stopped, history.stopped) == ([True], "from another thread")


# ---- other figures


@pytest.mark.parametrize(("other", "known"), [({"metrics": ["perplexity"]}, ["loss"]), ({"loss": "categorical_hinge"}, [])])
def test_figures_of_an_epoch_under_way_are_not_mixed_with_others(tmp_path: Path, other: Any, known: list[str]) -> None:
    trainer = new()
    fit(trainer, callbacks=[at(2, trainer.stop)])
    trainer.save(tmp_path)
    again = dt.load(tmp_path, **other)
    history = fit(again).history
    assert {name for name in again.program.quantities if np.isfinite(history[name][0])} == set(known)
    assert all(np.isfinite(history[name][1]) for name in again.program.quantities)
