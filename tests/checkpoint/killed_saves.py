"""Saves that are killed, for `test_checkpoint_faults`: run as a program, so that the process can fork before any thread has begun.

    killed_saves.py random FOLDER KILLS     at least so many times kill -9 at a random moment
    killed_saves.py each FOLDER             the end at each call to the operating system in turn, while a checkpoint is replaced

Prints one line of JSON with what was seen.
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
    """One state after the other, as fit hands them to a run."""
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2000), dt.nn.Dense(2)]), loss="cross_entropy", engine="inline", threads=1)
    trainer.fit(X, Y, verbose=0)
    program, state = trainer.progress.trained("be saved")
    while True:
        trainer.progress.epochs += 1
        state = state.copy()
        state.parameters += 1
        yield trainer._describe(program, None, state, {}), state


def child(work: Callable[[], object]) -> int:
    """Run this in a forked process."""
    process = os.fork()
    if process == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return process


def kill_at_random(folder: str, kills: int) -> dict[str, Any]:
    """Saves of one run after the other, each process going on from the last checkpoint, each killed."""
    rng = random.Random(0)
    made = [pair for pair, _ in zip(states(), range(4 * kills + 50), strict=False)]
    fingerprints = [m.fingerprint for m, _ in made]
    seen: Counter[str] = Counter()
    last = 0
    while (seen["kills"] < kills or seen["progress"] < kills / 4) and last < len(made) - 50:
        began = last

        def work(began: int = began) -> None:
            with CheckpointDirectory(folder, keep=2) as run:
                for manifest, state in made[began:]:
                    run.save(manifest, state)

        process = child(work)
        time.sleep(rng.uniform(0.003, 0.05))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        seen["kills"] += 1
        seen["torn"] += any(name.endswith(".part") for _, _, files in os.walk(folder) for name in files)
        seen["without a manifest"] += any("checkpoint.json" not in files for _, folders, files in os.walk(folder) if not folders)
        found = runs.latest(open_store(folder)) if os.path.exists(folder) else None
        if found is not None:
            index = fingerprints.index(found.state.fingerprint)
            assert index + 1 >= last, f"went back from {last} to {index + 1}"
            seen["progress"] += index + 1 > last
            last = index + 1
    dt.load(folder).predict(X)
    with CheckpointDirectory(folder, keep=2) as run:  # undisturbed: what the kills have left is gone after it
        run.save(*made[last])
    return {**seen, "last": last, "folders": len(os.listdir(folder))}


class Stop:
    """Ends the process at one of its calls, as a power cut would: nothing is cleaned up."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                if function is write and len(args[1]) > 1:
                    write(args[0], args[1][: len(args[1]) // 2])  # a write, too, may be half done
                os._exit(7)
            return function(*args, **options)

        return called


write = os.write


def stop_at_each_call(folder: str) -> dict[str, Any]:
    """A checkpoint in the place of another, ended at each call in turn."""
    made = states()
    before, after = next(made), next(made)
    seen: Counter[str] = Counter()
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
        found = dt.load(folder).progress.trained("be looked at")[1].fingerprint
        seen[{before[0].fingerprint: "before", after[0].fingerprint: "after"}[found]] += 1
    return {**seen, "calls": at - 1, "files": len(os.listdir(folder))}


if __name__ == "__main__":
    what, where = sys.argv[1:3]
    print(json.dumps(kill_at_random(where, int(sys.argv[3])) if what == "random" else stop_at_each_call(where)))
