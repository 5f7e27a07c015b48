"""Which Dask client is in use, asked without importing Dask: where distributed was never imported, there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from dagtrain.data.compute import CLIENT
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["check_client", "client_in_use", "current_client", "is_in_task", "wait_for_workers", "workers_of"]


def is_in_task() -> bool:
    """Whether this thread is at a task of a Dask worker; does not import distributed for it."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def current_client() -> Any:
    """The Dask client of this process, in a task that of its worker; None where there is none. Does not import distributed for it."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def client_in_use(futures: Sequence[Any] = ()) -> Any:
    """The client of futures, else the one that was asked for or by which Dask computes just now; None where it computes in this process."""
    if "distributed" not in sys.modules:
        return None
    import dask
    from distributed import Client

    client = futures[0].client if futures else CLIENT.get()
    if client is None:
        client = getattr(dask.base.get_scheduler(), "__self__", None)
    if not isinstance(client, Client):
        return None
    check_client(client)
    return client


def check_client(client: Any) -> None:
    """Raise ArgumentError for what is no client, and ClusterError for one that is asynchronous or closed."""
    if not hasattr(client, "sync"):
        raise ArgumentError(f"client is a Dask client, as Client('tcp://host:8786') of distributed makes one, got {client!r}.")
    if getattr(client, "asynchronous", False):
        raise ClusterError("the client is asynchronous: dagtrain needs a synchronous one, as in Client(asynchronous=False).")
    if getattr(client, "status", "running") == "closed":
        raise ClusterError("the client is closed: make a new one, and give it to the trainer (trainer.client = …) if it had the old one.")


def workers_of(client: Any) -> dict[str, Any]:
    """Address of each worker that the scheduler knows now → what it says of it.

    `Client.scheduler_info` gives what the client heard last, which a periodic update without workers may replace before it returns. It is
    asked only where the scheduler does not answer.
    """
    try:
        return dict(client.sync(client.scheduler.identity, n_workers=-1)["workers"])
    except OSError:
        return dict(client.scheduler_info(n_workers=-1)["workers"])


def wait_for_workers(client: Any, count: int, seconds: float) -> None:
    """Wait until so many workers run; TimeoutError if they do not in time.

    `Client.wait_for_workers` of a client that was made of a cluster object replaces that cluster's list of workers. If a worker has just
    died, the news of its death no longer finds it there: the cluster then follows its workers no more, and raises KeyError when it closes.
    """
    until = time.monotonic() + seconds
    while sum(worker["status"] == "running" for worker in workers_of(client).values()) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"the cluster does not have {count} running workers after {seconds:g} s.")
        time.sleep(0.1)
