"""The parts of lanes.py that look at a cluster while it trains: workers that are killed, and memory that must not grow."""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import threading
import time
from typing import Any

__all__ = ["memory", "recovery"]

SAMPLES = 8192
PATIENCE = 60.0
"""Seconds after which a recovery counts as failed."""


class Reporter:
    """Notes when steps are committed and when something happened; calls `at_epoch` at each epoch's end."""

    def __init__(self, at_epoch: Any = None) -> None:
        self.at_epoch = at_epoch
        self.news = threading.Condition()
        self.last_step, self.events = 0.0, list[tuple[float, str]]()

    def start(self, info: Any) -> None:
        """Nothing."""

    def step(self, done: int, total: int, loss: float | None = None) -> None:
        """A step is committed."""
        with self.news:
            self.last_step = time.monotonic()
            self.news.notify_all()

    def event(self, line: str) -> None:
        """Something happened."""
        with self.news:
            self.events.append((time.monotonic(), line))
            self.news.notify_all()

    def epoch(self, row: Any) -> None:
        """An epoch is over."""
        if self.at_epoch is not None:
            self.at_epoch(row)

    def finish(self, info: Any) -> None:
        """Nothing."""


def recovery(kills: int, workers: int) -> dict[str, Any]:
    """Kill workers at random moments; how long until the next step is committed."""
    import dask
    from distributed import Client, LocalCluster
    from lanes import NETWORKS, data, say, trainer

    sizes, batch = NETWORKS["small"]
    given, reporter, draw = data(sizes[0], SAMPLES), Reporter(), random.Random(0)
    told, resumed, lost = list[float](), list[float](), list[str]()
    # Some time after a worker was lost, the cluster looks whether it is back, and lets it go for good if it just then is dead once more.
    patience = dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"})
    with (
        patience,
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit=0, silence_logs=50) as made,
        Client(made) as client,
    ):
        fitted = trainer(sizes, 8, engine="lanes", client=client)
        end = threading.Event()

        def kill_them() -> None:
            with reporter.news:
                reporter.news.wait_for(lambda: reporter.last_step, PATIENCE)
            for i in range(kills):
                time.sleep(draw.uniform(0.3, 1.0))
                until = time.monotonic() + PATIENCE
                pids: dict[str, int] = {}
                while len(pids) < workers and time.monotonic() < until:  # all are back
                    pids = client.run(os.getpid, on_error="ignore")
                    time.sleep(0.05)
                seen, at = len(reporter.events), time.monotonic()
                os.kill(pids[draw.choice(sorted(pids))], signal.SIGKILL)
                with reporter.news:
                    found = reporter.news.wait_for(
                        lambda: len(reporter.events) > seen and reporter.last_step > reporter.events[seen][0],  # noqa: B023  # within the turn
                        PATIENCE,
                    )
                    if found:
                        told.append(reporter.events[seen][0] - at)
                        resumed.append(reporter.last_step - at)
                    else:
                        lost.append(f"kill {i}: no step within {PATIENCE:g} s; events: {[line for _, line in reporter.events[seen:]]}")
                say(f"recovery: kill {i + 1} of {kills}")
            end.set()
            fitted.stop("enough workers were killed")

        thread = threading.Thread(target=kill_them)
        thread.start()
        try:
            history = fitted.fit(*given, epochs=1_000_000, batch_size=batch, verbose=0, reporter=reporter)
        finally:
            thread.join()
        fitted.ledger().verify()
        state = fitted.state
        steps = state.step
    again = trainer(sizes, 8, engine="inline", threads=1)
    whole, rest = divmod(steps, len(given[0]) // batch)
    same = None
    if not rest:
        same = again.fit(*given, epochs=whole, batch_size=batch, verbose=0).fingerprint == history.fingerprint
    print(f"\n{len(resumed)} of {kills} kills -9 of one of {workers} workers were recovered from, in {steps:,} steps.")
    if resumed:
        for what, values in (("the driver knows", told), ("the next step is committed", resumed)):
            middle, most = statistics.median(values), max(values)
            print(f"Seconds until {what}: median {middle:.3f}, least {min(values):.3f}, most {most:.3f}.")
    print("Every sample of the last epochs was used exactly once." + ("" if same is None else f" Weights as without kills: {same}."))
    for text in lost:
        print(text)
    return {"kills": kills, "known": told, "resumed": resumed, "lost": lost, "steps": steps}


def resident() -> int:
    """Bytes of this process that lie in memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def memory(steps: int) -> dict[str, Any]:
    """Resident memory of workers, scheduler and client while steps go by; the scheduler is a process of its own."""
    import cloudpickle
    from distributed import Client
    from distributed.deploy.subprocess import SubprocessCluster
    from lanes import NETWORKS, data, say, trainer
    from step import table

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the scheduler and the workers do not have this file
    sizes, batch = NETWORKS["small"]
    given = data(sizes[0], SAMPLES)
    an_epoch = len(given[0]) // batch
    epochs = max(4, -(-steps // an_epoch))
    seen: list[dict[str, Any]] = []
    with (
        SubprocessCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", worker_kwargs={"memory_limit": 0}, silence_logs=50
        ) as made,
        Client(made) as client,
    ):

        def look(row: Any) -> None:
            if row["epoch"] % max(1, epochs // 20) == 0:
                found = {"worker " + str(i): rss for i, (_, rss) in enumerate(sorted(client.run(resident).items()))}
                seen.append(
                    {"step": row["epoch"] * an_epoch, **found, "scheduler": client.run_on_scheduler(resident), "client": resident()}
                )

        say(f"memory: {epochs * an_epoch} steps")
        fitted = trainer(sizes, 8, engine="lanes", client=client)
        fitted.fit(*given, epochs=epochs, batch_size=batch, verbose=0, reporter=Reporter(look))
    names = [name for name in seen[0] if name != "step"]
    first = seen[min(len(seen) - 2, max(1, len(seen) // 10))]  # what is allocated once is no growth
    rows, growth = [], {}
    for name in names:
        growth[name] = seen[-1][name] / first[name] - 1
        most = max(s[name] for s in seen)
        rows.append([name, f"{first[name] / 1e6:.1f}", f"{seen[-1][name] / 1e6:.1f}", f"{most / 1e6:.1f}", f"{growth[name]:+.1%}"])
    print(f"\nResident memory in MB after {first['step']:,} and after {seen[-1]['step']:,} steps\n")
    print(table(["process", "first", "last", "most", "growth"], rows))
    return {"steps": seen[-1]["step"], "seen": seen, "growth": growth}
