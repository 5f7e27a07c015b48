"""Fewer interruptions of a lane: what Dask's servers do many times a second to observe themselves they do seldom while lanes are at work.

Fifty times a second a server times its event loop, and a hundred times a worker looks at what its threads do. Each time the lane is kept
from the interpreter, and what it had in the caches is gone. Heartbeats, and the watch over memory, go on as ever.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SELDOM", "Quiet"]

SELDOM = 500.0
"""Milliseconds between two observations; a server that sees its event loop less often than every three seconds complains."""
_OBSERVATIONS = ("tick", "profile")


class Quiet:
    """Rest for a worker or a scheduler; to be used in its event loop.

    Parameters
    ----------
    server
        With its callbacks in ``periodic_callbacks``.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._before: dict[str, float] = {}

    def set(self, wanted: bool) -> None:
        """Begin or end the rest."""
        callbacks = self._server.periodic_callbacks
        if wanted and not self._before:
            found = {name: callbacks[name].callback_time for name in _OBSERVATIONS if name in callbacks}
            self._before = {name: interval for name, interval in found.items() if interval < SELDOM}
            for name in self._before:
                callbacks[name].callback_time = SELDOM
        elif not wanted:
            before, self._before = self._before, {}
            for name, interval in before.items():
                callbacks[name].callback_time = interval
