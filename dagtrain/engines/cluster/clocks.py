"""Time that a process was there to use, and wall clocks that are set back under Dask's servers.

Tornado's periodic callbacks and Dask's streams of messages go by the wall clock. Where it is set back by an hour, heartbeats stop for an
hour, and so do messages if one was sent just before (tornado issue 2333).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["AwakeClock", "WallClock", "catch_up"]


class AwakeClock:
    """Seconds that go by while they are read: of a longer gap, in which the process was suspended or did something else, little counts.

    Parameters
    ----------
    longest
        What a gap counts for at most.
    clock
        A clock that is never set.

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
        """Have the time since the last reading count for nothing."""
        self._read = self._clock()


class WallClock:
    """The clock of this machine, watched."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def was_set_back(self) -> bool:
        """Whether it was, by more than a second, since the last look."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        return before - self._ahead > 1.0


def catch_up(callbacks: Iterable[Any], streams: Iterable[Any]) -> None:
    """Have callbacks and streams of a server not wait for what the time was before the clock was set back; in its event loop."""
    for callback in callbacks:
        if callback.is_running():
            callback.stop()
            callback.start()
    for stream in streams:
        if getattr(stream, "next_deadline", None) is not None:
            stream.next_deadline = 0.0
            stream.waker.set()
