"""How a rank spends the time of its steps: computing, exchanging, waiting.

Only some steps of a segment are timed, at regular distances, so that short steps do not become longer.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

__all__ = ["COMPUTE", "EXCHANGE", "WAIT", "SegmentTimes"]

COMPUTE, EXCHANGE, WAIT = range(3)
"""Places in `SegmentTimes.seconds`, in the order of `dagtrain.report.records.KINDS`."""
TIMED = 16
"""Steps of a segment that are timed, at least; fewer if it has fewer."""


class SegmentTimes:
    """A stopwatch for the timed steps of a segment.

    Parameters
    ----------
    steps
        Of the segment.
    clock
        Returns seconds.

    Attributes
    ----------
    seconds
        Spent computing, exchanging and waiting in the timed steps.
    timing
        Whether a step is being timed.

    Examples
    --------
    >>> now = iter([0.0, 3.0, 4.0])
    >>> times = SegmentTimes(1, lambda: next(now))
    >>> times.begin(0)
    >>> times.spend(WAIT)  # after 3 s of computing
    >>> times.end()
    >>> times.mean()
    (3.0, 0.0, 1.0)
    """

    def __init__(self, steps: int, clock: Callable[[], float] = perf_counter) -> None:
        self.seconds = [0.0, 0.0, 0.0]
        self.timing = False
        self._every = max(1, steps // TIMED)
        self._clock = clock
        self._steps = 0
        self._kind, self._since = COMPUTE, 0.0

    def begin(self, step: int) -> None:
        """End the step before, and begin this one (counted from the beginning of the segment), with computing."""
        if self.timing:
            self.end()
        if step % self._every == 0:
            self.timing, self._kind, self._since = True, COMPUTE, self._clock()
            self._steps += 1

    def spend(self, kind: int) -> None:
        """From now on the time is spent in this way."""
        if self.timing and kind != self._kind:
            now = self._clock()
            self.seconds[self._kind] += now - self._since
            self._kind, self._since = kind, now

    def end(self) -> None:
        """End the step; what follows is not timed."""
        if self.timing:
            self.seconds[self._kind] += self._clock() - self._since
            self.timing = False

    def mean(self) -> tuple[float, ...]:
        """Seconds of a step spent in each way."""
        return tuple(seconds / max(self._steps, 1) for seconds in self.seconds)
