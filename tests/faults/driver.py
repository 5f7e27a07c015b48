"""A driver in a process of its own, for tests that kill it or put it on another host.

    driver.py SCHEDULER SETTINGS      a JSON object: epochs, checkpoint, steps of the scheduler's clock, and those of the engine

Says ``{"epoch": n}`` after each epoch and waits for a line; in the end, what came of it. It works on a small network, in blocks that are
small enough for its layers to be sent one after the other.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest.mock import patch

import dagtrain as dt
from dagtrain.cluster.lanes import LanesEngine, Patience
from dagtrain.errors import DagtrainError


class Reporter:
    """Says where training is; steps the scheduler's clock, by so many seconds, at the ends of some epochs."""

    def __init__(self, client: Any, clock: dict[str, float]) -> None:
        self.client, self.clock = client, clock

    def start(self, told: Any) -> None:
        pass

    def step(self, done: int, total: int, loss: float) -> None:
        pass

    def finish(self, told: Any) -> None:
        pass

    def epoch(self, row: Any) -> None:
        say(epoch=row["epoch"])
        sys.stdin.readline()
        if (seconds := self.clock.get(str(row["epoch"]))) is not None:
            self.client.run_on_scheduler(step_clock, seconds)


def step_clock(seconds: float) -> None:
    """In this process alone: all that asks for the time gets another one."""
    import time

    before = time.time

    def stepped() -> float:
        return before() + seconds

    for module in list(sys.modules.values()):
        if getattr(module, "time", None) is before:
            module.time = stepped  # type: ignore[attr-defined]  # it has one


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def train(engine: Any, reporter: Any = None, epochs: int = 8, checkpoint: str | None = None) -> Any:
    """History of the run that all tests of faults look at: statistics, random numbers, a norm; the last step of an epoch has 4 samples."""
    digits = dt.data.load_digits()
    model = dt.nn.Sequential([dt.nn.BatchNorm(), dt.nn.Dense(1024, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(10)])
    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(1e-2))
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, shards=8, engine=engine)
    options = {"epochs": epochs, "batch_size": 64, "verbose": 0, "reporter": reporter}
    with patch("dagtrain.train.update.BLOCK", 4096):
        return trainer.fit(digits.x[:196], digits.y[:196], checkpoint=checkpoint, resume=checkpoint is not None, **options)


def main(
    address: str,
    epochs: int = 8,
    checkpoint: str | None = None,
    patience: dict[str, Any] | None = None,
    clock: dict[str, float] | None = None,
    **options: Any,
) -> None:
    from distributed import Client

    with Client(address) as client:
        before = pids(client)
        engine = LanesEngine(client, patience=Patience(**patience or {}), bucket=0, **options)
        try:
            history = train(engine, Reporter(client, clock or {}), epochs, checkpoint)
        except DagtrainError as error:
            say(error=f"{type(error).__name__}: {error}")
        else:
            say(fingerprint=history.fingerprint, events=[str(event) for event in history.events], pids=[before, pids(client)])


def pids(client: Any) -> dict[str, int]:
    """The workers' processes by their addresses."""
    found: dict[str, int] = client.run_on_scheduler(lambda dask_scheduler: {a: w.pid for a, w in dask_scheduler.workers.items()})
    return found


if __name__ == "__main__":
    main(sys.argv[1], **json.loads(sys.argv[2]))
