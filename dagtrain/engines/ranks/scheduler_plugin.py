"""On the scheduler: who is in which group, what the ranks report, and the news that a group must end.

    ranks ── reports, in the order of Dask's own messages ──▶ scheduler plugin ──▶ the client, which asks and waits for news
    a worker lost, or silent for longer than the deadline ──▶ scheduler plugin ──▶ "end" to the other ranks of its group, at once

The scheduler learns of a dead process within milliseconds, and its workers' heartbeats go on while their ranks compute, so that silence
means a process that stopped, or a network that fails, not a worker that is busy. `HeartbeatMonitor` finds out which.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import Any

from distributed import SchedulerPlugin
from distributed.comm import CommClosedError
from distributed.core import Status

from dagtrain.engines.cluster.busy import busy_with
from dagtrain.engines.ranks.background import BackgroundWork, forget_sent, nannies_here
from dagtrain.engines.ranks.heartbeats import GLANCE, HeartbeatMonitor
from dagtrain.engines.ranks.inquiry import inquire, probe_pairs

__all__ = ["RanksSchedulerPlugin"]

logger = logging.getLogger(__name__)

_WANTED = 10.0
"""Seconds for which a worker counts as leaving after an adaptive cluster asked for it: it asks again every second."""
_REMEMBERED = 256
"""Most workers of which it is told why they are gone."""
_KEPT = 10_000
"""Most reports kept for a driver that does not ask."""


class _Run:
    """What is known of one driver's work."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.ranks = 0
        """As many as it could use."""
        self.group = ""
        self.workers: tuple[str, ...] = ()
        self.reports: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_KEPT)
        self.count = 0
        self.change = asyncio.Event()


class RanksSchedulerPlugin(SchedulerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Scheduler plugin; every session registers it, and the first one counts."""

    name = "dagtrain-lanes"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Take up work on a scheduler."""
        self.scheduler = scheduler
        self.runs: dict[str, _Run] = {}
        self._bare: set[str] = set()
        """Workers that are to have the plugin for ranks, and have it not yet."""
        self._furnishing: set[str] = set()
        self._refusals: dict[str, str] = {}
        self._wanted: dict[str, float] = {}
        self._gone: dict[str, str] = {}
        self._background = BackgroundWork(scheduler, nannies_here)
        scheduler.handlers |= {
            "dagtrain_lanes_open": self.open,
            "dagtrain_lanes_want": self.want,
            "dagtrain_lanes_group": self.set_group,
            "dagtrain_lanes_look": self.look,
            "dagtrain_lanes_end": self.end,
            "dagtrain_lanes_probe": self.probe,
            "dagtrain_lanes_kept": self.kept,
            "dagtrain_lanes_furnish": self.furnish,
            "dagtrain_lanes_inquire": self.inquire,
            "dagtrain_lanes_close": self.close_run,
        }
        scheduler.stream_handlers["dagtrain-lanes-report"] = self.report
        self._target_of_tasks = scheduler.adaptive_target
        scheduler.adaptive_target = scheduler.handlers["adaptive_target"] = self.adaptive_target
        self._monitor = HeartbeatMonitor(scheduler, self._give_up, self._tell_all)

    async def close(self) -> None:
        """End with the scheduler."""
        self._monitor.close()
        self._background.set(False)

    # ---- asked by drivers

    def open(self, run: str, client: str, silence: float, outage: float) -> None:
        """A driver begins; from now on workers count as silent after so many seconds: something that it needs may lie on any of them.

        Connections to them, and to the driver, last through an outage of the network.
        """
        self.runs[run] = _Run(client)
        self._monitor.begin(run, client, silence, outage)
        self._background.set(True)

    def want(self, run: str, ranks: int) -> None:
        """As many ranks as a driver could use from now on; one that is not known any more learns it when it looks."""
        if (found := self.runs.get(run)) is not None:
            found.ranks = ranks

    def adaptive_target(self, target_duration: Any = None) -> int:
        """How many workers an adaptive cluster should have: enough for Dask's own tasks, and for all ranks that drivers could use.

        Dask goes by the time that tasks take. Those of ranks are short, and without a worker there are none.
        """
        ranks, workers = sum(run.ranks for run in self.runs.values()), self.scheduler.workers.values()
        threads = sum(w.nthreads for w in workers)
        return max(int(self._target_of_tasks(target_duration)), -(-ranks * len(workers) // threads) if threads else ranks)

    async def furnish(self, name: str, plugin: bytes, timeout: float) -> dict[str, Any]:
        """Have all workers set up a plugin; those that are left after some time, and errors.

        Dask's own way waits for each of them, and fails where one does not answer. Here such a worker counts as absent until it has it.
        """
        if name not in self.scheduler.worker_plugins:
            self.scheduler.worker_plugins[name] = plugin  # for those that join
            self._bare |= set(self.scheduler.workers)
        for address in self._bare - self._furnishing:
            self._monitor.background(self._furnish(name, self.scheduler.workers[address]))
        deadline = time.monotonic() + timeout
        while (left := self._bare - self._monitor.absent - self._refusals.keys()) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        refusals, self._refusals = self._refusals, {}
        return {"left": sorted(left), "refusals": refusals}

    def set_group(self, run: str, group: str, workers: list[str]) -> None:
        """A driver's ranks from now on."""
        if (found := self.runs.get(run)) is not None:
            found.group, found.workers = group, tuple(workers)

    async def look(self, run: str, seen: int, timeout: float) -> dict[str, Any]:
        """Reports after those that were seen, and the workers; waits until something is new, or for the time given."""
        found = self.runs.get(run)
        if found is None:
            return {"closed": True}
        while found.reports and found.reports[0][0] <= seen:
            found.reports.popleft()
        if not found.reports:
            found.change.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(found.change.wait(), timeout)
        workers, absent = self.scheduler.workers, self._monitor.absent
        hidden = absent | self._bare
        leaving = (Status.closing_gracefully, Status.closing, Status.closed)
        return {
            "reports": list(found.reports),
            "present": {
                w.address: {
                    "host": w.host,
                    "threads": w.nthreads,
                    "memory": w.memory_limit,
                    "paused": w.status == Status.paused,
                    "busy": busy_with(w),
                }
                for w in workers.values()
                if w.status not in (Status.closing, Status.closed) and w.address not in hidden
            },
            "apart": sorted(absent),
            "waiting": self._monitor.waiting,
            "leaving": [w.address for w in workers.values() if w.status in leaving or self._is_wanted(w.address)],
            "gone": self._gone,
        }

    def end(self, run: str, group: str, why: str) -> None:
        """End a group's ranks."""
        found = self.runs.get(run)
        if found is not None and found.group == group:
            self._end(found, why)

    def probe(self, run: str, pairs: list[tuple[str, str]]) -> None:
        """Have pairs of workers see whether they reach each other; the answer is a report."""
        found = self.runs.get(run)
        if found is not None:
            self._monitor.background(self._probe(found, [(a, b) for a, b in pairs]))

    def inquire(self, keys: list[Any]) -> dict[str, Any]:
        """What some tasks wait for."""
        return inquire(self.scheduler, keys, self._monitor.absent)

    def close_run(self, run: str) -> None:
        """A driver is done."""
        if run in self.runs:
            self._leave(run, "the run has ended")

    # ---- told by workers and by the scheduler

    def kept(self, groups: list[str]) -> list[str]:
        """Those of some groups that drivers have."""
        return sorted({run.group for run in self.runs.values()} & set(groups))

    def report(self, worker: str, run: str, **message: Any) -> None:
        """A rank reports."""
        found = self.runs.get(run)
        if found is not None:
            self._monitor.heard(worker)
            self._note(found, {"worker": worker, **message})
            forget_sent(self.scheduler.stream_comms.get(worker))

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """A worker joined."""
        self._monitor.joined(worker)
        self._tell_all()

    def remove_worker(self, scheduler: Any, worker: str, **details: Any) -> None:
        """A worker is gone: the ranks that wait for it need not wait any longer."""
        if str(details.get("stimulus_id", "")).startswith("retire-workers"):  # it left sooner than a segment could end
            self._tell_why(worker, "it was retired")
        elif worker not in self._monitor.absent:  # what was the matter before is over
            self._gone.pop(worker, None)
        self._monitor.left(worker)
        self._bare.discard(worker)
        self._wanted.pop(worker, None)
        for run in self.runs.values():
            if worker in run.workers:
                self._end(run, f"worker {worker} was lost", besides=worker)
            run.change.set()

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A driver is gone: nobody wants its ranks' work any more."""
        for name in [name for name, run in self.runs.items() if run.client == client]:
            self._leave(name, "the client is gone")

    def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
        """Keep an adaptive cluster from closing a worker in the midst of a segment; at its end the worker is let go."""
        busy = {address for run in self.runs.values() for address in run.workers}
        self._wanted |= {w.address: time.monotonic() for w in workers if w.address in busy}
        for run in self.runs.values():
            run.change.set()
        return [w for w in workers if w.address not in busy]

    # ---- within

    def _note(self, run: _Run, message: dict[str, Any]) -> None:
        run.count += 1
        run.reports.append((run.count, message))
        run.change.set()

    def _end(self, run: _Run, why: str, besides: str = "") -> None:
        for address in run.workers:
            stream = self.scheduler.stream_comms.get(address)
            if stream is not None and address != besides:
                with contextlib.suppress(CommClosedError):  # that worker is gone as well
                    stream.send({"op": "dagtrain-lanes-end", "group": run.group, "why": why})
        run.group, run.workers = "", ()

    def _leave(self, name: str, why: str) -> None:
        run = self.runs.pop(name)
        self._end(run, why)
        run.change.set()
        self._monitor.end(name)
        self._background.set(bool(self.runs))

    def _is_wanted(self, address: str) -> bool:
        return time.monotonic() - self._wanted.get(address, -_WANTED) < _WANTED

    async def _furnish(self, name: str, worker: Any) -> None:
        """Have a worker set up a plugin, as soon as it can be reached."""
        address, message = worker.address, {"op": "plugin-add", "name": name, "plugin": self.scheduler.worker_plugins[name]}
        self._furnishing.add(address)
        self._monitor.furnished(address, False)
        try:
            while self.scheduler.workers.get(address) is worker:
                answer = (await self.scheduler.broadcast(msg=message, workers=[address], on_error="return"))[address]
                if not isinstance(answer, OSError):
                    if not isinstance(answer, dict) or answer["status"] != "OK":
                        self._refusals[address] = answer["exception_text"] if isinstance(answer, dict) else repr(answer)
                    else:
                        self._bare.discard(address)
                    break
                await asyncio.sleep(GLANCE)
        finally:  # where it failed, the next question to all workers tries again
            self._furnishing.discard(address)
            self._monitor.furnished(address, True)
            self._tell_all()

    def _tell_all(self) -> None:
        for run in self.runs.values():
            run.change.set()

    def _give_up(self, worker: str, why: str, ended: bool) -> None:
        """End the groups of a worker that does not answer: what lies there, and nowhere else, would be waited for."""
        logger.warning("Worker %s does not answer: %s.", worker, why)
        self._tell_why(worker, why)
        for run in self.runs.values():
            if worker in run.workers:
                self._end(run, f"worker {worker} was lost: {why}", besides=worker if ended else "")

    def _tell_why(self, worker: str, why: str) -> None:
        self._gone[worker] = why
        while len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    async def _probe(self, run: _Run, pairs: list[tuple[str, str]]) -> None:
        reached, cut = await probe_pairs(self.scheduler, pairs)
        self._note(run, {"worker": "", "group": -1, "rank": -1, "kind": "probed", "reached": reached, "cut": cut})
