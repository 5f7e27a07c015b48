"""Background work of Dask's servers, reduced while ranks run: they observe themselves seldom, and keep no sent messages.

A server times its event loop 50 times a second, and a worker samples its threads' stacks 100 times a second. Each time the rank loses the
GIL, and its data leaves the caches. Heartbeats and the memory monitor go on unchanged.

After a kernel a rank must reacquire the GIL. If the event loop has it, that takes up to the switch interval, 5 ms; while ranks run we set
0.5 ms.

For debugging, each stream keeps the last 1,000 messages that it sent: for ranks, the row numbers of 1,000 segments.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from distributed.nanny import Nanny

__all__ = ["SELDOM", "BackgroundWork", "forget_sent", "nannies_here"]

SELDOM = 500.0
"""Milliseconds between two observations; a server warns if it observes its event loop less often than every 3 s."""
_OBSERVATIONS = ("tick", "profile")
_SWITCH = 5e-4
"""Seconds that a thread keeps the GIL while others wait for it."""


class BackgroundWork:
    """The background work of a worker, or of a scheduler and the nannies of its process; use it in the server's event loop.

    Parameters
    ----------
    server
        With its callbacks in ``periodic_callbacks``.
    beside
        Returns other servers of the same process.
    turns
        Whether to shorten the switch interval of the GIL meanwhile.
    """

    def __init__(self, server: Any, beside: Callable[[], Iterable[Any]] = tuple, turns: bool = False) -> None:
        self._server, self._beside, self._turns = server, beside, turns
        self._before: list[tuple[Any, float]] = []
        self._reduced = False

    def set(self, reduced: bool) -> None:
        """Reduce the background work, or restore it."""
        if reduced == self._reduced:
            return
        self._reduced = reduced
        if reduced:
            servers = [self._server, *self._beside()]
            callbacks = [s.periodic_callbacks[name] for s in servers for name in _OBSERVATIONS if name in s.periodic_callbacks]
            self._before = [(callback, callback.callback_time) for callback in callbacks if callback.callback_time < SELDOM]
            for callback, _ in self._before:
                callback.callback_time = SELDOM
        else:
            for callback, interval in self._before:
                callback.callback_time = interval
            self._before = []
        if self._turns:
            _SWITCH_INTERVAL.shorten(reduced)


class _SwitchInterval:
    """The switch interval of this process, which all its workers share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before = 0.0

    def shorten(self, shorten: bool) -> None:
        """Shorten it for one more worker, or for one fewer; the last one restores it."""
        with self._lock:
            self._count += 1 if shorten else -1
            if shorten and self._count == 1:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _SWITCH))
            elif not shorten and self._count == 0:
                sys.setswitchinterval(self._before)


_SWITCH_INTERVAL = _SwitchInterval()


def nannies_here() -> list[Any]:
    """The nannies of this process, which is also the scheduler's in a local cluster."""
    return list(getattr(Nanny, "_instances", ()))


def forget_sent(stream: Any) -> None:
    """Drop the sent messages that a stream keeps; call it in the event loop of its server or client."""
    log = getattr(stream, "recent_message_log", None)
    if log is not None:
        log.clear()
