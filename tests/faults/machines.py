"""Schedulers, workers and drivers in processes of their own, also on other hosts; forked, so that they start within milliseconds.

Each has a connection to the test. It sends its address or its progress there, and a driver waits there to be continued.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dask
import numpy as np

import dagtrain as dt
from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.errors import DagtrainError
from dagtrain.step import update
from tests.step.remembering import Remembers

SECONDS = 60
"""Deadline of every wait of a test."""
SMALL_BLOCK = 4096
"""Parameters of a block of the update: small enough for the layers to be sent one after the other."""
_NETWORK = 0x40000000  # CLONE_NEWNET


# ---- in such a process


def begin(namespace: str | None, run: Callable[..., None], connection: Any, settings: dict[str, Any]) -> None:
    """Run in this network namespace, if there is one; send the traceback of an error."""
    try:
        if namespace is not None:
            with Path("/run/netns", namespace).open() as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _NETWORK):
                    raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        run(connection, **settings)
    except BaseException:
        connection.send({"failed": traceback.format_exc()})
        raise


def run_scheduler(connection: Any, host: str, settings: dict[str, Any]) -> None:
    from distributed import Scheduler

    async def serve() -> None:
        async with Scheduler(host=host, port=0, dashboard=False, dashboard_address=":0") as scheduler:
            connection.send({"address": scheduler.address})
            await scheduler.finished()

    with dask.config.set(settings):
        asyncio.run(serve())


def run_worker(connection: Any, address: str, host: str, nanny: bool) -> None:
    from distributed import Nanny, Worker

    async def serve() -> None:
        async with (Nanny if nanny else Worker)(address, host=host, nthreads=1, memory_limit=0, dashboard=False) as worker:
            connection.send({"address": worker.address})
            await worker.finished()

    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):  # forked workers would not be on this host
        asyncio.run(serve())


def train(engine: Any, callback: Any = None, epochs: int = 8, checkpoint: str | None = None) -> Any:
    """History of the run of all tests of faults: states by each reduction, random numbers, a norm; the last step of an epoch has 4 samples.

    Its network is small, but blocks are small enough for its layers to be sent one after the other.
    """
    draw = np.random.default_rng(0)
    x, labels = draw.normal(size=(196, 64)).astype("f4"), draw.integers(0, 10, 196)
    model = dt.nn.Sequential([dt.nn.BatchNorm(), Remembers(), dt.nn.Dense(1024, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(10)])
    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(1e-2))
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, shards=8, engine=engine)
    options = {"epochs": epochs, "batch_size": 64, "verbose": 0, "callbacks": [] if callback is None else [callback]}
    return trainer.fit(x, labels, checkpoint=checkpoint, resume=checkpoint is not None, **options)


class Reporter(dt.callbacks.Callback):
    """Sends each finished epoch, and waits for an answer; ``clock`` maps epochs to seconds by which to step the scheduler's clock."""

    def __init__(self, connection: Any, client: Any, clock: dict[int, float]) -> None:
        self.connection, self.client, self.clock = connection, client, clock

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.connection.send({"epoch": epoch + 1})
        self.connection.recv()
        if (seconds := self.clock.get(epoch + 1)) is not None:
            self.client.run_on_scheduler(step_clock, seconds)
            deadline = time.monotonic() + 30  # two steps that cancel each other within half a second would not be seen
            while not self.client.run_on_scheduler(has_seen_its_clock) and time.monotonic() < deadline:
                time.sleep(0.05)


def step_clock(seconds: float) -> None:
    """Step the wall clock of this process alone, in every module that uses it."""
    before = time.time

    def stepped() -> float:
        return before() + seconds

    for module in list(sys.modules.values()):
        if getattr(module, "time", None) is before:
            module.time = stepped  # type: ignore[attr-defined]  # it has one


def has_seen_its_clock(dask_scheduler: Any) -> bool:
    """Whether the scheduler plugin has looked at the clock since it was stepped."""
    wall = dask_scheduler.plugins["dagtrain-lanes"]._monitor._wall
    return bool(abs(wall._ahead - (time.time() - time.monotonic())) < 1.0)


def pids(client: Any) -> dict[str, int]:
    """PIDs of the workers by address."""
    by_address: dict[str, int] = client.run_on_scheduler(lambda dask_scheduler: {a: w.pid for a, w in dask_scheduler.workers.items()})
    return by_address


def run_driver(
    connection: Any,
    address: str,
    epochs: int = 8,
    checkpoint: str | None = None,
    policy: dict[str, Any] | None = None,
    clock: dict[int, float] | None = None,
    connect: str = "30s",
    **options: Any,
) -> None:
    """Train on a cluster, and send the result or the error."""
    from distributed import Client

    update.BLOCK = SMALL_BLOCK  # of this process

    with dask.config.set({"distributed.comm.timeouts.connect": connect}), Client(address) as client:
        before = pids(client)
        engine = LanesEngine(client, policy=SegmentPolicy(**policy or {}), bucket_bytes=0, **options)
        try:
            history = train(engine, Reporter(connection, client, clock or {}), epochs, checkpoint)
        except DagtrainError as error:
            connection.send({"error": f"{type(error).__name__}: {error}"})
        else:
            events = [str(event) for event in history.events]
            connection.send({"fingerprint": history.fingerprint, "events": events, "pids": [before, pids(client)]})


# ---- in the test


class Process:
    """A scheduler, worker or driver."""

    def __init__(self, namespace: str | None, run: Callable[..., None], settings: dict[str, Any]) -> None:
        context = get_context("forkserver")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=begin, args=(namespace, run, theirs, settings))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid
        theirs.close()

    def hear(self) -> dict[str, Any]:
        """Its next message."""
        if not self.connection.poll(SECONDS):
            raise AssertionError(f"the process has sent nothing for {SECONDS} s")
        message: dict[str, Any] = self.connection.recv()
        assert "failed" not in message, message["failed"]
        return message

    def signal(self, number: int) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    def close(self) -> None:
        """End it, if it has not ended."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class Driver(Process):
    """A driver that waits after each epoch."""

    def until(self, epoch: int) -> None:
        """Let it run to the end of this epoch."""
        while True:
            message = self.hear()
            assert "epoch" in message, message
            if message["epoch"] == epoch:
                return
            self.go()

    def go(self) -> None:
        """Let it run to the end of the next epoch."""
        self.connection.send("go")

    def end(self) -> dict[str, Any]:
        """Let it run to its end; its last message."""
        while True:
            self.go()
            message = self.hear()
            if "epoch" not in message:
                return message


class Machines:
    """A scheduler, workers and drivers; on the hosts s, w1, w2 and c of a network, if it has a name."""

    def __init__(self, network: str | None = None) -> None:
        self.network, self.address = network, ""
        self.processes: list[Process] = []

    def _start(self, kind: Any, host: str, run: Callable[..., None], settings: dict[str, Any]) -> Any:
        process = kind(None if self.network is None else f"{self.network}-{host}", run, settings)
        self.processes.append(process)
        return process

    def host_of(self, host: str) -> str:
        """IP address of a host."""
        return "127.0.0.1" if self.network is None else f"10.77.0.{['s', 'w1', 'w2', 'c'].index(host) + 1}"

    def scheduler(self, **settings: Any) -> Process:
        """Start a scheduler with these settings of Dask; later workers and drivers use it."""
        dotted = {f"distributed.scheduler.{name}": value for name, value in settings.items()}
        scheduler: Process = self._start(Process, "s", run_scheduler, {"host": self.host_of("s"), "settings": dotted})
        self.address = scheduler.hear()["address"]
        return scheduler

    def worker(self, host: str = "w1", nanny: bool = False) -> Process:
        """Start a worker, and wait until it has registered with the scheduler."""
        worker: Process = self._start(Process, host, run_worker, {"address": self.address, "host": self.host_of(host), "nanny": nanny})
        worker.hear()
        return worker

    def driver(self, **settings: Any) -> Driver:
        """Start a driver."""
        driver: Driver = self._start(Driver, "c", run_driver, {"address": self.address, **settings})
        return driver

    def close(self) -> None:
        """End all."""
        for process in reversed(self.processes):
            process.close()
