"""On the scheduler: workers that cannot begin a task, and tasks that wait on them while other workers are idle.

Dask moves such tasks too, but only if it expects moving to cost less than waiting. It expects half a second for a task that takes threads
for minutes, and it moves no task away from a paused worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distributed.core import Status

__all__ = ["PAUSED", "at_work", "busy_with", "move_stranded"]

PAUSED = "it is paused: its memory is nearly full"
_LONG = 2.0
"""Seconds: tasks that have occupied all threads of a worker for longer may do so for minutes."""
_NAMED = 3
"""Most tasks that a message names."""


def at_work(worker: Any) -> set[Any]:
    """The tasks that occupy threads of a worker, as of its last heartbeat."""
    return {task for task in worker.executing if task.processing_on is worker and task not in worker.long_running}


def busy_with(worker: Any) -> str:
    """Names of the tasks that occupy all threads of a worker; empty if a thread is free."""
    tasks = at_work(worker)
    if len(tasks) < worker.nthreads:
        return ""
    names = sorted(str(task.key) for task in tasks)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def move_stranded(scheduler: Any, tasks: Iterable[Any]) -> None:
    """Move tasks that wait behind long ones, or on a paused worker, to workers with a free thread."""
    stealing = scheduler.extensions.get("stealing")
    free = {w: n for w in scheduler.running if (n := w.nthreads - len(w.processing) + len(w.long_running)) > 0}
    for task in sorted(tasks, key=lambda task: str(task.key)) if stealing is not None else ():
        worker = task.processing_on
        if worker is None or not free or not _is_stranded(task, worker):
            continue
        thief = min(free, key=lambda w: (-free[w], w.address))
        stealing.move_task_request(task, worker, thief)
        free[thief] -= 1
        if not free[thief]:
            del free[thief]


def _is_stranded(task: Any, worker: Any) -> bool:
    bound = task.worker_restrictions or task.host_restrictions or task.resource_restrictions
    if (bound and not task.loose_restrictions) or task in worker.executing or task in worker.long_running:
        return False
    tasks = at_work(worker)
    busy = len(tasks) >= worker.nthreads and min(worker.executing[other] for other in tasks) > _LONG
    return bool(busy or worker.status == Status.paused)
