"""On the scheduler: the state of a group's tasks, and which workers reach each other."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from distributed.core import Status

from dagtrain.engines.cluster.busy import PAUSED, at_work, busy_with
from dagtrain.engines.ranks.messages import Inquiry

__all__ = ["inquire", "probe_pairs"]

_PROBE = 5.0
"""Seconds for one worker to answer another."""

Pair = tuple[str, str]


def inquire(scheduler: Any, keys: Sequence[Any], absent: Collection[str] = ()) -> Inquiry:
    """The tasks that these keys wait for, and workers that hinder them; `absent` are workers that do not answer."""
    tasks = [(i, scheduler.tasks[key]) for i, key in enumerate(keys) if key in scheduler.tasks]
    before, stack = set(), [dependency for _, task in tasks for dependency in task.dependencies]
    while stack:
        task = stack.pop()
        if task not in before and task.state not in ("memory", "released", "forgotten", "erred"):
            before.add(task)
            stack += task.dependencies
    waiting = [(i, task) for i, task in tasks if not before.isdisjoint(task.dependencies)]
    addresses = {task.processing_on.address for task in before if task.processing_on is not None}
    addresses.update(*(task.worker_restrictions or () for _, task in waiting))
    hindered = {}
    for worker in (scheduler.workers[address] for address in addresses if address in scheduler.workers):
        running = at_work(worker)
        if worker.address in absent:
            hindered[worker.address] = "it does not answer"
        elif worker.status == Status.paused:
            hindered[worker.address] = PAUSED
        elif len(running) >= worker.nthreads and running.isdisjoint(before):
            hindered[worker.address] = f"it is busy with {busy_with(worker)}"
    blamed = next((str(task.exception_blame.key) for _, task in tasks if task.exception_blame is not None), "")
    return Inquiry([i for i, _ in waiting], len(before), hindered, len(keys) - len(tasks), blamed)


async def probe_pairs(scheduler: Any, pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Pairs of workers that reach each other, and pairs that do not.

    A pair is in neither list if one of its workers does not answer the scheduler. If only one of two reaches the other, both are asked
    again: the other may have been busy.
    """
    first = await _directions(scheduler, pairs)
    doubtful = [pair for pair in pairs if first.get(pair) == 1]
    directions = first | (await _directions(scheduler, doubtful) if doubtful else {})
    return [pair for pair in pairs if directions.get(pair) == 2], [pair for pair in pairs if directions.get(pair, 2) < 2]


async def _directions(scheduler: Any, pairs: Sequence[Pair]) -> dict[Pair, int]:
    """In how many directions two workers reach each other: 2, 1 or 0; only for pairs that both answer the scheduler."""
    others: dict[str, list[str]] = {}
    for a, b in pairs:
        others.setdefault(a, []).append(b)
        others.setdefault(b, []).append(a)

    async def ask(worker: str) -> tuple[str, set[str] | None]:
        try:
            request = scheduler.rpc(worker).dagtrain_lanes_probe(addresses=others[worker], timeout=_PROBE)
            addresses = await asyncio.wait_for(request, 3 * _PROBE)
        except Exception:  # any error means no answer of this worker
            return worker, None
        return worker, None if addresses is None else set(addresses)  # None from a new worker without the ranks' plugin

    reached = {worker: addresses for worker, addresses in await asyncio.gather(*map(ask, others)) if addresses is not None}
    return {(a, b): (b in reached[a]) + (a in reached[b]) for a, b in pairs if a in reached and b in reached}
