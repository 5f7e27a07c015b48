"""Signals end a fit at a boundary, the second at once; the process's own handlers come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.train.stopping import Stopping, interruptible

X, Y = np.eye(8, dtype="f4"), np.arange(8) % 2


@contextmanager
def handler_of(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def new() -> Any:
    return dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", engine="inline", shards=1)


def fit(trainer: Any, act: Callable[[], object] | None = None, **options: Any) -> Any:
    """Four steps an epoch; `act` is called after the second step."""

    def after_batch(batch: int, logs: Any) -> None:
        if batch == 1 and act is not None:
            act()

    acting = dt.callbacks.LambdaCallback(on_train_batch_end=after_batch)
    return trainer.fit(X, Y, epochs=3, batch_size=2, verbose=0, callbacks=[acting] if act else [], **options)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # where Python runs the handler


@pytest.fixture(autouse=True)
def _default() -> Iterator[None]:
    """Each test begins with the default handler of SIGTERM, and leaves the one that was there."""
    with handler_of(signal.SIGTERM, signal.SIG_DFL):
        yield


def test_sigterm_ends_at_a_boundary_and_the_run_resumes_to_the_same_bits(tmp_path: Any) -> None:
    history = fit(new(), lambda: send(signal.SIGTERM), checkpoint=tmp_path)
    assert history.stopped == "terminated"
    assert [event.text for event in history.events] == ["terminated, after 2 steps"]
    assert fit(new(), checkpoint=tmp_path, resume=True).fingerprint == fit(new()).fingerprint


def test_a_repeated_sigterm_counts_once() -> None:
    def twice() -> None:
        send(signal.SIGTERM)
        send(signal.SIGTERM)

    assert fit(new(), twice).stopped == "terminated"


SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    ("echo", "numbers", "error"),
    [
        (0.0, [SIGTERM, SIGTERM], SystemExit),
        (60.0, [SIGTERM, SIGTERM], None),
        (60.0, [SIGINT, SIGINT], KeyboardInterrupt),
        (60.0, [SIGTERM, SIGINT], KeyboardInterrupt),
        (60.0, [SIGINT, SIGTERM], SystemExit),
    ],
)
def test_a_second_signal_ends_at_once(echo: float, numbers: list[signal.Signals], error: type[BaseException] | None) -> None:
    stopping = Stopping(echo)
    stopping.ask("a callback")
    stopping.interrupt(numbers[0])
    assert stopping.reason == {SIGINT: "interrupted", SIGTERM: "terminated"}[numbers[0]]
    if error is None:
        stopping.interrupt(numbers[1])
        return
    with pytest.raises(error) as direct:
        stopping.interrupt(numbers[1])
    done = []

    def block() -> None:
        with stopping.undisturbed():
            stopping.interrupt(numbers[1])
            done.append("the rest of the block")

    with pytest.raises(error):
        block()
    assert done
    assert error is KeyboardInterrupt or getattr(direct.value, "code", None) == 143


def test_the_echo_of_sigterm_is_ignored_after_the_fit_too() -> None:
    """A program that reports a stopped run is not ended meanwhile; a fit after it can be stopped again."""
    for _ in range(2):
        stopping = Stopping(60.0)
        with interruptible(stopping):
            send(SIGTERM)
        assert stopping.reason == "terminated"
        send(SIGTERM)


def test_sigterm_ends_the_process_after_the_echo() -> None:
    code = (
        "import os, signal\nfrom dagtrain.train.stopping import Stopping, interruptible\n"
        "with interruptible(Stopping(0.0)):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('reported', flush=True)\nos.kill(os.getpid(), signal.SIGTERM)\nprint('not reached', flush=True)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (process.stdout, process.returncode) == ("reported\n", -SIGTERM)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None], ids=["ignored", "own"])
def test_a_handler_of_the_process_for_sigterm_stays(handler: Any) -> None:
    with handler_of(SIGTERM, handler):
        assert fit(new(), lambda: send(SIGTERM)).stopped is None
        assert signal.getsignal(SIGTERM) is handler


def test_other_threads_leave_sigterm_alone() -> None:
    seen = []

    def look() -> None:
        with interruptible(Stopping()):
            seen.append(signal.getsignal(SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(60)
    assert seen == [signal.SIG_DFL]
