"""Announced preemption: a worker that receives SIGTERM leaves between two segments, as one that is retired does.

    SIGTERM ─▶ worker process ─┐
    SIGTERM ─▶ its nanny ──────┴─▶ scheduler.retire_workers ─▶ no group has the worker any more ─▶ its data moves ─▶ the process ends

Spot machines announce their end 30 to 120 s ahead, Kubernetes 30 s. Kubernetes signals the container's first process, which is the nanny;
Slurm signals all processes. The scheduler plugin holds `retire_workers` back until the submitted segments are committed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import Any

from distributed import NannyPlugin
from distributed.protocol.pickle import dumps

__all__ = ["LEAVE", "LeavingNanny", "leave_on_sigterm", "tell_nanny"]

logger = logging.getLogger(__name__)

LEAVE = 20.0
"""Seconds for a group to go on without a worker that leaves: less than the shortest notice."""
_MOVE = 5.0
"""Further seconds for its data to move."""
_CLOSE = 5.0
"""Seconds for a worker to close after it has left, and for worker and scheduler to answer at all: they may be suspended."""


async def leave(worker: Any) -> None:
    """Retire a worker where a client trains, with a deadline; steps that are not committed by then are repeated elsewhere."""
    try:
        async with asyncio.timeout(_CLOSE):  # a scheduler out of reach cannot retire it
            await worker.scheduler.dagtrain_lanes_kept(groups=[])
        await asyncio.wait_for(worker.scheduler.dagtrain_lanes_leave(worker=worker.address), LEAVE + _MOVE)
    except Exception as error:  # the end comes in any case
        logger.warning("Worker %s ends without having been retired: %s: %s", worker.address, type(error).__name__, error)


def leave_on_sigterm(worker: Any) -> None:
    """Install a handler of SIGTERM in a worker process: leave, then end; a second signal ends at once."""
    if threading.current_thread() is not threading.main_thread():  # a worker within another program, which handles its signals itself
        return
    before = signal.getsignal(signal.SIGTERM)

    def handle(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, before)
        # From a signal handler, `add_callback` alone does not wake the event loop.
        worker.loop.asyncio_loop.call_soon_threadsafe(worker.loop.add_callback, end)

    async def end() -> None:
        try:
            await leave(worker)
            if worker.nanny is not None:
                await asyncio.wait_for(worker.close(nanny=True, reason="SIGTERM"), _CLOSE)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # to the handler that was there before

    signal.signal(signal.SIGTERM, handle)


class LeavingNanny(NannyPlugin):  # type: ignore[misc]  # distributed is not typed
    """Nanny plugin: before a nanny ends its worker, the worker leaves."""

    name = "dagtrain-lanes"
    idempotent = True

    async def teardown(self, nanny: Any) -> None:
        """Let the worker leave; called when the nanny closes, as on SIGTERM."""
        if nanny.process is None or not nanny.worker_address:
            return
        left = asyncio.ensure_future(self._leave(nanny.rpc(nanny.worker_address)))
        ended = asyncio.ensure_future(nanny.process.stopped.wait())  # by a SIGTERM of its own: it does not answer
        await asyncio.wait({left, ended}, timeout=LEAVE + 2 * _MOVE, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done() and (not left.done() or left.exception() is not None):  # the end comes in any case
            reason = left.exception() if left.done() else "no answer"
            logger.warning("The worker of nanny %s was not asked to leave: %r", nanny.address, reason)
        for task in (left, ended):
            task.cancel()
        await asyncio.gather(left, ended, return_exceptions=True)

    async def _leave(self, worker: Any) -> None:
        async with asyncio.timeout(_CLOSE):  # `wait_for` can miss a cancellation
            await worker.dagtrain_lanes_hello()
        await worker.dagtrain_lanes_leave()


async def tell_nanny(worker: Any) -> None:
    """Install `LeavingNanny` on a worker's nanny."""
    try:
        await worker.rpc(worker.nanny).plugin_add(plugin=dumps(LeavingNanny()), name=LeavingNanny.name)
    except Exception as error:  # without it, SIGTERM to the nanny ends the worker at once
        logger.warning("No nanny plugin on %s: %s: %s", worker.nanny, type(error).__name__, error)
