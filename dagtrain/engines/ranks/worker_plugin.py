"""The worker plugin: keeps a worker's ranks between segments, and answers the ranks of other workers.

other ranks ── "endpoint of rank 2 of group …?" ──▶ RanksWorkerPlugin ──▶ answered as soon as that rank is there
scheduler   ── "end group …" ─────────────────▶ RanksWorkerPlugin ──▶ the rank stops waiting, and goes
rank        ── report ──▶ RanksWorkerPlugin ──▶ the worker's own stream to the scheduler, before the task's end is told there
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from distributed import WorkerPlugin
from distributed.protocol import to_serialize

from dagtrain.engines.cluster.clocks import WallClock, catch_up
from dagtrain.engines.cluster.outages import endure
from dagtrain.engines.ranks.background import BackgroundWork, forget_sent
from dagtrain.engines.ranks.leaving import leave, leave_on_sigterm, tell_nanny
from dagtrain.engines.ranks.messages import Report, encode

__all__ = ["RanksWorkerPlugin", "plugin_of"]

logger = logging.getLogger(__name__)

_SWEEP = 10.0
"""Seconds between two checks for idle ranks."""
_IDLE = 60.0
"""Seconds without a segment after which the plugin asks whether a client still has the group."""
_ANSWER = 30.0
"""Seconds for the scheduler to answer."""
_REMEMBERED = 256
_PROBED = 64
"""Workers probed at the same time."""


class RanksWorkerPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Worker plugin; each session registers it, and Dask keeps the first."""

    name = "dagtrain-lanes"
    idempotent = True

    def __init__(self, outage: float = 0.0, idle: float = _IDLE) -> None:
        self.outage, self.idle = outage, idle

    def setup(self, worker: Any) -> None:
        """Install the handlers on a worker."""
        self.worker = worker
        _spare_from_interrupts(worker)
        leave_on_sigterm(worker)
        self.ranks: dict[tuple[str, int], Any] = {}
        self._lock = threading.Lock()
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._endpoints: dict[tuple[str, int], Any] = {}
        self._change = asyncio.Event()
        self._background = BackgroundWork(worker, turns=True)
        worker.handlers |= {
            "dagtrain_lanes_endpoint": self.endpoint,
            "dagtrain_lanes_frame": self.frame,
            "dagtrain_lanes_probe": self.probe,
            "dagtrain_lanes_hello": self.hello,
            "dagtrain_lanes_leave": self.leave,
        }
        worker.stream_handlers["dagtrain-lanes-end"] = self.end
        self._wall = WallClock()
        endure(worker.batched_stream.comm, self.outage)
        self._sweeping = asyncio.ensure_future(self._sweep())
        self._telling = asyncio.ensure_future(tell_nanny(worker)) if worker.nanny is not None else None

    def teardown(self, worker: Any) -> None:
        """End all ranks with the worker."""
        self._sweeping.cancel()
        for group, _ in list(self.ranks):
            self.end(group, "the worker closes")
        self._background.set(False)

    # ---- for ranks, in their threads

    def rank(self, group: str, number: int, make: Callable[[], Any]) -> Any:
        """The rank of a group, made at its first segment; None if the group has ended."""
        with self._lock:
            if group in self._ended:
                return None
            rank = self.ranks.get((group, number))
            if rank is None:
                rank = self.ranks[group, number] = make()
                self.worker.loop.add_callback(self._rest)
            return rank

    def why_ended(self, group: str, wait: float = 0.0) -> str | None:
        """Why a group was ended; None if it was not, after up to `wait` seconds."""
        deadline = time.monotonic() + wait
        while group not in self._ended and time.monotonic() < deadline:
            time.sleep(0.01)
        return self._ended.get(group)

    def publish(self, group: str, number: int, endpoint: Any) -> None:
        """Publish a rank's endpoint for its peers."""
        self._endpoints[group, number] = endpoint
        self.worker.loop.add_callback(self._wake)

    def fetch_endpoint(self, address: str, group: str, number: int, timeout: float) -> Any:
        """The endpoint of a rank on another worker, as a `concurrent.futures.Future`."""
        return asyncio.run_coroutine_threadsafe(self._ask(address, group, number, timeout), self.worker.loop.asyncio_loop)

    def report(self, session: str, report: Report) -> None:
        """Send a report to the client, through the scheduler."""
        self.worker.loop.add_callback(self._send_report, {"op": "dagtrain-lanes-report", "session": session, "report": encode(report)})

    def send_frame(self, address: str, group: str, target: int, source: int, header: bytes, buffers: list[Any]) -> Any:
        """Send a frame to a rank on another worker by Dask's connections."""
        sending = self._send(address, {"group": group, "target": target, "source": source, "header": header}, buffers)
        return asyncio.run_coroutine_threadsafe(sending, self.worker.loop.asyncio_loop)

    # ---- in the worker's event loop

    async def endpoint(self, group: str, number: int, timeout: float) -> Any:
        """The endpoint of a rank of this worker, once it is published; None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (group, number) not in self._endpoints:
            left = deadline - time.monotonic()
            if left <= 0 or group in self._ended:
                return None
            change = self._change
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(change.wait(), left)
        return self._endpoints[group, number]

    def frame(self, group: str, target: int, source: int, header: bytes, buffers: list[Any]) -> str:
        """Take a frame that came by Dask's connections."""
        rank = self.ranks.get((group, target))
        if rank is None:
            return "no such rank"
        rank.deliver(source, header, buffers)
        return "ok"

    async def probe(self, addresses: list[str], timeout: float) -> list[str]:
        """Those of these workers that answer."""
        places = asyncio.Semaphore(_PROBED)

        async def answers(address: str) -> bool:
            async with places:
                try:
                    return bool(await asyncio.wait_for(self.worker.rpc(address).dagtrain_lanes_hello(), timeout))
                except Exception:  # any error means no answer
                    return False

        answered = await asyncio.gather(*map(answers, addresses))
        return [address for address, there in zip(addresses, answered, strict=True) if there]

    def hello(self) -> bool:
        """Answer a probe."""
        return True

    async def leave(self) -> None:
        """Leave between two segments; the nanny asks before it ends the worker."""
        await leave(self.worker)

    def end(self, group: str, why: str) -> None:
        """End a group."""
        with self._lock:
            self._ended[group] = why
            while len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
            ranks = [self.ranks.pop(key) for key in list(self.ranks) if key[0] == group]
            for key in [key for key in self._endpoints if key[0] == group]:
                del self._endpoints[key]
        self._wake()
        for rank in ranks:
            rank.end(why)
        self.worker.loop.add_callback(self._rest)

    def _wake(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()

    def _send_report(self, report: dict[str, Any]) -> None:
        forget_sent(self.worker.batched_stream)
        self.worker.batched_send(report)

    def _rest(self) -> None:
        self._background.set(bool(self.ranks))

    async def _sweep(self) -> None:
        """Check for idle ranks and a clock that was set back, periodically."""
        while True:
            await asyncio.sleep(min(_SWEEP, self.idle))
            try:
                if self._wall.was_set_back():
                    catch_up(self.worker.periodic_callbacks.values(), [self.worker.batched_stream])
                await self._forget_idle()
            except Exception:
                logger.exception("The check for idle ranks failed.")

    async def _forget_idle(self) -> None:
        """End idle groups that no client has any more; if the scheduler does not answer, they stay."""
        idle = sorted({group for (group, _), rank in self.ranks.items() if rank.idle_for() > self.idle})
        if not idle:
            return
        with contextlib.suppress(OSError, TimeoutError):
            wanted = await asyncio.wait_for(self.worker.scheduler.dagtrain_lanes_kept(groups=idle), _ANSWER)
            for group in sorted(set(idle) - set(wanted)):
                self.end(group, f"no segment came for {self.idle:g} s, and its client is gone")

    async def _ask(self, address: str, group: str, number: int, timeout: float) -> Any:
        if address == self.worker.address:
            return await self.endpoint(group, number, timeout)
        asked = self.worker.rpc(address).dagtrain_lanes_endpoint(group=group, number=number, timeout=timeout)
        return await asyncio.wait_for(asked, timeout + 1)

    async def _send(self, address: str, frame: dict[str, Any], buffers: list[Any]) -> None:
        answer = await self.worker.rpc(address).dagtrain_lanes_frame(**frame, buffers=[to_serialize(b) for b in buffers])
        if answer != "ok":
            raise ConnectionError(f"{address} has {answer}")


def _spare_from_interrupts(worker: Any) -> None:
    """Ignore Ctrl-C in a worker process with a nanny.

    A terminal sends it to all processes of a cluster that was started there. The first Ctrl-C makes training end at the next boundary,
    which needs the workers; they end with their nanny, or when the cluster is closed.
    """
    if worker.nanny is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def plugin_of(worker: Any) -> RanksWorkerPlugin:
    """The plugin of a worker."""
    plugin = worker.plugins.get(RanksWorkerPlugin.name)
    if plugin is None:
        raise ConnectionError(
            f"the worker {worker.address} does not have the plugin {RanksWorkerPlugin.name!r}: it joined while the run was set up."
        )
    return plugin  # type: ignore[no-any-return]  # distributed is not typed
