"""On the scheduler: `Liveness` at work. It hears heartbeats, asks workers that are silent, and has their nannies end those that stopped.

heartbeats, as Dask notes them ──▶ Liveness ──▶ questions on connections of their own ──▶ Liveness
│
└──▶ a worker is given up: the scheduler plugin ends its group      ╲ and only if its nanny says that it
╱ has ended it, it is removed
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
"""Seconds between two looks at the workers' heartbeats; of four times as many without one, the scheduler was not awake."""
_KILL = 0.25
"""Seconds for a silent worker to end by itself when its nanny asks it to."""
_RESTART = 5.0
"""Seconds for a nanny to answer that it has ended a worker."""


class _Watch(NamedTuple):
    """For which client workers are watched, after how many seconds they are silent, and for how many an outage may last."""

    client: str
    silence: float
    outage: float


class HeartbeatMonitor:
    """Who of a scheduler's workers is there; to be used in its event loop.

    Parameters
    ----------
    scheduler
        Dask's.
    give_up
        ``give_up(worker, why, ended)`` is called when a worker is not there any more: left out, or ended.
    change
        Called when what `absent` or `waiting` say has changed.
    """

    def __init__(self, scheduler: Any, give_up: Callable[[str, str, bool], object], change: Callable[[], object]) -> None:
        self.scheduler, self._give_up, self._change = scheduler, give_up, change
        self._liveness, self._clock, self._wall = Liveness(0.0, 0.0), AwakeClock(4 * GLANCE), WallClock()
        self._seen: dict[str, float] = {}
        """By worker, the time of its last heartbeat, as Dask has it: of interest is that it changes."""
        self._watches: dict[str, _Watch] = {}
        self._past: list[tuple[float, _Watch]] = []
        """Those that are over, and until when they count all the same."""
        self._enduring: weakref.WeakSet[Any] = weakref.WeakSet()
        self._tasks: set[Any] = set()
        for ws in scheduler.workers.values():
            self.joined(ws.address)
        if (judging := scheduler.periodic_callbacks.get("worker-ttl")) is not None:
            judging.callback = partial(self._judge_by_ttl, judging.callback)
        self.background(self._glances())

    def close(self) -> None:
        """End with the scheduler."""
        for task in self._tasks:
            task.cancel()

    def background(self, work: Any) -> None:
        """Do something beside."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def begin(self, name: str, client: str, silence: float, outage: float) -> None:
        """From now on workers are watched for a client, and connections to them and to the client bear an outage."""
        self._watches[name] = _Watch(client, silence, outage)

    def end(self, name: str) -> None:
        """No longer; but a worker that stopped shortly before is found all the same: what asks all workers would wait for it."""
        watch = self._watches.pop(name)
        self._past.append((time.monotonic() + watch.silence + 4 * GLANCE, watch))

    def joined(self, worker: str) -> None:
        """A worker is there."""
        self._liveness.joined(worker, self.scheduler.workers[worker].host)

    def left(self, worker: str) -> None:
        """A worker is gone."""
        self._liveness.left(worker)
        self._seen.pop(worker, None)

    def furnished(self, worker: str, done: bool) -> None:
        """A worker is to set something up, for which it may need all of its time, or has done so."""
        self._liveness.furnished(worker, done)

    def heard(self, worker: str) -> None:
        """A worker gave a sign of life."""
        self._liveness.heard(worker)

    @property
    def absent(self) -> set[str]:
        """Workers that are on the cluster and cannot be worked with."""
        return self._liveness.absent

    @property
    def waiting(self) -> str:
        """What is waited for where the scheduler seems to be cut off."""
        return self._liveness.waiting

    # ---- within

    async def _glances(self) -> None:
        """Look at the heartbeats again and again, by a clock that is never set."""
        while True:
            await asyncio.sleep(GLANCE)
            try:
                self._glance()
            except Exception:  # if there were no other look, no worker would be missed ever after
                logger.exception("A look at the workers failed.")

    def _glance(self) -> None:
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
                    self.background(self._let_go(scheduler.workers[worker]))
        if before != (liveness.absent, liveness.waiting):
            if liveness.waiting and liveness.waiting != before[1]:
                logger.warning("%s", liveness.waiting)
            self._change()
        self._endure()

    def _endure(self) -> None:
        """Have the connections of clients and workers bear an outage, for as long as they are watched."""
        scheduler, clients = self.scheduler, {watch.client for watch in self._watches.values()}
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

    async def _let_go(self, worker: Any) -> None:
        """Have its nanny end a worker that does not answer and start another, and remove it.

        In this order: a worker that is removed, and then comes to itself, closes and has its nanny close with it, for good.
        """
        address = worker.address
        if not await self._restart(worker.nanny):
            self._liveness.stayed(address)  # and is judged anew
        elif self.scheduler.workers.get(address) is worker:
            await self.scheduler.remove_worker(address, stimulus_id=f"dagtrain-silent-{time.time()}")

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
