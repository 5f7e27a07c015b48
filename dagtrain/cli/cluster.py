"""The cluster that a command uses: one of its own on this machine, one that runs already, or none."""

from __future__ import annotations

import gc
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import click

from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["connect", "connected", "never_lost"]


@contextmanager
def never_lost() -> Iterator[None]:
    """Ctrl-C that comes while the garbage collector calls back, or ends an object, comes again a moment later.

    Python drops exceptions of such calls. Dask has one, and it is called most where much is imported and compiled: just when a
    command begins, and one sees that it is the wrong one.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def again(number: int) -> None:
        if hasattr(signal, "pthread_kill"):  # one that is raised in another thread does not wake the main thread from a wait
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            signal.raise_signal(number)

    def handle(number: int, frame: Any) -> None:
        deaf = {getattr(getattr(call, "__func__", call), "__code__", None) for call in gc.callbacks}
        while frame is not None:
            if frame.f_code in deaf or frame.f_code.co_name == "__del__":
                threading.Timer(0.05, again, [number]).start()
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def connected(workers: int | None, scheduler: str | None, engine: str) -> Iterator[Any]:
    """A Dask client for these options, or None for work in this process.

    Parameters
    ----------
    workers
        Start a cluster of so many workers on this machine.
    scheduler
        Address of a scheduler that runs already.
    engine
        "inline" needs no cluster, and none is started for it.
    """
    if workers is not None and scheduler is not None:
        raise ArgumentError("--workers starts a cluster and --scheduler uses one that runs already: give one of them.")
    if engine == "inline" or (workers is None and scheduler is None):
        if engine in ("lanes", "scheduler"):
            raise ArgumentError(f"the engine {engine} needs a cluster: add --workers 2, or --scheduler ADDRESS.")
        if workers is not None or scheduler is not None:
            click.echo("The engine inline works in this process: no cluster is used.", err=True)
        yield None
        return
    with local(workers) if workers is not None else connect(str(scheduler)) as client:
        yield client


@contextmanager
def local(workers: int) -> Iterator[Any]:
    """A client of a new cluster that nobody outside this machine can reach."""
    from distributed import Client, LocalCluster

    with interrupted_later():
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            silence_logs=logging.ERROR,
            loop=deaf_loop(),
        )
    with cluster, Client(cluster) as client, quiet_when_interrupted():
        yield client


@contextmanager
def quiet_when_interrupted() -> Iterator[None]:
    """After Ctrl-C, no complaints of the event loop about work that was under way."""
    try:
        yield
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise


@contextmanager
def interrupted_later() -> Iterator[None]:
    """Ctrl-C waits for the end of what is inside, which could not be closed half made; the second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []

    def note(*_: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(1)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        raise KeyboardInterrupt


def deaf_loop() -> Any:
    """An event loop whose thread, and so every process that it starts, does not hear Ctrl-C.

    A terminal sends it to all processes at once; workers would answer each with a traceback, although it is this process that closes them.
    """
    from distributed.utils import LoopRunner

    runner = LoopRunner()
    if not hasattr(signal, "pthread_sigmask"):
        runner.start()
        return runner.loop
    # It is started by the first process and would open the ears of the thread that starts it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return runner.loop


@contextmanager
def connect(address: str, timeout: float = 8) -> Iterator[Any]:
    """A client of a cluster that runs already and has a worker; `timeout` seconds are waited for the scheduler, and then for a worker."""
    from distributed import Client

    try:
        client = Client(address, timeout=timeout)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClusterError(f"no Dask scheduler answers at {address}: {reason}. Is it running, and is the address right?") from error
    except Exception as error:
        # The answer of a server of another kind, read as if it were a scheduler's, fails in many ways.
        raise ClusterError(f"what answers at {address} is no Dask scheduler ({type(error).__name__}).") from error
    with client, quiet_when_interrupted():
        try:
            client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            raise ClusterError(f"the scheduler at {address} has no workers: start one with: dask worker {address}") from error
        yield client
