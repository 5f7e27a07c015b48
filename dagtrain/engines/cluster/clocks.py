"""Time in which a process was not suspended, and wall clocks that are set back under Dask's servers.

Tornado's periodic callbacks and Dask's streams of messages use the wall clock. If it is set back by an hour, heartbeats stop for an hour,
and so do messages if one was sent just before (tornado issue 2333).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["AwakeClock", "WallClock", "catch_up"]


class AwakeClock:
    """Seconds between readings, each gap cut to a maximum: in a longer one the process was suspended or did other work.

    Parameters
    ----------
    longest
        Seconds that a gap counts at most.
    clock
        A monotonic clock.

    Examples
    --------
    >>> times = iter([100.0, 100.5, 700.0, 701.0])
    >>> clock = AwakeClock(2.0, lambda: next(times))
    >>> [clock.read() for _ in range(3)]
    [0.5, 2.5, 3.5]
    """

    def __init__(self, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest, self._clock = longest, clock
        self._read, self._time = clock(), 0.0

    def read(self) -> float:
        """Seconds since the beginning."""
        now = self._clock()
        self._time += min(now - self._read, self._longest)
        self._read = now
        return self._time

    def skip(self) -> None:
        """Do not count the time since the last reading."""
        self._read = self._clock()


class WallClock:
    """Detects that the wall clock of this machine was set back."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def was_set_back(self) -> bool:
        """Whether it was set back by more than a second since the last call."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        return before - self._ahead > 1.0


def catch_up(callbacks: Iterable[Any], streams: Iterable[Any]) -> None:
    """Restart callbacks and streams of a server that wait for a time of before the clock was set back; call it in its event loop."""
    for callback in callbacks:
        if callback.is_running():
            callback.stop()
            callback.start()
    for stream in streams:
        if getattr(stream, "next_deadline", None) is not None:
            stream.next_deadline = 0.0
            stream.waker.set()
