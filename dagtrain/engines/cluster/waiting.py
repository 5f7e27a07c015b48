"""Results from a cluster, awaited while it makes progress; and values that are sent to it once.

A cluster may start without workers (an adaptive one does): the first worker has a deadline. After that the deadline is for progress: the
wait goes on while tasks finish, however slowly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

from dask.task_spec import DataNode

from dagtrain.data.compute import CLUSTER
from dagtrain.engines.client import client_in_use, is_in_task
from dagtrain.engines.cluster.clocks import AwakeClock
from dagtrain.engines.cluster.outages import OUTAGE, insist
from dagtrain.errors import ClusterError

__all__ = ["TIMEOUTS", "Standing", "Timeouts", "compute_on_cluster", "gather", "results", "send_to_cluster", "submit", "wait_for"]

log = logging.getLogger("dagtrain")


class Timeouts(NamedTuple):
    """Deadlines, in seconds.

    Attributes
    ----------
    workers
        Without a worker, or without one that may take the tasks.
    progress
        Without a finished task: twice as long as Dask needs to declare a silent worker lost.
    glance
        Between two requests for the tasks' states.
    pause
        Before failed work is repeated; it doubles each time.
    answer
        For the scheduler to answer a request.
    outage
        For the scheduler to be out of reach.
    """

    workers: float = 60.0
    progress: float = 600.0
    glance: float = 2.0
    pause: float = 0.5
    answer: float = 30.0
    outage: float = OUTAGE


TIMEOUTS = Timeouts()


class Standing(NamedTuple):
    """The scheduler's progress with a set of keys.

    Attributes
    ----------
    unfinished
        Number of unfinished tasks.
    running
        Up to three that run, each with its worker.
    stuck
        Up to three that no worker may take, each with its restrictions.
    workers
        Number of workers.
    """

    unfinished: int
    running: list[tuple[str, str]]
    stuck: list[tuple[str, str]]
    workers: int


def standing_of(keys: Sequence[Any], dask_scheduler: Any) -> Standing:
    """On the scheduler: its progress with these keys and their dependencies; moves stranded tasks to other workers."""
    from dagtrain.engines.cluster.busy import move_stranded

    unfinished, stack = set(), [dask_scheduler.tasks[key] for key in keys if key in dask_scheduler.tasks]
    while stack:
        task = stack.pop()
        if task not in unfinished and task.state not in ("memory", "released", "forgotten", "erred"):
            unfinished.add(task)
            stack += task.dependencies
    move_stranded(dask_scheduler, unfinished)
    running = sorted((str(t.key), t.processing_on.address) for t in unfinished if t.processing_on is not None)
    stuck = []
    for task in unfinished if dask_scheduler.workers else ():
        restrictions = {"workers": task.worker_restrictions, "hosts": task.host_restrictions, "resources": task.resource_restrictions}
        if task.state == "no-worker" and any(restrictions.values()):
            stuck.append((str(task.key), ", ".join(f"{name} {value}" for name, value in restrictions.items() if value)))
    return Standing(len(unfinished), running[:3], sorted(stuck)[:3], len(dask_scheduler.workers))


@contextmanager
def thread_given_back() -> Iterator[None]:
    """Give this task's thread back to its worker meanwhile, if this is a task: the awaited results may need that thread."""
    from distributed import rejoin, secede

    has_seceded = False
    if is_in_task():
        with suppress(KeyError, AttributeError):  # it has seceded already, or runs in no thread of the worker
            secede()
            has_seceded = True
    try:
        yield
    finally:
        if has_seceded:
            rejoin()


def compute_on_cluster(graph: dict[Any, Any], keys: Sequence[Any], futures: Sequence[Any] = ()) -> list[Any] | None:
    """The values of these keys from the cluster in use; None without a cluster."""
    client = client_in_use(futures)
    return None if client is None else gather(client, graph, keys)


CLUSTER.fill(compute_on_cluster)


def send_to_cluster(key: str, value: Any) -> Any:
    """A future of a value that any worker can fetch and Dask restores if its worker dies; None without a cluster in use."""
    client = client_in_use()
    return None if client is None else submit(client, {key: DataNode(key, value)}, [key])[0]


def is_of_cluster(error: BaseException) -> bool:
    """Whether a worker or a connection that is gone may have caused the error of a task; other errors would occur again."""
    from distributed import KilledWorker

    return isinstance(error, OSError | MemoryError | KilledWorker | CancelledError)


def what_was_lost(what: object) -> str:
    """Message for tasks or partitions that the cluster has lost or cancelled."""
    return (
        f"the cluster no longer holds what this needs: {what} Scattered data is lost with its worker. All scattered and "
        "persisted data is lost with the scheduler and by client.restart(): scatter or persist it again."
    )


def submit(client: Any, graph: dict[Any, Any], keys: Sequence[Any], **annotations: Any) -> list[Any]:
    """Futures of these keys with these annotations, and without the user's, which are for the user's own collections."""
    import dask
    from dask._expr import LLGExpr

    # Dask would hash all that the graph holds, for a name that nothing reads: half of the client's time.
    expression = LLGExpr(graph, _determ_token=uuid4().hex)

    def run() -> list[Any]:
        # Data of this process is sent once, in the graph, so that Dask can restore it: its size is intended.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}), dask.annotate(**annotations):
            return list(client.get(expression, list(keys), sync=False))

    return Context().run(run)  # Dask keeps annotations in the context


def gather(client: Any, graph: dict[Any, Any], keys: Sequence[Any], timeouts: Timeouts | None = None) -> list[Any]:
    """The values of these keys; see `collect`."""
    return collect(client, submit(client, graph, keys), timeouts)


def collect(client: Any, futures: Sequence[Any], timeouts: Timeouts | None = None) -> list[Any]:
    """The values of these futures, which are then released.

    Raises
    ------
    ClusterError
        No worker came, no task was finished for `Timeouts.progress` seconds, or data of the tasks was lost.
    """
    from distributed import KilledWorker

    timeouts = TIMEOUTS if timeouts is None else timeouts
    try:
        with thread_given_back():
            return results(client, futures, timeouts)
    except CancelledError as error:
        raise ClusterError(what_was_lost(error)) from error
    except KilledWorker as error:
        raise ClusterError(
            f"the task {error.task} brought down {error.allowed_failures + 1} workers, one after the other: is a partition larger than "
            "their memory? Cut the data into smaller ones."
        ) from error
    except TimeoutError as error:
        raise ClusterError(f"the results of {len(futures)} tasks did not arrive within {timeouts.progress:g} s.") from error
    finally:
        for future in futures:
            future.release()


def results(
    client: Any, futures: Sequence[Any], timeouts: Timeouts, where: str = "", look: Callable[[Standing], object] | None = None
) -> list[Any]:
    """The values of these futures, awaited by `wait_for`; raises the error of one that failed."""
    wait_for(client, futures, timeouts, where, look)
    return fetch(client, futures, timeouts)


def fetch(client: Any, futures: Sequence[Any], timeouts: Timeouts) -> list[Any]:
    """The values of futures that are done; raises the error of one that failed."""
    # Not `result` with a short deadline: after a gather that timed out, the client may be unable to gather anything. And not without a
    # deadline: a worker that dies at this moment takes results with it, and gather waits for ever if no other worker replaces it.
    return list(client.sync(lambda: client.gather(futures, asynchronous=True), callback_timeout=timeouts.progress))


def _restrictions(standing: Standing) -> str:
    return "; ".join(f"{key} asks for {restrictions}" for key, restrictions in standing.stuck)


def warn_of_no_workers(timeouts: Timeouts) -> None:
    """Log that the wait is for a first worker."""
    log.warning("the cluster has no workers: waiting up to %g s for one.", timeouts.workers)


def no_workers(timeouts: Timeouts, where: str = "") -> str:
    """Message for a cluster without workers."""
    return (
        f"the cluster has no workers{where}, and none came within {timeouts.workers:g} s. Start workers, or see why they do not start. "
        "A LocalCluster drops workers that take longer to restart than distributed.deploy.lost-worker-timeout: set it higher."
    )


def wait_for(
    client: Any, futures: Sequence[Any], timeouts: Timeouts, where: str = "", look: Callable[[Standing], object] | None = None
) -> None:
    """Wait as `waiting` does, and call `look` with each `Standing`; it may raise."""
    for standing in waiting(client, futures, timeouts, where):
        if look is not None:
            look(standing)


def waiting(client: Any, futures: Sequence[Any], timeouts: Timeouts, where: str = "") -> Iterator[Standing]:
    """Wait until all futures are done or one of them has failed; yields how it stands now and then.

    Parameters
    ----------
    client
        Of the futures.
    futures
        All of one client.
    timeouts
        Deadlines.
    where
        For messages: the work, as in " in the steps from 3 on".

    Raises
    ------
    ClusterError
        No worker came, or no task was finished for `Timeouts.progress` seconds; names unfinished tasks and their workers.
    """
    keys, unfinished, warned = [future.key for future in futures], -1, False
    pending = list(futures)
    awake = AwakeClock(timeouts.glance + timeouts.answer)
    last_worker = last_progress = last_placed = awake.read()
    while True:
        with suppress(TimeoutError):
            while pending:
                if not pending[-1].done():
                    pending[-1].exception(timeout=timeouts.glance)
                pending.pop()
            return
        if any(future.status == "error" for future in futures):
            return
        # `client.sync` runs the request in the client's event loop, so that it has a deadline.
        ask = partial(client.sync, lambda: client.run_on_scheduler(standing_of, keys), callback_timeout=timeouts.answer)
        standing = insist(client, ask, timeouts.outage)
        yield standing
        now = awake.read()
        if standing.workers:
            last_worker, warned = now, warned and bool(standing.stuck)
        elif not warned:
            warned = True
            warn_of_no_workers(timeouts)
        if standing.unfinished != unfinished or not standing.workers:
            unfinished, last_progress = standing.unfinished, now
        if now - last_worker > timeouts.workers:
            raise ClusterError(no_workers(timeouts, where))
        if not standing.stuck or standing.running:
            last_placed = now
        elif now - last_placed > timeouts.workers:
            raise ClusterError(
                f"no worker may take the tasks that are left{where}, and none that may came within {timeouts.workers:g} s: "
                f"{_restrictions(standing)}. Was this data made with dask.annotate, or with workers= or resources=? "
                "Start such a worker, or make the data without."
            )
        elif not warned:
            warned = True
            log.warning(
                "no worker may take the tasks that are left: waiting up to %g s for one that may. %s.",
                timeouts.workers,
                _restrictions(standing),
            )
        if now - last_progress > timeouts.progress:
            running = "; ".join(f"{key} runs on {worker}" for key, worker in standing.running)
            hint = "Look at that worker's log." if running else "Are the workers' memory and threads occupied?"
            raise ClusterError(
                f"no task was finished for {timeouts.progress:g} s{where}: {standing.unfinished} are left on {standing.workers} workers, "
                f"{running or 'none of them runs'}. {hint}"
            )
