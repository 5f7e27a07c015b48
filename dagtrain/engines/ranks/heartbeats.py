"""On the scheduler: the I/O of `Liveness`. It reads heartbeats, asks silent workers, and lets nannies end workers that have stopped.

heartbeats, as Dask records them ──▶ Liveness ──▶ requests on connections of their own ──▶ Liveness
│
├──▶ LeaveOut, End: the scheduler plugin ends the worker's group
└──▶ End: its nanny ends the worker; only then it is removed from the cluster
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from distributed.core import rpc

from dagtrain.engines.cluster.clocks import AwakeClock, WallClock, catch_up
from dagtrain.engines.cluster.outages import endure
from dagtrain.engines.ranks.liveness import Ask, End, LeaveOut, Liveness

__all__ = ["GLANCE", "HeartbeatMonitor"]

logger = logging.getLogger(__name__)

GLANCE = 0.5
"""Seconds between two checks of the workers' heartbeats; after a gap of four times as many, the scheduler was suspended."""
_KILL = 0.25
"""Seconds for a silent worker to end by itself when its nanny asks it to."""
_RESTART = 5.0
"""Seconds for a nanny to answer that it has ended a worker."""


class _Watch(NamedTuple):
    """A client that watches workers, the seconds after which they are silent, and those that an outage may last."""

    client: str
    silence: float
    outage: float


class HeartbeatMonitor:
    """Monitors the workers of a scheduler; use it in the scheduler's event loop.

    Parameters
    ----------
    scheduler
        Dask's.
    give_up
        ``give_up(worker, why, ended)`` is called when a worker is left out, or ended.
    change
        Called when `absent` or `waiting` has changed.
    """

    def __init__(self, scheduler: Any, give_up: Callable[[str, str, bool], object], change: Callable[[], object]) -> None:
        self.scheduler, self._give_up, self._change = scheduler, give_up, change
        self._liveness, self._clock, self._wall = Liveness(0.0, 0.0), AwakeClock(4 * GLANCE), WallClock()
        self._seen: dict[str, float] = {}
        """By worker, Dask's time of its last heartbeat; only its changes matter."""
        self._watches: dict[str, _Watch] = {}
        self._past: list[tuple[float, _Watch]] = []
        """Watches that have ended, and until when they still count."""
        self._enduring: weakref.WeakSet[Any] = weakref.WeakSet()
        self._tasks: set[Any] = set()
        for ws in scheduler.workers.values():
            self.joined(ws.address)
        if (callback := scheduler.periodic_callbacks.get("worker-ttl")) is not None:
            callback.callback = partial(self._judge_by_ttl, callback.callback)
        self.background(self._check_repeatedly())

    def close(self) -> None:
        """End with the scheduler."""
        for task in self._tasks:
            task.cancel()

    def background(self, work: Any) -> None:
        """Run a coroutine as a task."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def begin(self, name: str, client: str, silence: float, outage: float) -> None:
        """Watch workers for a client from now on; connections to them and to the client survive an outage."""
        self._watches[name] = _Watch(client, silence, outage)

    def end(self, name: str) -> None:
        """Stop after one more interval: a worker that froze just before the end would block every later broadcast."""
        watch = self._watches.pop(name)
        self._past.append((time.monotonic() + watch.silence + 4 * GLANCE, watch))

    def joined(self, worker: str) -> None:
        """A worker has joined the cluster."""
        self._liveness.joined(worker, self.scheduler.workers[worker].host)

    def left(self, worker: str) -> None:
        """A worker has left the cluster."""
        self._liveness.left(worker)
        self._seen.pop(worker, None)

    def furnished(self, worker: str, done: bool) -> None:
        """A worker begins or has finished a setup, which may take all of its time."""
        self._liveness.furnished(worker, done)

    def heard(self, worker: str) -> None:
        """A message of a worker has arrived."""
        self._liveness.heard(worker)

    @property
    def absent(self) -> set[str]:
        """Workers on the cluster that are left out, or being ended."""
        return self._liveness.absent

    @property
    def waiting(self) -> str:
        """Message while the scheduler seems to be cut off and waits; empty otherwise."""
        return self._liveness.waiting

    # ---- checks

    async def _check_repeatedly(self) -> None:
        """Check the heartbeats every `GLANCE` seconds, by a monotonic clock."""
        while True:
            await asyncio.sleep(GLANCE)
            try:
                self._check()
            except Exception:  # without further checks, no lost worker would be detected
                logger.exception("A check of the workers' heartbeats failed.")

    def _check(self) -> None:
        scheduler, liveness = self.scheduler, self._liveness
        if self._wall.was_set_back():
            catch_up(scheduler.periodic_callbacks.values(), [*scheduler.stream_comms.values(), *scheduler.client_comms.values()])
        liveness.tick(self._clock.read())
        for ws in scheduler.workers.values():
            if self._seen.get(ws.address) != ws.last_seen:
                if ws.address in self._seen:
                    liveness.heard(ws.address)
                self._seen[ws.address] = ws.last_seen
        now = time.monotonic()
        self._past = [(until, watch) for until, watch in self._past if now < until]
        watches = [*self._watches.values(), *(watch for _, watch in self._past)]
        liveness.limit = min((watch.silence for watch in watches), default=None)
        liveness.outage = max((watch.outage for watch in watches), default=0.0)
        before = (liveness.absent, liveness.waiting)
        for verdict in liveness.act():
            match verdict:
                case Ask(worker, timeout):
                    self.background(self._ask(scheduler.workers[worker], timeout))
                case LeaveOut(worker, why):
                    self._give_up(worker, why, False)
                case End(worker, why):
                    self._give_up(worker, why, True)
                    self.background(self._end_worker(scheduler.workers[worker]))
        if before != (liveness.absent, liveness.waiting):
            if liveness.waiting and liveness.waiting != before[1]:
                logger.warning("%s", liveness.waiting)
            self._change()
        self._endure()

    def _endure(self) -> None:
        """Let the connections of clients and workers survive an outage while they are watched."""
        scheduler, clients = self.scheduler, {watch.client for watch in self._watches.values()}
        streams = [*scheduler.stream_comms.values(), *(scheduler.client_comms.get(client) for client in clients)] if clients else []
        comms = {stream.comm for stream in streams if stream is not None and stream.comm is not None}
        for comm in comms - set(self._enduring):
            endure(comm, self._liveness.outage)
        for comm in set(self._enduring) - comms:
            endure(comm)
        self._enduring = weakref.WeakSet(comms)

    async def _judge_by_ttl(self, judge: Any) -> None:
        """Let Dask check for workers without heartbeats, with times that a step of the wall clock has not changed."""
        self._check()
        now = time.time()
        for address in self._liveness.workers & self._seen.keys():
            self.scheduler.workers[address].last_seen = self._seen[address] = now - self._liveness.silent_for(address)
        await judge()

    async def _ask(self, worker: Any, timeout: float) -> None:
        """Test whether a silent worker answers, on a new connection, and whether its nanny does."""
        itself, nanny = await asyncio.gather(self._answers(worker.address, timeout), self._answers(worker.nanny, timeout))
        if nanny and not itself:  # perhaps the network failed during the first request, and works now
            itself = await self._answers(worker.address, timeout)
        self._liveness.answered(worker.address, itself, nanny)

    async def _answers(self, address: str | None, timeout: float) -> bool:
        if address is None:
            return False
        with contextlib.suppress(Exception):  # any error means no answer
            async with rpc(address, connection_args=self.scheduler.connection_args) as server:
                await asyncio.wait_for(server.identity(), timeout)
                return True
        return False

    async def _end_worker(self, worker: Any) -> None:
        """Let the nanny of a worker that does not answer end it and start another, then remove it.

        In this order: a worker that is removed first and then recovers closes for good, and its nanny too.
        """
        address = worker.address
        if not await self._restart(worker.nanny):
            self._liveness.stayed(address)  # it is judged again
        elif self.scheduler.workers.get(address) is worker:
            await self.scheduler.remove_worker(address, stimulus_id=f"dagtrain-silent-{time.time()}")

    async def _restart(self, nanny: str) -> bool:
        """Whether a nanny has ended its worker."""
        try:
            async with rpc(nanny, connection_args=self.scheduler.connection_args) as server:
                await asyncio.wait_for(server.kill(timeout=_KILL, reason="dagtrain: the worker was silent"), _RESTART)
        except (OSError, TimeoutError):
            return False
        except Exception as error:  # the nanny answered: its worker process is gone already, or just starting
            logger.warning("The nanny %s did not end its worker: %s: %s", nanny, type(error).__name__, error)
        return True
