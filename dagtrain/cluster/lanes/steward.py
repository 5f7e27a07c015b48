"""On the scheduler: who is in which gang, what the lanes report, and the news that a gang must end.

    lanes ── reports, in the order of Dask's own messages ──▶ Steward ──▶ the driver, which asks and waits until there is something
    a worker lost, or silent for longer than the deadline ──▶ Steward ──▶ "end" to the other lanes of its gang, at once

The scheduler learns of a dead process within milliseconds, and its workers' heartbeats go on while their lanes compute, so that silence
means a process that stopped, or a network that fails, not a worker that is busy. `Liveness` judges which.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections import deque
from functools import partial
from typing import Any

from distributed import SchedulerPlugin
from distributed.comm import CommClosedError
from distributed.core import Status, rpc

from dagtrain.cluster.busy import busy_with
from dagtrain.cluster.lanes.clocks import AwakeClock, WallClock, catch_up
from dagtrain.cluster.lanes.endurance import endure
from dagtrain.cluster.lanes.inquiry import inquire, probe_pairs
from dagtrain.cluster.lanes.liveness import Ask, End, LeaveOut, Liveness
from dagtrain.cluster.lanes.quiet import Quiet, forget_sent, nannies_here

__all__ = ["Steward"]

logger = logging.getLogger(__name__)

_GLANCE = 0.5
"""Seconds between two looks at the workers' heartbeats; of four times as many without one, the scheduler was not awake."""
_KILL = 0.25
"""Seconds for a silent worker to end by itself when its nanny asks it to."""
_RESTART = 5.0
"""Seconds for a nanny to answer that it has ended a worker."""
_WANTED = 10.0
"""Seconds for which a worker counts as leaving after an adaptive cluster asked for it: it asks again every second."""
_KEPT = 10_000
"""Most reports kept for a driver that does not ask."""


class _Run:
    """What is known of one driver's work."""

    def __init__(self, client: str, silence: float, outage: float) -> None:
        self.client, self.silence, self.outage = client, silence, outage
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
        self._liveness, self._clock, self._wall = Liveness(0.0, 0.0), AwakeClock(4 * _GLANCE), WallClock()
        self._seen: dict[str, float] = {}
        """By worker, the time of its last heartbeat, as Dask has it: of interest is that it changes."""
        for ws in scheduler.workers.values():
            self.add_worker(scheduler, ws.address)
        self._enduring: weakref.WeakSet[Any] = weakref.WeakSet()
        self._wanted: dict[str, float] = {}
        self._gone: dict[str, str] = {}
        self._tasks: set[Any] = set()
        self._quiet = Quiet(scheduler, nannies_here)
        scheduler.handlers |= {
            "dagtrain_lanes_open": self.open,
            "dagtrain_lanes_want": self.want,
            "dagtrain_lanes_gang": self.set_gang,
            "dagtrain_lanes_look": self.look,
            "dagtrain_lanes_end": self.end,
            "dagtrain_lanes_probe": self.probe,
            "dagtrain_lanes_wanted": self.wanted,
            "dagtrain_lanes_inquire": self.inquire,
            "dagtrain_lanes_close": self.close_run,
        }
        scheduler.stream_handlers["dagtrain-lanes-report"] = self.report
        self._target_of_tasks = scheduler.adaptive_target
        scheduler.adaptive_target = scheduler.handlers["adaptive_target"] = self.adaptive_target
        if (judging := scheduler.periodic_callbacks.get("worker-ttl")) is not None:
            judging.callback = partial(self._judge_by_ttl, judging.callback)
        self._background(self._glances())

    async def close(self) -> None:
        """End with the scheduler."""
        for task in self._tasks:
            task.cancel()
        self._quiet.set(False)

    # ---- asked by drivers

    def open(self, run: str, client: str, silence: float, outage: float) -> None:
        """A driver begins; from now on workers count as silent after so many seconds: something that it needs may lie on any of them.

        Connections to them, and to the driver, last through an outage of the network.
        """
        self.runs[run] = _Run(client, silence, outage)
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
                w.address: {
                    "host": w.host,
                    "threads": w.nthreads,
                    "memory": w.memory_limit,
                    "paused": w.status == Status.paused,
                    "busy": busy_with(w),
                }
                for w in workers.values()
                if w.status not in (Status.closing, Status.closed) and w.address not in self._liveness.absent
            },
            "apart": sorted(self._liveness.absent),
            "waiting": self._liveness.waiting,
            "leaving": [w.address for w in workers.values() if w.status in leaving or self._is_wanted(w.address)],
            "gone": self._gone,
        }

    def end(self, run: str, gang: str, why: str) -> None:
        """End a gang's lanes."""
        found = self.runs.get(run)
        if found is not None and found.gang == gang:
            self._end(found, why)

    def probe(self, run: str, pairs: list[tuple[str, str]]) -> None:
        """Have pairs of workers see whether they reach each other; the answer is a report."""
        found = self.runs.get(run)
        if found is not None:
            self._background(self._probe(found, [(a, b) for a, b in pairs]))

    def inquire(self, keys: list[Any]) -> dict[str, Any]:
        """What some tasks wait for."""
        return inquire(self.scheduler, keys)

    def close_run(self, run: str) -> None:
        """A driver is done."""
        if run in self.runs:
            self._leave(run, "the run has ended")

    # ---- told by workers and by the scheduler

    def wanted(self, gangs: list[str]) -> list[str]:
        """Those of some gangs that drivers have."""
        return sorted({run.gang for run in self.runs.values()} & set(gangs))

    def report(self, worker: str, run: str, **message: Any) -> None:
        """A lane reports."""
        found = self.runs.get(run)
        if found is not None:
            self._liveness.heard(worker)
            self._note(found, {"worker": worker, **message})
            forget_sent(self.scheduler.stream_comms.get(worker))

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """A worker joined."""
        self._liveness.joined(worker, scheduler.workers[worker].host)
        for run in self.runs.values():
            run.change.set()

    def remove_worker(self, scheduler: Any, worker: str, **details: Any) -> None:
        """A worker is gone: the lanes that wait for it need not wait any longer."""
        self._liveness.left(worker)
        self._seen.pop(worker, None)
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

    async def _glances(self) -> None:
        """Look at the heartbeats again and again, by a clock that is never set."""
        while True:
            await asyncio.sleep(_GLANCE)
            self._glance()

    def _glance(self) -> None:
        scheduler, liveness = self.scheduler, self._liveness
        if self._wall.was_set_back():
            catch_up(scheduler.periodic_callbacks.values(), [*scheduler.stream_comms.values(), *scheduler.client_comms.values()])
        liveness.tick(self._clock.read())
        for ws in scheduler.workers.values():
            if self._seen.get(ws.address) != ws.last_seen:
                self._seen[ws.address] = ws.last_seen
                liveness.heard(ws.address)
        now = time.monotonic()
        self._past = [(until, silence) for until, silence in self._past if now < until]
        liveness.limit = min([run.silence for run in self.runs.values()] + [silence for _, silence in self._past], default=None)
        liveness.outage = max([run.outage for run in self.runs.values()], default=0.0)
        before = (liveness.absent, liveness.waiting)
        for verdict in liveness.act():
            match verdict:
                case Ask(worker, timeout):
                    self._background(self._ask(scheduler.workers[worker], timeout))
                case LeaveOut(worker, why):
                    self._give_up(worker, why)
                case End(worker, why):
                    self._give_up(worker, why, besides=worker)
                    self._background(self._let_go(scheduler.workers[worker]))
        if before != (liveness.absent, liveness.waiting):
            if liveness.waiting and liveness.waiting != before[1]:
                logger.warning("%s", liveness.waiting)
            for run in self.runs.values():
                run.change.set()
        self._endure()

    def _endure(self) -> None:
        """Have the connections of drivers and workers bear an outage, for as long as there are drivers."""
        scheduler, clients = self.scheduler, {run.client for run in self.runs.values()}
        streams = [*scheduler.stream_comms.values(), *(scheduler.client_comms.get(client) for client in clients)] if clients else []
        wanted = {stream.comm for stream in streams if stream is not None and stream.comm is not None}
        for comm in wanted - set(self._enduring):
            endure(comm, self._liveness.outage)
        for comm in set(self._enduring) - wanted:
            endure(comm)
        self._enduring = weakref.WeakSet(wanted)

    async def _judge_by_ttl(self, judge: Any) -> None:
        """Let Dask look for workers whose heartbeats are long overdue, with times that no step of the clock has made older."""
        self._glance()
        now = time.time()
        for address in self._liveness.workers & self._seen.keys():
            self.scheduler.workers[address].last_seen = self._seen[address] = now - self._liveness.silent_for(address)
        await judge()

    async def _ask(self, worker: Any, timeout: float) -> None:
        """Whether a silent worker answers a question, on a connection of its own; if not, whether its nanny does."""
        itself, nanny = await asyncio.gather(self._answers(worker.address, timeout), self._answers(worker.nanny, timeout))
        if nanny and not itself:  # it was asked, perhaps, while the network failed: now it does not
            itself = await self._answers(worker.address, timeout)
        self._liveness.answered(worker.address, itself, nanny)

    async def _answers(self, address: str | None, timeout: float) -> bool:
        if address is None:
            return False
        with contextlib.suppress(Exception):  # whatever it is, it is no answer
            async with rpc(address, connection_args=self.scheduler.connection_args) as there:
                await asyncio.wait_for(there.identity(), timeout)
                return True
        return False

    def _give_up(self, worker: str, why: str, besides: str = "") -> None:
        """End the gangs of a worker that does not answer: what lies there, and nowhere else, would be waited for."""
        logger.warning("Worker %s does not answer: %s.", worker, why)
        self._gone[worker] = why
        for run in self.runs.values():
            if worker in run.workers:
                self._end(run, f"worker {worker} was lost: {why}", besides)

    async def _let_go(self, worker: Any) -> None:
        """Have its nanny end a worker that does not answer and start another, and remove it.

        In this order: a worker that is removed, and then comes to itself, closes and has its nanny close with it, for good.
        """
        address = worker.address
        if not await self._restart(worker.nanny):
            self._liveness.stayed(address)  # and is judged anew
        elif self.scheduler.workers.get(address) is worker:
            await self.scheduler.remove_worker(address, stimulus_id=f"dagtrain-silent-{time.time()}")

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probe(self, run: _Run, pairs: list[tuple[str, str]]) -> None:
        reached, cut = await probe_pairs(self.scheduler, pairs)
        self._note(run, {"worker": "", "gang": -1, "lane": -1, "kind": "probed", "reached": reached, "cut": cut})

    async def _restart(self, nanny: str) -> bool:
        """Whether a nanny has ended its worker."""
        try:
            async with rpc(nanny, connection_args=self.scheduler.connection_args) as there:
                await asyncio.wait_for(there.kill(timeout=_KILL, reason="dagtrain: the worker was silent"), _RESTART)
        except (OSError, TimeoutError):
            return False
        except Exception as error:  # it is at odds with its process, which is gone or starts just now
            logger.warning("The nanny %s did not end its worker: %s: %s", nanny, type(error).__name__, error)
        return True
