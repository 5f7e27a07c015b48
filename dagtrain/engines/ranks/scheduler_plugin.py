"""The scheduler plugin: which workers form which group, the ranks' reports, and the news that a group must end.

    ranks ── reports, in the order of Dask's own messages ──▶ scheduler plugin ──▶ the client, which asks and waits for news
    a worker lost, or silent for longer than the deadline ──▶ scheduler plugin ──▶ "end" to the other ranks of its group, at once

The scheduler learns of a dead process within milliseconds. Workers send heartbeats while their ranks compute, so silence means a stopped
process or a failed network, never a busy worker. `HeartbeatMonitor` finds out which.
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
from dagtrain.engines.ranks.leaving import LEAVE
from dagtrain.engines.ranks.messages import News, Probed, WorkerState, encode

__all__ = ["RanksSchedulerPlugin"]

logger = logging.getLogger(__name__)

_WANTED = 10.0
"""Seconds for which a worker counts as leaving after an adaptive cluster asked for it; the cluster asks every second."""
_DEAF = 5.0
"""Seconds after which a client that has not looked does something else: on a busy machine it may take two to place ranks anew."""
_LOOK = 0.02
"""Seconds between two looks whether a worker that leaves is still in a group."""
_REMEMBERED = 256
"""Lost workers whose reason is kept, at most."""
_KEPT = 10_000
"""Reports kept for a client that does not ask, at most."""


class _Session:
    """What is known of one client's work."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.ranks = 0
        """Ranks that it could use."""
        self.group = ""
        self.workers: tuple[str, ...] = ()
        self.reports: deque[tuple[int, str, dict[str, Any]]] = deque(maxlen=_KEPT)
        self.count = 0
        self.change = asyncio.Event()
        self.looked = time.monotonic()


class RanksSchedulerPlugin(SchedulerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Scheduler plugin; each session registers it, and Dask keeps the first."""

    name = "dagtrain-lanes"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Install the handlers on a scheduler."""
        self.scheduler = scheduler
        self.sessions: dict[str, _Session] = {}
        self._bare: set[str] = set()
        """Workers that do not have the worker plugin yet."""
        self._furnishing: set[str] = set()
        self._refusals: dict[str, str] = {}
        self._wanted: dict[str, float] = {}
        self._retiring: set[str] = set()
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
            "dagtrain_lanes_leave": self.leave,
            "dagtrain_lanes_furnish": self.furnish,
            "dagtrain_lanes_inquire": self.inquire,
            "dagtrain_lanes_close": self.close_session,
        }
        scheduler.stream_handlers["dagtrain-lanes-report"] = self.report
        self._target_of_tasks = scheduler.adaptive_target
        scheduler.adaptive_target = scheduler.handlers["adaptive_target"] = self.adaptive_target
        self._retire = scheduler.retire_workers
        scheduler.retire_workers = scheduler.handlers["retire_workers"] = self.retire_workers
        self._monitor = HeartbeatMonitor(scheduler, self._give_up, self._tell_all)

    async def close(self) -> None:
        """End with the scheduler."""
        self._monitor.close()
        self._background.set(False)

    # ---- calls by clients

    def open(self, session: str, client: str, silence: float, outage: float) -> None:
        """Open a client's session. From now on any worker counts as silent after `silence` seconds, since any may hold its data.

        Connections to workers and to the client survive an outage of the network of `outage` seconds.
        """
        self.sessions[session] = _Session(client)
        self._monitor.begin(session, client, silence, outage)
        self._background.set(True)

    def want(self, session: str, ranks: int) -> None:
        """Set the number of ranks that a client could use; a forgotten session learns so at its next `look`."""
        if (opened := self.sessions.get(session)) is not None:
            opened.ranks = ranks

    def adaptive_target(self, target_duration: Any = None) -> int:
        """The number of workers an adaptive cluster should have: enough for Dask's own tasks and for the ranks that clients could use.

        Dask estimates by the duration of tasks. Those of ranks are short, and without a worker there are none.
        """
        ranks, workers = sum(opened.ranks for opened in self.sessions.values()), self.scheduler.workers.values()
        threads = sum(w.nthreads for w in workers)
        return max(int(self._target_of_tasks(target_duration)), -(-ranks * len(workers) // threads) if threads else ranks)

    async def leave(self, worker: str) -> None:
        """Retire a worker that is to end, where a client trains."""
        if self.sessions:
            await self.retire_workers([worker], close_workers=False, remove=True)

    async def retire_workers(self, workers: list[str] | None = None, *, names: list[Any] | None = None, **options: Any) -> dict[str, Any]:
        """Retire workers as Dask does, but after they have left their groups, so that no step is repeated.

        That is: on `client.retire_workers`, at the end of a worker's lifetime, and when it receives SIGTERM. Workers that no others can
        replace work on for a while, in which a client that is to stop as well reaches its boundary. A client that does not look, as when
        it retires workers from a callback, is not waited for.
        """
        known = self.scheduler.workers.values()
        leaving = set(workers or ()) | {w.address for w in known if str(w.name) in set(map(str, names or ()))}
        self._retiring |= leaving
        self._tell_all()
        deadline = time.monotonic() + LEAVE
        try:
            while (now := time.monotonic()) < deadline:
                others = self.scheduler.workers.keys() - self._retiring - self._bare - self._monitor.absent
                looking = [opened for opened in self.sessions.values() if now < opened.looked + _DEAF]
                if not any(leaving.intersection(opened.workers) or not others for opened in looking):
                    break
                await asyncio.sleep(_LOOK)
            retired: dict[str, Any] = await self._retire(workers, names=names, **options)
            return retired
        finally:
            self._retiring -= leaving

    async def furnish(self, name: str, plugin: bytes, timeout: float) -> dict[str, Any]:
        """Install a plugin on all workers; return the workers without it after `timeout` seconds, and errors.

        Dask's own call waits for every worker and fails if one does not answer. Here such a worker counts as absent until it has it.
        """
        if name not in self.scheduler.worker_plugins:
            self.scheduler.worker_plugins[name] = plugin  # for workers that join
            self._bare |= set(self.scheduler.workers)
        for address in self._bare - self._furnishing:
            self._monitor.background(self._furnish(name, self.scheduler.workers[address]))
        deadline = time.monotonic() + timeout
        while (left := self._bare - self._monitor.absent - self._refusals.keys()) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        refusals, self._refusals = self._refusals, {}
        return {"left": sorted(left), "refusals": refusals}

    def set_group(self, session: str, group: str, workers: list[str]) -> None:
        """Set the current group of a client."""
        if (opened := self.sessions.get(session)) is not None:
            opened.group, opened.workers = group, tuple(workers)

    async def look(self, session: str, seen: int, timeout: float) -> dict[str, Any] | None:
        """`News` with the reports after number `seen`, as soon as there is one or after `timeout` seconds; None for an unknown session."""
        opened = self.sessions.get(session)
        if opened is None:
            return None
        while opened.reports and opened.reports[0][0] <= seen:
            opened.reports.popleft()
        opened.looked = time.monotonic() + timeout
        if not opened.reports:
            opened.change.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(opened.change.wait(), timeout)
        workers, absent = self.scheduler.workers, self._monitor.absent
        hidden = absent | self._bare
        leaving = (Status.closing_gracefully, Status.closing, Status.closed)
        present = {
            w.address: WorkerState(w.host, w.nthreads, w.memory_limit, w.status == Status.paused, busy_with(w))
            for w in workers.values()
            if w.status not in (Status.closing, Status.closed) and w.address not in hidden
        }
        left = [w.address for w in workers.values() if w.status in leaving or w.address in self._retiring or self._is_wanted(w.address)]
        return News(list(opened.reports), present, sorted(absent), self._monitor.waiting, left, self._gone)._asdict()

    def end(self, session: str, group: str, why: str) -> None:
        """End the ranks of a group."""
        opened = self.sessions.get(session)
        if opened is not None and opened.group == group:
            self._end(opened, why)

    def probe(self, session: str, pairs: list[tuple[str, str]]) -> None:
        """Probe which pairs of workers reach each other; the answer is a report."""
        opened = self.sessions.get(session)
        if opened is not None:
            self._monitor.background(self._probe(opened, [(a, b) for a, b in pairs]))

    def inquire(self, keys: list[Any]) -> dict[str, Any]:
        """What some tasks wait for."""
        return inquire(self.scheduler, keys, self._monitor.absent)._asdict()

    def close_session(self, session: str) -> None:
        """Close a session."""
        if session in self.sessions:
            self._leave(session, "the run has ended")

    # ---- events from workers and the scheduler

    def kept(self, groups: list[str]) -> list[str]:
        """Those of these groups that a client still has."""
        return sorted({opened.group for opened in self.sessions.values()} & set(groups))

    def report(self, worker: str, session: str, report: dict[str, Any]) -> None:
        """Take a rank's report."""
        opened = self.sessions.get(session)
        if opened is not None:
            self._monitor.heard(worker)
            self._note(opened, worker, report)
            forget_sent(self.scheduler.stream_comms.get(worker))

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """A worker joined."""
        self._monitor.joined(worker)
        self._tell_all()

    def remove_worker(self, scheduler: Any, worker: str, **details: Any) -> None:
        """A worker is gone: end the groups that it was in."""
        if str(details.get("stimulus_id", "")).startswith("retire-workers"):  # it left before the segment could end
            self._tell_why(worker, "it was retired")
        elif worker not in self._monitor.absent:  # an earlier reason no longer holds
            self._gone.pop(worker, None)
        self._monitor.left(worker)
        self._bare.discard(worker)
        self._wanted.pop(worker, None)
        for opened in self.sessions.values():
            if worker in opened.workers:
                self._end(opened, f"worker {worker} was lost", besides=worker)
            opened.change.set()

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A client is gone: end its ranks."""
        for name in [name for name, opened in self.sessions.items() if opened.client == client]:
            self._leave(name, "the client is gone")

    def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
        """Refuse to close a worker in the middle of a segment; it is released at the segment's end."""
        busy = {address for opened in self.sessions.values() for address in opened.workers}
        self._wanted |= {w.address: time.monotonic() for w in workers if w.address in busy}
        for opened in self.sessions.values():
            opened.change.set()
        return [w for w in workers if w.address not in busy]

    # ---- helpers

    def _note(self, opened: _Session, worker: str, report: dict[str, Any]) -> None:
        opened.count += 1
        opened.reports.append((opened.count, worker, report))
        opened.change.set()

    def _end(self, opened: _Session, why: str, besides: str = "") -> None:
        for address in opened.workers:
            stream = self.scheduler.stream_comms.get(address)
            if stream is not None and address != besides:
                with contextlib.suppress(CommClosedError):  # that worker is gone too
                    stream.send({"op": "dagtrain-lanes-end", "group": opened.group, "why": why})
        opened.group, opened.workers = "", ()

    def _leave(self, name: str, why: str) -> None:
        opened = self.sessions.pop(name)
        self._end(opened, why)
        opened.change.set()
        self._monitor.end(name)
        self._background.set(bool(self.sessions))

    def _is_wanted(self, address: str) -> bool:
        return time.monotonic() - self._wanted.get(address, -_WANTED) < _WANTED

    async def _furnish(self, name: str, worker: Any) -> None:
        """Install a plugin on a worker as soon as it can be reached."""
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
        finally:  # after a failure the next `furnish` tries again
            self._furnishing.discard(address)
            self._monitor.furnished(address, True)
            self._tell_all()

    def _tell_all(self) -> None:
        for opened in self.sessions.values():
            opened.change.set()

    def _give_up(self, worker: str, why: str, ended: bool) -> None:
        """End the groups of a worker that does not answer: the others would wait for it."""
        logger.warning("Worker %s does not answer: %s.", worker, why)
        self._tell_why(worker, why)
        for opened in self.sessions.values():
            if worker in opened.workers:
                self._end(opened, f"worker {worker} was lost: {why}", besides=worker if ended else "")

    def _tell_why(self, worker: str, why: str) -> None:
        self._gone[worker] = why
        while len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    async def _probe(self, opened: _Session, pairs: list[tuple[str, str]]) -> None:
        reached, cut = await probe_pairs(self.scheduler, pairs)
        self._note(opened, "", encode(Probed(reached, cut)))
