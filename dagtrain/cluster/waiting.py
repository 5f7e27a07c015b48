"""Small answers from a cluster, waited for as long as it makes progress; and values that are sent to it once.

A cluster may start without workers (an adaptive one does): then there is a deadline for the first. After that the deadline is for
progress: as long as tasks are finished, however slowly, the wait goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, NamedTuple

from dask.task_spec import DataNode

from dagtrain.data.compute import CLIENT
from dagtrain.errors import ClusterError
from dagtrain.graph.hooks import plug

__all__ = ["PATIENCE", "Patience", "Standing", "compute_on_cluster", "gather", "send_to_cluster", "standing_of"]

log = logging.getLogger("dagtrain")


class Patience(NamedTuple):
    """Deadlines, in seconds.

    Attributes
    ----------
    workers
        Without any worker.
    progress
        Without a finished task: twice as long as Dask needs to take a silent worker for lost.
    glance
        Between two looks at the scheduler.
    """

    workers: float = 60.0
    progress: float = 600.0
    glance: float = 2.0


PATIENCE = Patience()


class Standing(NamedTuple):
    """How far the scheduler is with some keys: tasks that are not finished, some that run and their workers, and the number of workers."""

    unfinished: int
    running: list[tuple[str, str]]
    workers: int


def standing_of(keys: Sequence[Any], dask_scheduler: Any) -> tuple[int, list[tuple[str, str]], int]:
    """On the scheduler: how far it is with these keys and all that they wait for."""
    found, stack = set(), [dask_scheduler.tasks[key] for key in keys if key in dask_scheduler.tasks]
    while stack:
        task = stack.pop()
        if task not in found and task.state not in ("memory", "released", "forgotten", "erred"):
            found.add(task)
            stack += task.dependencies
    running = sorted((str(t.key), t.processing_on.address) for t in found if t.processing_on is not None)
    return len(found), running[:3], len(dask_scheduler.workers)


def client_in_use(futures: Sequence[Any] = ()) -> Any:
    """The client of futures, else the one that was asked for or by which Dask computes just now; None where it computes in this process."""
    import sys

    if "distributed" not in sys.modules:
        return None
    import dask
    from distributed import Client

    found = futures[0].client if futures else CLIENT.get()
    if found is None:
        found = getattr(dask.base.get_scheduler(), "__self__", None)
    if not isinstance(found, Client):
        return None
    if found.asynchronous:
        raise ClusterError("the client is asynchronous: dagtrain needs a synchronous one, as in Client(asynchronous=False).")
    return found


@plug("compute_on_cluster")
def compute_on_cluster(graph: dict[Any, Any], keys: Sequence[Any], futures: Sequence[Any] = ()) -> list[Any] | None:
    """The values of these keys from the cluster in use; None where there is none."""
    client = client_in_use(futures)
    return None if client is None else gather(client, graph, keys)


@plug("send_to_cluster")
def send_to_cluster(key: str, value: Any) -> Any:
    """A future of a value, which any worker can have and which comes back if its worker dies; None where there is no cluster in use."""
    client = client_in_use()
    return None if client is None else submit(client, {key: DataNode(key, value)}, [key])[0]


def submit(client: Any, graph: dict[Any, Any], keys: Sequence[Any]) -> list[Any]:
    """Futures of these keys."""
    import dask

    # Data given in this process is sent once, in the graph, so that what is lost with a worker comes back: its size is no mistake.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        return list(client.get(graph, list(keys), sync=False))


def gather(client: Any, graph: dict[Any, Any], keys: Sequence[Any], patience: Patience | None = None) -> list[Any]:
    """The values of these keys.

    Raises
    ------
    ClusterError
        No worker came, no task was finished for a long time, or what the tasks need was lost.
    """
    from distributed import KilledWorker

    patience = PATIENCE if patience is None else patience
    futures = submit(client, graph, keys)
    try:
        wait_for(client, futures, patience)
        # A worker that dies just now takes answers with it, and gather waits for ever where none takes its place.
        return list(client.sync(lambda: client.gather(futures, asynchronous=True), callback_timeout=patience.progress))
    except CancelledError as error:
        raise ClusterError(
            f"the cluster let go of what was asked of it: {error} Data that was scattered is lost with its worker, and all is lost with "
            "the scheduler: scatter it again, or give the data as a persisted collection, which is computed again."
        ) from error
    except KilledWorker as error:
        raise ClusterError(
            f"the task {error.task} brought down {error.allowed_failures + 1} workers, one after the other: is a partition larger than "
            "their memory? Cut the data into smaller ones."
        ) from error
    except TimeoutError as error:
        raise ClusterError(f"the answers of {len(futures)} tasks did not arrive within {patience.progress:g} s.") from error
    finally:
        for future in futures:
            future.release()


def wait_for(client: Any, futures: Sequence[Any], patience: Patience) -> None:
    """Wait until all futures are done or one of them has failed."""
    keys, left, told = [future.key for future in futures], -1, False
    pending = list(futures)
    staffed = moved = time.monotonic()
    while True:
        with suppress(TimeoutError):
            while pending:
                if not pending[-1].done():
                    pending[-1].exception(timeout=patience.glance)
                pending.pop()
            return
        if any(future.status == "error" for future in futures):
            return
        try:
            now, clock = Standing(*client.run_on_scheduler(standing_of, keys)), time.monotonic()
        except OSError as error:
            raise ClusterError(f"the scheduler cannot be asked any more: {error}") from error
        if now.workers:
            staffed, told = clock, False
        elif not told:
            told = True
            log.warning("the cluster has no workers: waiting up to %g s for one.", patience.workers)
        if now.unfinished != left or not now.workers:
            left, moved = now.unfinished, clock
        if clock - staffed > patience.workers:
            raise ClusterError(
                f"the cluster has no workers, and none came within {patience.workers:g} s. Start some, or see why they do not start."
            )
        if clock - moved > patience.progress:
            where = "; ".join(f"{key} runs on {worker}" for key, worker in now.running)
            advice = f"{where}. Look at that worker's log." if where else "none of them runs. Are the workers' memory and threads taken?"
            raise ClusterError(
                f"no task was finished for {patience.progress:g} s: {now.unfinished} are left on {now.workers} workers, {advice}"
            )
