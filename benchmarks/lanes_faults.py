"""The parts of lanes.py that observe a cluster during training: kills of workers, and growth of memory."""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import threading
import time
from typing import Any

import dagtrain as dt

__all__ = ["memory", "recovery"]

SAMPLES = 8192
DEADLINE = 60.0
"""Seconds after which a recovery counts as failed."""


class Observer(dt.callbacks.Callback):
    """Records the times of committed steps and of events; calls `at_epoch` at each epoch's end."""

    def __init__(self, at_epoch: Any = None) -> None:
        self.at_epoch = at_epoch
        self.changed = threading.Condition()
        self.last_step, self.events = 0.0, list[tuple[float, str]]()

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        """A step is committed."""
        with self.changed:
            self.last_step = time.monotonic()
            self.changed.notify_all()

    def on_event(self, event: Any) -> None:
        """Something happened."""
        with self.changed:
            self.events.append((time.monotonic(), event.line))
            self.changed.notify_all()

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        """An epoch is over."""
        if self.at_epoch is not None:
            self.at_epoch(epoch + 1)


def recovery(kills: int, workers: int) -> dict[str, Any]:
    """Kill workers at random moments, and measure the time until the next committed step."""
    import dask
    from distributed import Client, LocalCluster
    from lanes import NETWORKS, data, say, trainer

    sizes, batch = NETWORKS["small"]
    dataset, observer, draw = data(sizes[0], SAMPLES), Observer(), random.Random(0)
    known, resumed, failures = list[float](), list[float](), list[str]()
    # This long after a worker was lost, the cluster checks whether it is back, and removes it for good if it was just killed again.
    setting = dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"})
    with (
        setting,
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit=0, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        fitted = trainer(sizes, 8, engine="lanes", client=client)

        def kill_them() -> None:
            with observer.changed:
                observer.changed.wait_for(lambda: observer.last_step, DEADLINE)
            for i in range(kills):
                time.sleep(draw.uniform(0.3, 1.0))
                until = time.monotonic() + DEADLINE
                pids: dict[str, int] = {}
                while len(pids) < workers and time.monotonic() < until:  # until all are back
                    pids = client.run(os.getpid, on_error="ignore")
                    time.sleep(0.05)
                seen, at = len(observer.events), time.monotonic()
                os.kill(pids[draw.choice(sorted(pids))], signal.SIGKILL)
                with observer.changed:
                    committed = observer.changed.wait_for(
                        lambda: len(observer.events) > seen and observer.last_step > observer.events[seen][0],  # noqa: B023  # within the turn
                        DEADLINE,
                    )
                    if committed:
                        known.append(observer.events[seen][0] - at)
                        resumed.append(observer.last_step - at)
                    else:
                        failures.append(f"kill {i}: no step within {DEADLINE:g} s; events: {[line for _, line in observer.events[seen:]]}")
                say(f"recovery: kill {i + 1} of {kills}")
            fitted.stop("enough workers were killed")

        thread = threading.Thread(target=kill_them)
        thread.start()
        try:
            history = fitted.fit(*dataset, epochs=1_000_000, batch_size=batch, verbose=0, callbacks=[observer])
        finally:
            thread.join()
        fitted.ledger().verify()
        steps = fitted.state.step
    again = trainer(sizes, 8, engine="inline", threads=1)
    whole, rest = divmod(steps, len(dataset[0]) // batch)
    same = None
    if not rest:
        same = again.fit(*dataset, epochs=whole, batch_size=batch, verbose=0).fingerprint == history.fingerprint
    print(f"\nTraining recovered from {len(resumed)} of {kills} kills -9 of one of {workers} workers, in {steps:,} steps.")
    if resumed:
        for what, values in (("the driver knows", known), ("the next step is committed", resumed)):
            middle, most = statistics.median(values), max(values)
            print(f"Seconds until {what}: median {middle:.3f}, least {min(values):.3f}, most {most:.3f}.")
    print("Every sample of the last epochs was used exactly once." + ("" if same is None else f" Weights as without kills: {same}."))
    for text in failures:
        print(text)
    return {"kills": kills, "known": known, "resumed": resumed, "lost": failures, "steps": steps}


def resident() -> int:
    """Resident memory of this process in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def memory(steps: int) -> dict[str, Any]:
    """Resident memory of workers, scheduler and client over many steps; the scheduler runs in its own process."""
    import cloudpickle
    from distributed import Client
    from distributed.deploy.subprocess import SubprocessCluster
    from lanes import NETWORKS, data, say, trainer
    from step import table

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the scheduler and the workers do not have this file
    sizes, batch = NETWORKS["small"]
    dataset = data(sizes[0], SAMPLES)
    an_epoch = len(dataset[0]) // batch
    epochs = max(4, -(-steps // an_epoch))
    samples: list[dict[str, Any]] = []
    with (
        SubprocessCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", worker_kwargs={"memory_limit": 0}, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):

        def look(epoch: int) -> None:
            if epoch % max(1, epochs // 20) == 0:
                workers = {"worker " + str(i): rss for i, (_, rss) in enumerate(sorted(client.run(resident).items()))}
                samples.append({"step": epoch * an_epoch, **workers, "scheduler": client.run_on_scheduler(resident), "client": resident()})

        say(f"memory: {epochs * an_epoch} steps")
        fitted = trainer(sizes, 8, engine="lanes", client=client)
        fitted.fit(*dataset, epochs=epochs, batch_size=batch, verbose=0, callbacks=[Observer(look)])
    names = [name for name in samples[0] if name != "step"]
    first = samples[min(len(samples) - 2, max(1, len(samples) // 10))]  # after the allocations of the start
    rows, growth = [], {}
    for name in names:
        growth[name] = samples[-1][name] / first[name] - 1
        most = max(s[name] for s in samples)
        rows.append([name, f"{first[name] / 1e6:.1f}", f"{samples[-1][name] / 1e6:.1f}", f"{most / 1e6:.1f}", f"{growth[name]:+.1%}"])
    print(f"\nResident memory in MB after {first['step']:,} and after {samples[-1]['step']:,} steps\n")
    print(table(["process", "first", "last", "most", "growth"], rows))
    return {"steps": samples[-1]["step"], "seen": samples, "growth": growth}
