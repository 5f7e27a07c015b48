"""What Dask's servers do beside their work, made less while ranks are at it: they seldom look at themselves, and keep no rows.

Fifty times a second a server times its event loop, and a hundred times a worker looks at what its threads do. Each time the rank is kept
from the interpreter, and what it had in the caches is gone. Heartbeats, and the watch over memory, go on as ever.

A rank that comes back from its arithmetic waits for the interpreter while the event loop has it: five milliseconds, unless the loop has to
wait for something before. With ranks on a worker, it is half of one.

Each stream of messages keeps the last thousand that it sent, for whoever debugs Dask: the numbers of the rows of a thousand segments.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from distributed.nanny import Nanny

__all__ = ["SELDOM", "BackgroundWork", "forget_sent", "nannies_here"]

SELDOM = 500.0
"""Milliseconds between two observations; a server that sees its event loop less often than every three seconds complains."""
_OBSERVATIONS = ("tick", "profile")
_SWITCH = 5e-4
"""Seconds for which a thread keeps the interpreter from others."""


class BackgroundWork:
    """Rest for a worker, or for a scheduler and the nannies that live with it; to be used in its event loop.

    Parameters
    ----------
    server
        With its callbacks in ``periodic_callbacks``.
    beside
        Gives other servers of the same process.
    turns
        Whether threads take turns at the interpreter more often meanwhile.
    """

    def __init__(self, server: Any, beside: Callable[[], Iterable[Any]] = tuple, turns: bool = False) -> None:
        self._server, self._beside, self._turns = server, beside, turns
        self._before: list[tuple[Any, float]] = []
        self._wanted = False

    def set(self, wanted: bool) -> None:
        """Begin or end the rest."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if wanted:
            servers = [self._server, *self._beside()]
            found = [s.periodic_callbacks[name] for s in servers for name in _OBSERVATIONS if name in s.periodic_callbacks]
            self._before = [(callback, callback.callback_time) for callback in found if callback.callback_time < SELDOM]
            for callback, _ in self._before:
                callback.callback_time = SELDOM
        else:
            for callback, interval in self._before:
                callback.callback_time = interval
            self._before = []
        if self._turns:
            _TURNS.wanted(wanted)


class _Turns:
    """How often threads of this process take turns: the workers that it has share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before = 0.0

    def wanted(self, often: bool) -> None:
        """One more who wants short turns, or one fewer."""
        with self._lock:
            self._count += 1 if often else -1
            if often and self._count == 1:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _SWITCH))
            elif not often and self._count == 0:
                sys.setswitchinterval(self._before)


_TURNS = _Turns()


def nannies_here() -> list[Any]:
    """The nannies of this process, which a scheduler of a local cluster shares."""
    return list(getattr(Nanny, "_instances", ()))


def forget_sent(stream: Any) -> None:
    """Let go of the messages that a stream keeps; in the event loop of its server, or of its client."""
    kept = getattr(stream, "recent_message_log", None)
    if kept is not None:
        kept.clear()
