"""The cluster of a command: a new one on this machine, a running one, or none."""

from __future__ import annotations

import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import click

from dagtrain.engines.client import wait_for_workers
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["connect", "connected", "encrypted", "encryption_options", "never_lost"]


def encryption_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `encrypted` takes."""
    path = click.Path(exists=True, path_type=Path)
    for name, text in (
        ("--tls-key", "Key of --tls-cert, if another file."),
        ("--tls-cert", "Certificate of this client."),
        ("--tls-ca-file", "Certificate of the authority that the cluster trusts."),
        ("--certs", "Folder that `dagtrain certs` made, for a scheduler at tls://…"),
    ):
        command = click.option(name, type=path, metavar="FOLDER" if name == "--certs" else "FILE", help=text)(command)
    return command


def encrypted(certs: Path | None, tls_ca_file: Path | None, tls_cert: Path | None, tls_key: Path | None) -> Any:
    """The `distributed.Security` of these options, or None without them."""
    from dagtrain.deploy.certificates import client_security, security

    if certs is not None:
        if tls_ca_file or tls_cert or tls_key:
            raise ArgumentError("--certs names a folder with all files, and --tls-… single ones: give one of them.")
        return security(certs)
    if tls_ca_file is None and tls_cert is None and tls_key is None:
        return None
    if tls_ca_file is None or tls_cert is None:
        raise ArgumentError("TLS needs both --tls-ca-file and --tls-cert (and --tls-key, if the key is in another file), or --certs.")
    return client_security(tls_ca_file, tls_cert, tls_key)


@contextmanager
def never_lost() -> Iterator[None]:
    """Repeat a Ctrl-C that arrives during a callback of the garbage collector or a ``__del__``.

    Python drops exceptions of such calls. Dask registers such a callback, which runs most often during imports and compilation: at the
    beginning of a command, when users most often stop one typed by mistake.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def repeat(number: int) -> None:
        if hasattr(signal, "pthread_kill"):  # raise_signal in another thread does not wake the main thread from a wait
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            signal.raise_signal(number)

    def handle(number: int, frame: Any) -> None:
        callbacks = {getattr(getattr(call, "__func__", call), "__code__", None) for call in gc.callbacks}
        while frame is not None:
            if frame.f_code in callbacks or frame.f_code.co_name == "__del__":
                threading.Timer(0.05, repeat, [number]).start()
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def connected(workers: int | None, scheduler: str | None, engine: str, security: Any = None) -> Iterator[Any]:
    """A Dask client for these options, or None for work in this process.

    Parameters
    ----------
    workers
        Number of workers of a new cluster on this machine.
    scheduler
        Address of a running scheduler.
    engine
        Name of the engine; "inline" starts no cluster.
    security
        A `distributed.Security` for the running scheduler.
    """
    if workers is not None and scheduler is not None:
        raise ArgumentError("--workers starts a cluster and --scheduler uses a running one: give one of them.")
    if engine == "inline" or (workers is None and scheduler is None):
        if engine in ("lanes", "scheduler"):
            raise ArgumentError(f"the engine {engine} needs a cluster: add --workers 2, or --scheduler ADDRESS.")
        if workers is not None or scheduler is not None:
            click.echo("The engine inline works in this process: no cluster is used.", err=True)
        yield None
        return
    with local(workers) if workers is not None else connect(str(scheduler), security) as client:
        yield client


@contextmanager
def local(workers: int) -> Iterator[Any]:
    """A client of a new cluster that only this machine can reach."""
    from distributed import Client, LocalCluster

    import dagtrain.dashboard  # noqa: F401  # adds its page to the dashboards of clusters that begin after it

    with interrupted_later():
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            silence_logs=logging.ERROR,
            loop=signal_blocking_loop(),
        )
    with cluster, Client(cluster) as client, quiet_when_interrupted():
        yield client


@contextmanager
def quiet_when_interrupted() -> Iterator[None]:
    """After Ctrl-C, silence the event loop's messages about unfinished work."""
    try:
        yield
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise


@contextmanager
def interrupted_later() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block, whose half-made result could not be closed; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []

    def note(*_: Any) -> None:
        if interrupts:
            raise KeyboardInterrupt
        interrupts.append(1)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts:
        raise KeyboardInterrupt


def signal_blocking_loop() -> Any:
    """An event loop whose thread, and so every process that it starts, blocks Ctrl-C and SIGTERM.

    A terminal sends Ctrl-C to all processes at once, and a job system SIGTERM. This process closes the workers itself; they end with it.
    """
    from distributed.utils import LoopRunner

    runner = LoopRunner()
    if not hasattr(signal, "pthread_sigmask"):
        runner.start()
        return runner.loop
    # The first process would start the tracker, which unblocks the signals in the thread that starts it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return runner.loop


@contextmanager
def connect(address: str, security: Any = None, timeout: float = 8) -> Iterator[Any]:
    """A client of a running cluster with a worker; waits up to `timeout` seconds for the scheduler, and again for a worker."""
    from distributed import Client, Security

    from dagtrain.deploy.clusters.launch import greet

    if security is None and address.startswith("tls://") and not Security().tls_client_cert:
        raise ArgumentError(f"the scheduler at {address} encrypts: add --certs FOLDER, with the files that dagtrain certs made.")
    if security is not None and not address.startswith("tls://"):
        raise ArgumentError(f"with certificates the scheduler's address begins with tls://; got {address}.")
    try:
        greet(address, security, timeout)
        client = Client(address, security=security, timeout=timeout)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClusterError(
            f"no Dask scheduler answers at {address}: {reason}. Is it running, is the address right, does it encrypt (tls://)?"
        ) from error
    except Exception as error:
        # An answer of another kind of server raises many kinds of errors.
        raise ClusterError(f"what answers at {address} is no Dask scheduler ({type(error).__name__}).") from error
    with client, quiet_when_interrupted():
        try:
            wait_for_workers(client, 1, timeout)
        except TimeoutError as error:
            raise ClusterError(f"the scheduler at {address} has no workers: start one with: dask worker {address}") from error
        yield client
