"""Killed saves, for `test_faults`: a program of its own, so that it forks before any thread has started.

    killed_saves.py random FOLDER KILLS     kill -9 at a random moment, at least KILLS times
    killed_saves.py each FOLDER             exit at each system call in turn, while a checkpoint is replaced

Prints the counts of outcomes as one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import dagtrain as dt
from dagtrain.checkpoint import runs, store
from dagtrain.checkpoint.files import open_store
from dagtrain.checkpoint.runs import CheckpointDirectory
from dagtrain.checkpoint.schema import Manifest
from dagtrain.step.state import State

X, Y = np.eye(8, dtype="f4"), np.arange(8) % 2
CALLS = ("open", "write", "fsync", "close", "replace", "mkdir", "unlink", "rmdir", "listdir")


def states() -> Iterator[tuple[Manifest, State]]:
    """States one after the other, as fit passes them to a checkpoint directory."""
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2000), dt.nn.Dense(2)]), loss="cross_entropy", engine="inline", threads=1)
    trainer.fit(X, Y, verbose=0)
    program, state = trainer.progress.trained("be saved")
    while True:
        trainer.progress.epochs += 1
        state = state.copy()
        state.parameters += 1
        yield trainer._describe(program, None, state, {}), state


def child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process."""
    process = os.fork()
    if process == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return process


def kill_at_random(folder: str, kills: int) -> dict[str, Any]:
    """Kill process after process while it saves; each continues from the last checkpoint."""
    rng = random.Random(0)
    saves = [pair for pair, _ in zip(states(), range(4 * kills + 50), strict=False)]
    fingerprints = [m.fingerprint for m, _ in saves]
    counts: Counter[str] = Counter()
    last = 0
    # A busy machine stops processes between saves, too: go on until kills have met what they are to meet.
    while (counts["kills"] < kills or counts["progress"] < kills / 4 or not counts["torn"]) and last < len(saves) - 50:
        assert counts["kills"] < 50 * kills, f"after so many kills: {counts}"
        began = last

        def work(began: int = began) -> None:
            with CheckpointDirectory(folder, keep=2) as run:
                for manifest, state in saves[began:]:
                    run.save(manifest, state)

        process = child(work)
        time.sleep(rng.uniform(0.003, 0.05))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        counts["kills"] += 1
        counts["torn"] += any(name.endswith(".part") for _, _, files in os.walk(folder) for name in files)
        counts["without a manifest"] += any("checkpoint.json" not in files for _, folders, files in os.walk(folder) if not folders)
        checkpoint = runs.latest(open_store(folder)) if os.path.exists(folder) else None
        if checkpoint is not None:
            index = fingerprints.index(checkpoint.state.fingerprint)
            assert index + 1 >= last, f"went back from {last} to {index + 1}"
            counts["progress"] += index + 1 > last
            last = index + 1
    dt.load(folder).predict(X)
    with CheckpointDirectory(folder, keep=2) as run:  # undisturbed: it removes the leftovers of the kills
        run.save(*saves[last])
    return {**counts, "last": last, "folders": len(os.listdir(folder))}


class Stop:
    """Exits the process at one of its calls without cleanup, like a power cut."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                if function is write and len(args[1]) > 1:
                    write(args[0], args[1][: len(args[1]) // 2])  # a write may be half done
                os._exit(7)
            return function(*args, **options)

        return called


write = os.write


def stop_at_each_call(folder: str) -> dict[str, Any]:
    """Replace a checkpoint by another, and exit at each call in turn."""
    saves = states()
    before, after = next(saves), next(saves)
    counts: Counter[str] = Counter()
    at, code = 0, 7
    while code == 7:
        at += 1
        store.write(open_store(folder), *before)

        def work(at: int = at) -> None:
            stop = Stop(at)
            for name in CALLS:
                setattr(os, name, stop.wrap(getattr(os, name)))
            store.write(open_store(folder), *after)

        _, status = os.waitpid(child(work), 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, 7), code
        fingerprint = dt.load(folder).progress.trained("be looked at")[1].fingerprint
        counts[{before[0].fingerprint: "before", after[0].fingerprint: "after"}[fingerprint]] += 1
    return {**counts, "calls": at - 1, "files": len(os.listdir(folder))}


if __name__ == "__main__":
    what, where = sys.argv[1:3]
    print(json.dumps(kill_at_random(where, int(sys.argv[3])) if what == "random" else stop_at_each_call(where)))
