"""What Dask's servers do to observe themselves, made less while lanes are at work: they look seldom, and keep no messages with rows.

Fifty times a second a server times its event loop, and a hundred times a worker looks at what its threads do. Each time the lane is kept
from the interpreter, and what it had in the caches is gone. Heartbeats, and the watch over memory, go on as ever.

Each stream of messages keeps the last thousand that it sent, for whoever debugs Dask: with the numbers of the rows of a thousand segments.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SELDOM", "Quiet", "forget_sent"]

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


def forget_sent(stream: Any) -> None:
    """Let go of the messages that a stream keeps; in the event loop of its server, or of its client."""
    kept = getattr(stream, "recent_message_log", None)
    if kept is not None:
        kept.clear()
