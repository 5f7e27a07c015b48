"""Small answers from a cluster, waited for as long as it makes progress; and values that are sent to it once.

A cluster may start without workers (an adaptive one does): then there is a deadline for the first. After that the deadline is for
progress: as long as tasks are finished, however slowly, the wait goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import partial
from typing import Any, NamedTuple

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
        Without any worker, or any that may take the tasks.
    progress
        Without a finished task: twice as long as Dask needs to take a silent worker for lost.
    glance
        Between two looks at the scheduler.
    pause
        Before what failed is done again; each time twice as long.
    answer
        For the scheduler to answer a question.
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
    """How far the scheduler is with some keys.

    Attributes
    ----------
    unfinished
        Tasks that are not finished.
    running
        Some that run, each with its worker.
    stuck
        Some that no worker may take, each with what it asks for.
    workers
        The number of workers.
    """

    unfinished: int
    running: list[tuple[str, str]]
    stuck: list[tuple[str, str]]
    workers: int


def standing_of(keys: Sequence[Any], dask_scheduler: Any) -> Standing:
    """On the scheduler: how far it is with these keys and all that they wait for; what waits in vain is given to other workers."""
    from dagtrain.engines.cluster.busy import move_stranded

    found, stack = set(), [dask_scheduler.tasks[key] for key in keys if key in dask_scheduler.tasks]
    while stack:
        task = stack.pop()
        if task not in found and task.state not in ("memory", "released", "forgotten", "erred"):
            found.add(task)
            stack += task.dependencies
    move_stranded(dask_scheduler, found)
    running = sorted((str(t.key), t.processing_on.address) for t in found if t.processing_on is not None)
    stuck = []
    for task in found if dask_scheduler.workers else ():
        asked = {"workers": task.worker_restrictions, "hosts": task.host_restrictions, "resources": task.resource_restrictions}
        if task.state == "no-worker" and any(asked.values()):
            stuck.append((str(task.key), ", ".join(f"{name} {value}" for name, value in asked.items() if value)))
    return Standing(len(found), running[:3], sorted(stuck)[:3], len(dask_scheduler.workers))


@contextmanager
def thread_given_back() -> Iterator[None]:
    """Leave a worker's threads to other tasks meanwhile, if this is a task: what it waits for may need the very thread that it has."""
    from distributed import rejoin, secede

    is_given = False
    if is_in_task():
        with suppress(KeyError, AttributeError):  # it has left them already, or never had one of them
            secede()
            is_given = True
    try:
        yield
    finally:
        if is_given:
            rejoin()


def compute_on_cluster(graph: dict[Any, Any], keys: Sequence[Any], futures: Sequence[Any] = ()) -> list[Any] | None:
    """The values of these keys from the cluster in use; None where there is none."""
    client = client_in_use(futures)
    return None if client is None else gather(client, graph, keys)


CLUSTER.fill(compute_on_cluster)


def send_to_cluster(key: str, value: Any) -> Any:
    """A future of a value, which any worker can have and which comes back if its worker dies; None where there is no cluster in use."""
    client = client_in_use()
    return None if client is None else submit(client, {key: DataNode(key, value)}, [key])[0]


def is_of_cluster(error: BaseException) -> bool:
    """Whether the error of a task may come from the cluster, as of a worker or a connection that is gone; others would come again."""
    from distributed import KilledWorker

    return isinstance(error, OSError | MemoryError | KilledWorker | CancelledError)


def what_was_lost(what: object) -> str:
    """What an error says where tasks are cancelled that nobody here has cancelled."""
    return (
        f"the cluster let go of what was asked of it: {what} Data that was scattered is lost with its worker, and all is lost with "
        "the scheduler: scatter it again, or give the data as a persisted collection, which is computed again."
    )


def submit(client: Any, graph: dict[Any, Any], keys: Sequence[Any], **annotations: Any) -> list[Any]:
    """Futures of these keys, annotated so; the user's annotations are for collections that the user makes, and go round these."""
    import dask

    def run() -> list[Any]:
        # Data given in this process is sent once, in the graph, so that what is lost with a worker comes back: its size is no mistake.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}), dask.annotate(**annotations):
            return list(client.get(graph, list(keys), sync=False))

    return Context().run(run)  # Dask keeps annotations in the context


def gather(client: Any, graph: dict[Any, Any], keys: Sequence[Any], timeouts: Timeouts | None = None) -> list[Any]:
    """The values of these keys.

    Raises
    ------
    ClusterError
        No worker came, no task was finished for a long time, or what the tasks need was lost.
    """
    from distributed import KilledWorker

    timeouts = TIMEOUTS if timeouts is None else timeouts
    futures = submit(client, graph, keys)
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
        raise ClusterError(f"the answers of {len(futures)} tasks did not arrive within {timeouts.progress:g} s.") from error
    finally:
        for future in futures:
            future.release()


def results(
    client: Any, futures: Sequence[Any], timeouts: Timeouts, where: str = "", look: Callable[[Standing], object] | None = None
) -> list[Any]:
    """The values of these futures, waited for as `wait_for` does; the error of one of them is raised."""
    wait_for(client, futures, timeouts, where, look)
    # Not `result` with a short deadline: a gather that is given up can leave the client unable to gather anything ever after. And not one
    # without: a worker that dies just now takes answers with it, and gather waits for ever where none takes its place.
    return list(client.sync(lambda: client.gather(futures, asynchronous=True), callback_timeout=timeouts.progress))


def _asked(standing: Standing) -> str:
    return "; ".join(f"{key} asks for {what}" for key, what in standing.stuck)


def warn_of_no_workers(timeouts: Timeouts) -> None:
    """Say that the wait is for a first worker."""
    log.warning("the cluster has no workers: waiting up to %g s for one.", timeouts.workers)


def no_workers(timeouts: Timeouts, where: str = "") -> str:
    """What an error says where none came."""
    return (
        f"the cluster has no workers{where}, and none came within {timeouts.workers:g} s. Start some, or see why they do not start. "
        "A LocalCluster gives up workers that take longer to restart than distributed.deploy.lost-worker-timeout: set it higher."
    )


def wait_for(
    client: Any, futures: Sequence[Any], timeouts: Timeouts, where: str = "", look: Callable[[Standing], object] | None = None
) -> None:
    """Wait until all futures are done or one of them has failed.

    Parameters
    ----------
    client
        Theirs.
    futures
        What is waited for.
    timeouts
        How long.
    where
        For messages: in which work, as in " in the steps from 3 on".
    look
        Called with each look at the scheduler; may raise.

    Raises
    ------
    ClusterError
        No worker came, or no task was finished for a long time; says which tasks are left, and where they run.
    """
    keys, left, told = [future.key for future in futures], -1, False
    pending = list(futures)
    awake = AwakeClock(timeouts.glance + timeouts.answer)
    staffed = moved = placed = awake.read()
    while True:
        with suppress(TimeoutError):
            while pending:
                if not pending[-1].done():
                    pending[-1].exception(timeout=timeouts.glance)
                pending.pop()
            return
        if any(future.status == "error" for future in futures):
            return
        # Within the loop, so that there is a deadline.
        ask = partial(client.sync, lambda: client.run_on_scheduler(standing_of, keys), callback_timeout=timeouts.answer)
        now = insist(client, ask, timeouts.outage)
        clock = awake.read()
        if look is not None:
            look(now)
        if now.workers:
            staffed, told = clock, told and bool(now.stuck)
        elif not told:
            told = True
            warn_of_no_workers(timeouts)
        if now.unfinished != left or not now.workers:
            left, moved = now.unfinished, clock
        if clock - staffed > timeouts.workers:
            raise ClusterError(no_workers(timeouts, where))
        if not now.stuck or now.running:
            placed = clock
        elif clock - placed > timeouts.workers:
            raise ClusterError(
                f"no worker may take what is left{where}, and none that may came within {timeouts.workers:g} s: {_asked(now)}. "
                "Was this data made with dask.annotate, or with workers= or resources=? Start such a worker, or make the data without."
            )
        elif not told:
            told = True
            log.warning("no worker may take what is left: waiting up to %g s for one that may. %s.", timeouts.workers, _asked(now))
        if clock - moved > timeouts.progress:
            running = "; ".join(f"{key} runs on {worker}" for key, worker in now.running)
            look_at = "Look at that worker's log." if running else "Are the workers' memory and threads taken?"
            raise ClusterError(
                f"no task was finished for {timeouts.progress:g} s{where}: {now.unfinished} are left on {now.workers} workers, "
                f"{running or 'none of them runs'}. {look_at}"
            )
