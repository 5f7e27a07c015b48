"""What the scheduler knows of fits: records folded into a few runs of bounded size. No I/O."""

from __future__ import annotations

import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dagtrain.report.records import Drawn, Ended, EpochEnd, Event, Progress, Record, Started, StepTimes

__all__ = ["Run", "Runs", "runs_of", "thinned"]

RUNS = 8
"""Runs that are kept, at most."""
POINTS = 1000
"""Points of a curve, at most."""
EVENTS, RANKS, QUANTITIES = 200, 64, 32
"""Events, ranks and quantities of a run, at most."""
WATCHED = 5.0
"""Seconds since the last look for which a page counts as open."""
LONGEST = 500
"""Characters of the text of an event."""
GONE = Ended("its process is gone", "")
"""How a run ended whose client has left."""


def thinned(points: list[Progress], most: int = POINTS) -> list[Progress]:
    """The points, or if they are too many every second one of all but the last quarter.

    Examples
    --------
    >>> [p.step for p in thinned([Progress(i, 0, 0.0, 0.0, 0.0) for i in range(9)], most=8)]
    [0, 2, 4, 6, 7, 8]
    """
    if len(points) <= most:
        return points
    recent = len(points) - most // 4
    return points[:recent:2] + points[recent:]


@dataclass
class Run:
    """One fit.

    Attributes
    ----------
    name, client
        Of the run, and of the Dask client that trains.
    number
        Counted from 1 since the scheduler began.
    started
        Its first record.
    points
        Its progress, thinned where it is long.
    epochs
        Number of updates made → quantities.
    times
        Rank → how it spends a step.
    events
        The last ones.
    pictures
        By name.
    ended
        How it ended; None while it runs.
    changes
        Number of changes so far.
    """

    name: str
    client: str
    number: int
    started: Started | None = None
    points: list[Progress] = field(default_factory=list)
    epochs: dict[int, EpochEnd] = field(default_factory=dict)
    times: dict[int, StepTimes] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS))
    pictures: dict[str, Drawn] = field(default_factory=dict)
    ended: Ended | None = None
    changes: int = 0

    @property
    def last(self) -> Progress | None:
        """The latest progress."""
        return self.points[-1] if self.points else None

    @property
    def model(self) -> str:
        """The name of its model."""
        return self.started.model if self.started is not None else ""

    @property
    def workers(self) -> int:
        """Workers with a part in the steps, by the last report; where it has all the ranks that are kept, there may be more."""
        first, reported = 0 if self.started is None else self.started.workers, len(self.times)
        return max(first, reported) if reported >= RANKS else reported or first

    def take(self, record: Record) -> None:
        """Fold in one record."""
        self.changes += 1
        if self.ended == GONE:  # its client has connected again
            self.ended = None
        match record:
            case Started():
                self.started = record
            case Progress():
                self.points = thinned([*self.points, record])
            case EpochEnd():
                self.epochs[record.step] = record._replace(values=dict(list(record.values.items())[:QUANTITIES]))
                while len(self.epochs) > POINTS:
                    del self.epochs[next(iter(self.epochs))]
            case StepTimes() if 0 <= record.rank < RANKS:
                self.times[record.rank] = record
            case Event():
                self.events.append(record._replace(why=record.why[:LONGEST]))
                if record.kind in ("repeated", "placed anew"):  # the ranks are others now
                    self.times = {}
            case Drawn() if record.name in ("placement", "graph"):
                self.pictures[record.name] = record
            case Ended():
                self.ended = record


class Runs:
    """The last runs, the newest last.

    Parameters
    ----------
    clock
        Returns seconds.

    Attributes
    ----------
    events
        Kind → number of events, of all runs since the beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: dict[str, Run] = {}
        self._looked = float("-inf")
        self._count = 0
        self.events: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, name: str) -> Run | None:
        """The run of this name, else the newest, if there is any."""
        return self._runs.get(name) or next(reversed(self._runs.values()), None)

    def take(self, run: str, client: str, records: Iterable[Record]) -> bool:
        """Take records of a run; return whether somebody looks at the page."""
        if run not in self._runs:
            self._count += 1
            self._runs[run] = Run(run, client, self._count)
            while len(self._runs) > RUNS:
                over = (name for name, each in self._runs.items() if each.ended is not None)
                del self._runs[next(over, next(iter(self._runs)))]
        for record in records:
            self._runs[run].take(record)
            if isinstance(record, Event):
                self.events[record.kind] += 1
        return self._clock() - self._looked < WATCHED

    def look(self) -> None:
        """A page shows the runs."""
        self._looked = self._clock()

    def left(self, client: str) -> None:
        """A client is gone: its runs are over, until it sends records again."""
        for run in self._runs.values():
            if run.client == client and run.ended is None:
                run.take(GONE)


_RUNS: weakref.WeakKeyDictionary[Any, Runs] = weakref.WeakKeyDictionary()


def runs_of(scheduler: Any) -> Runs:
    """The runs that a scheduler knows."""
    return _RUNS.setdefault(scheduler, Runs())
