"""Where and when each task of a graph ran: on a cluster, or in this process."""

from __future__ import annotations

import time
import uuid
from typing import Any

from dagtrain.draw import TaskRecord
from dagtrain.engines.cluster.waiting import TIMEOUTS, submit, thread_given_back, wait_for

__all__ = ["measure_here", "measure_on"]


def measure_on(client: Any, tasks: dict[Any, Any]) -> dict[Any, TaskRecord]:
    """Run a graph on a client's cluster and record where and when each task ran."""
    run = uuid.uuid4().hex[:8]
    fresh = {k: (f"{k[0]}-{run}", *k[1:]) if isinstance(k, tuple) else f"{k}-{run}" for k in tasks}
    renamed = {fresh[k]: node.substitute(fresh, key=fresh[k]) for k, node in tasks.items()}
    client.get_task_stream()  # begins the recording
    futures = submit(client, renamed, [fresh[k] for k in tasks])
    with thread_given_back():
        wait_for(client, futures, TIMEOUTS)
    for future in futures:
        if future.status == "error":
            raise future.exception()
    original = {str(new): old for old, new in fresh.items()}
    records = {}
    for record in client.get_task_stream():
        key = original.get(str(record["key"]))
        spans = [s for s in record["startstops"] if s["action"] == "compute"]
        if key is not None and spans:
            records[key] = TaskRecord(record["worker"], spans[0]["start"], spans[-1]["stop"], int(record.get("nbytes") or 0))
    return records


def measure_here(tasks: dict[Any, Any]) -> dict[Any, TaskRecord]:
    """Run a graph in this thread, one task after the other, and record the times."""
    from dask.order import order
    from dask.sizeof import sizeof

    values: dict[Any, Any] = {}
    records = {}
    ranks = order(tasks)
    for key in sorted(tasks, key=ranks.__getitem__):
        begun = time.perf_counter()
        values[key] = tasks[key]({k: values[k] for k in tasks[key].dependencies})
        records[key] = TaskRecord("this process", begun, time.perf_counter(), sizeof(values[key]))
    return records
