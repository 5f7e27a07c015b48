"""On the scheduler: who is in which gang, what the lanes report, and the news that a gang must end.

    lanes ── reports, in the order of Dask's own messages ──▶ Steward ──▶ the driver, which asks and waits until there is something
    a worker lost, or silent for longer than the deadline ──▶ Steward ──▶ "end" to the other lanes of its gang, at once

The scheduler learns of a dead process within milliseconds, and its workers' heartbeats go on while their lanes compute, so that silence
means a process that stopped, not one that is busy.
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
from distributed.core import Status, rpc
from tornado.ioloop import PeriodicCallback

from dagtrain.cluster.lanes.quiet import Quiet, forget_sent, nannies_here

__all__ = ["Steward"]

logger = logging.getLogger(__name__)

_GLANCE = 0.5
"""Seconds between two looks at the workers' heartbeats."""
_PROBE = 5.0
"""Seconds for a worker to answer another one."""
_KILL = 0.25
"""Seconds for a silent worker to end by itself when its nanny asks it to."""
_RESTART = 2.0
"""Seconds for a nanny to answer that it has ended a worker."""
_WANTED = 10.0
"""Seconds for which a worker counts as leaving after an adaptive cluster asked for it: it asks again every second."""
_KEPT = 10_000
"""Most reports kept for a driver that does not ask."""


class _Run:
    """What is known of one driver's work."""

    def __init__(self, client: str, silence: float) -> None:
        self.client, self.silence = client, silence
        self.lanes = 0
        """As many as it could use."""
        self.gang = ""
        self.workers: tuple[str, ...] = ()
        self.reports: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_KEPT)
        self.count = 0
        self.change = asyncio.Event()


class Steward(SchedulerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Scheduler plugin; every session registers it, and the first one counts."""

    name = "dagtrain-lanes"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Take up work on a scheduler."""
        self.scheduler = scheduler
        self.runs: dict[str, _Run] = {}
        self._past: list[tuple[float, float]] = []
        """Of drivers that are done: until when their workers are still watched, and after how many seconds one counts as silent."""
        self._looked = time.monotonic()
        self._wanted: dict[str, float] = {}
        self._gone: dict[str, str] = {}
        self._going: set[str] = set()
        """Workers that do not answer and are being removed."""
        self._tasks: set[Any] = set()
        self._quiet = Quiet(scheduler, nannies_here)
        scheduler.handlers |= {
            "dagtrain_lanes_open": self.open,
            "dagtrain_lanes_want": self.want,
            "dagtrain_lanes_gang": self.set_gang,
            "dagtrain_lanes_look": self.look,
            "dagtrain_lanes_end": self.end,
            "dagtrain_lanes_probe": self.probe,
            "dagtrain_lanes_close": self.close_run,
        }
        scheduler.stream_handlers["dagtrain-lanes-report"] = self.report
        self._target_of_tasks = scheduler.adaptive_target
        scheduler.adaptive_target = scheduler.handlers["adaptive_target"] = self.adaptive_target
        self._glance = PeriodicCallback(self._look_for_silence, _GLANCE * 1000)
        self._glance.start()

    async def close(self) -> None:
        """End with the scheduler."""
        self._glance.stop()
        self._quiet.set(False)

    # ---- asked by drivers

    def open(self, run: str, client: str, silence: float) -> None:
        """A driver begins; from now on workers count as silent after this many seconds: something that it needs may lie on any of them."""
        self.runs[run] = _Run(client, silence)
        self._quiet.set(True)

    def want(self, run: str, lanes: int) -> None:
        """As many lanes as a driver could use from now on."""
        self.runs[run].lanes = lanes

    def adaptive_target(self, target_duration: Any = None) -> int:
        """How many workers an adaptive cluster should have: enough for Dask's own tasks, and for all lanes that drivers could use.

        Dask goes by the time that tasks take. Those of lanes are short, and without a worker there are none.
        """
        lanes, workers = sum(run.lanes for run in self.runs.values()), self.scheduler.workers.values()
        threads = sum(w.nthreads for w in workers)
        return max(int(self._target_of_tasks(target_duration)), -(-lanes * len(workers) // threads) if threads else lanes)

    def set_gang(self, run: str, gang: str, workers: list[str]) -> None:
        """A driver's lanes from now on."""
        found = self.runs[run]
        found.gang, found.workers = gang, tuple(workers)

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
        workers = self.scheduler.workers
        leaving = (Status.closing_gracefully, Status.closing, Status.closed)
        return {
            "reports": list(found.reports),
            "present": {
                w.address: {"host": w.host, "threads": w.nthreads, "memory": w.memory_limit, "paused": w.status == Status.paused}
                for w in workers.values()
                if w.status not in (Status.closing, Status.closed) and w.address not in self._going
            },
            "leaving": [w.address for w in workers.values() if w.status in leaving or self._is_wanted(w.address)],
            "gone": self._gone,
        }

    def end(self, run: str, gang: str, why: str) -> None:
        """End a gang's lanes."""
        found = self.runs.get(run)
        if found is not None and found.gang == gang:
            self._end(found, why)

    def probe(self, run: str, pair: list[str]) -> None:
        """Have two workers see whether they reach each other; the answer is a report."""
        found = self.runs.get(run)
        if found is not None:
            self._background(self._probe(found, *pair))

    def close_run(self, run: str) -> None:
        """A driver is done."""
        if run in self.runs:
            self._leave(run, "the run has ended")

    # ---- told by workers and by the scheduler

    def report(self, worker: str, run: str, **message: Any) -> None:
        """A lane reports."""
        found = self.runs.get(run)
        if found is not None:
            self._note(found, {"worker": worker, **message})
            forget_sent(self.scheduler.stream_comms.get(worker))

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """A worker joined."""
        for run in self.runs.values():
            run.change.set()

    def remove_worker(self, scheduler: Any, worker: str, **details: Any) -> None:
        """A worker is gone: the lanes that wait for it need not wait any longer."""
        if str(details.get("stimulus_id", "")).startswith("retire-workers"):  # it left sooner than a segment could end
            self._gone[worker] = "it was retired"
        for run in self.runs.values():
            if worker in run.workers:
                self._end(run, f"worker {worker} was lost", besides=worker)
            run.change.set()

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A driver is gone: nobody wants its lanes' work any more."""
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
                    stream.send({"op": "dagtrain-lanes-end", "gang": run.gang, "why": why})
        run.gang, run.workers = "", ()

    def _leave(self, name: str, why: str) -> None:
        run = self.runs.pop(name)
        self._end(run, why)
        run.change.set()
        # Of a worker that stopped shortly before, nobody would hear otherwise, and everything that asks all workers would wait for it.
        self._past.append((time.monotonic() + run.silence + 4 * _GLANCE, run.silence))
        self._quiet.set(bool(self.runs))

    def _is_wanted(self, address: str) -> bool:
        return time.monotonic() - self._wanted.get(address, -_WANTED) < _WANTED

    def _look_for_silence(self) -> None:
        """End gangs of which a worker has stopped, and let go of that worker: what lies there, and nowhere else, would be waited for."""
        now = time.monotonic()
        late, self._looked = now - self._looked, now
        self._past = [(until, silence) for until, silence in self._past if now < until]
        limit = min([run.silence for run in self.runs.values()] + [silence for _, silence in self._past], default=None)
        if limit is None or late > 4 * _GLANCE:  # then it was the scheduler that did not run: the heartbeats wait to be read
            return
        for address in sorted(w.address for w in self.scheduler.workers.values() if time.time() - w.last_seen > limit):
            if address in self._going:
                continue
            self._going.add(address)
            self._gone[address] = why = f"it was silent for {limit:g} s"
            for run in self.runs.values():
                if address in run.workers:
                    self._end(run, f"worker {address} was lost: {why}", besides=address)
                run.change.set()
            self._background(self._let_go(self.scheduler.workers[address]))

    async def _let_go(self, worker: Any) -> None:
        """Remove a worker that does not answer; its nanny, where it has one, ends the process and starts another.

        In this order: a worker that is removed, and then comes to itself, closes and has its nanny close with it, for good.
        """
        address = worker.address
        logger.warning("Worker %s does not answer: it is removed.", address)
        try:
            if worker.nanny:
                await self._restart(worker.nanny)
            if self.scheduler.workers.get(address) is worker:
                await self.scheduler.remove_worker(address, stimulus_id=f"dagtrain-silent-{time.time()}")
        finally:  # who is still there is tried again at the next glance
            self._going.discard(address)

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probe(self, run: _Run, a: str, b: str) -> None:
        reached = False
        with contextlib.suppress(OSError, TimeoutError):
            answers = [self.scheduler.rpc(x).dagtrain_lanes_probe(address=y, timeout=_PROBE) for x, y in ((a, b), (b, a))]
            reached = all(await asyncio.wait_for(asyncio.gather(*answers), 2 * _PROBE))
        self._note(run, {"worker": a, "gang": -1, "lane": -1, "kind": "probe", "pair": [a, b], "reached": reached})

    async def _restart(self, nanny: str) -> None:
        with contextlib.suppress(Exception):  # it is gone too, or at odds with its process: the worker is removed all the same
            async with rpc(nanny, connection_args=self.scheduler.connection_args) as there:
                await asyncio.wait_for(there.kill(timeout=_KILL, reason="dagtrain: the worker was silent"), _RESTART)
