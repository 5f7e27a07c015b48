"""Which segments are submitted, to which gang of workers, and what is done when something fails: a state machine without I/O.

    workers ──▶ gang ──▶ segment 0, 1, 2, … (two or three under way) ──▶ commit in order ──▶ end
                 ▲                 │
                 └── abandon ◀─────┴─ a worker lost or leaving; a link cut; workers that joined; no news

A *gang* is a placement on certain workers; it is given up whole and a new one takes the next segments. A *segment* is some steps, a pure
function of the state before it. It is committed once every lane has reported it. Its state then lies on every worker of the
gang, so that any one of them can begin the next gang; where none is left, the copy that the client has.

Events are methods, and `act` gives the instructions that follow from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dagtrain.cluster.lanes.instructions import (
    Abandon,
    Action,
    Begin,
    Commit,
    Done,
    Fetch,
    GiveUp,
    Held,
    Pace,
    Patience,
    Probe,
    Submit,
)

__all__ = ["ENDING", "Conductor"]


ENDING = 0.05
"""The part of a segment's time that its end should take at most."""


@dataclass
class _Gang:
    number: int
    workers: tuple[str, ...]
    began: float
    news: float
    started: bool = False
    draining: str = ""
    broken: str = ""
    next_segment: int = 0
    under_way: list[Submit] = field(default_factory=list)
    reported: dict[int, set[int]] = field(default_factory=dict)
    """Segment → lanes that have reported it."""


class Conductor:
    """Drives a stretch of steps to its end.

    Parameters
    ----------
    steps
        How many there are.
    beyond
        Steps that will probably follow: segments of them are submitted too, so that lanes need not wait while the driver is busy between
        two stretches. They are committed by the conductor of the next stretch, if it goes on from here.
    lanes
        Most lanes: the number of shards.
    now
        The time.
    patience
        Deadlines.
    pace
        Seconds of a step, and of a segment's end, where known from before.
    """

    def __init__(
        self, steps: int, lanes: int, now: float, patience: Patience | None = None, pace: Pace | None = None, beyond: int = 0
    ) -> None:
        self.total, self.beyond, self.lanes, self.now = steps, beyond, lanes, now
        self.patience = patience or Patience()
        self.pace = pace
        self.committed = Held(0)
        self.safe = Held(0)
        """The last state that the client has."""
        self.gang: _Gang | None = None
        self.gangs = 0
        self.finished = False
        self._present: set[str] = set()
        self._leaving: set[str] = set()
        self._cut: dict[frozenset[str], float] = {}
        """Pairs of workers that could not reach each other, and when they are looked at again."""
        self._failures = 0
        self._last_failure = ""
        self._without = now
        self._stopping = False
        self._largest = 1
        self._held: Mapping[str, int] = {}

    # ---- events

    def continue_from(self, before: Conductor) -> None:
        """Go on with the gang of the stretch before, which ended where this one begins."""
        assert before.gang is not None, "there is a gang to go on with"
        gang, steps = before.gang, before.committed.step
        gang.began = gang.news = self.now
        gang.under_way = [segment._replace(first=segment.first - steps) for segment in gang.under_way]
        self.committed, self.gangs, self.gang = before.committed._replace(step=0), before.gangs, gang
        self._cut, self._largest, self._held = before._cut, before._largest, before._held

    def tick(self, now: float) -> None:
        """Time goes by."""
        self.now = now

    def workers(self, present: Iterable[str], leaving: Iterable[str] = (), gone: Mapping[str, str] | None = None) -> None:
        """What the scheduler knows of its workers; `gone` says why some are not there any more."""
        self._present, self._leaving = set(present), set(leaving)
        gang = self.gang
        if gang is None:
            return
        for worker in gang.workers:
            if worker not in self._present:
                why = (gone or {}).get(worker)
                gang.broken = gang.broken or f"worker {worker} was lost" + (f": {why}" if why else "")

    def holds(self, nbytes: Mapping[str, int]) -> None:
        """Bytes of the data that lie with each worker."""
        self._held = nbytes

    def placed(self, gang: int, workers: tuple[str, ...]) -> None:
        """The workers of a gang in the order of its lanes."""
        if self._is_current(gang):
            self.gang.workers = workers  # type: ignore[union-attr]  # it is current, so there is one

    def started(self, gang: int) -> None:
        """All lanes of a gang have met."""
        if self._is_current(gang):
            self.gang.started, self.gang.news = True, self.now  # type: ignore[union-attr]  # it is current, so there is one

    def news(self, gang: int) -> None:
        """A gang reports that it gets on."""
        if self._is_current(gang):
            self.gang.news = self.now  # type: ignore[union-attr]  # as above

    def reported(self, gang: int, segment: int, lane: int, seconds: float = 0.0, ending: float = 0.0) -> None:
        """A lane has done a segment, after so many seconds, the last of them for its end, and holds its state."""
        if not self._is_current(gang):
            return
        assert self.gang is not None
        self.gang.started, self.gang.news = True, self.now
        self.gang.reported.setdefault(segment, set()).add(lane)
        if seconds and lane == 0 and self.gang.under_way and self.gang.under_way[0].segment == segment:
            usual = ending if self.pace is None else min(ending, 2 * self.pace.ending)  # one that was held up once says little
            self.pace = Pace(max(seconds - ending, 0.0) / self.gang.under_way[0].steps, usual)

    def failed(self, gang: int, why: str, between: tuple[str, str] | None = None) -> None:
        """A lane of a gang could not go on; `between` are two workers between which the network failed: they are kept apart."""
        if not self._is_current(gang):
            return
        assert self.gang is not None
        self.gang.broken = self.gang.broken or why
        if between is not None:
            self._cut[frozenset(between)] = self.now + self.patience.cut

    def probed(self, pair: tuple[str, str], reached: bool) -> None:
        """Two workers reach each other again, or still do not."""
        if reached:
            self._cut.pop(frozenset(pair), None)

    def stateless(self, gang: int) -> None:
        """The worker from which a gang was to have its state has it no more."""
        if self._is_current(gang):
            self.failed(gang, "the state was lost where it lay")
            self.lost()

    def lost(self) -> None:
        """The committed state could not be had from anywhere: go on from the client's copy."""
        self.committed, self.finished = self.safe, False

    def fetched(self, held: Held) -> None:
        """The client has a copy of a committed state."""
        if held.step >= self.safe.step:
            self.safe = Held(held.step)

    def stop(self) -> None:
        """End after the segments that are under way."""
        self._stopping = True

    # ---- what follows

    def act(self) -> list[Action]:
        """The instructions that follow from what has happened."""
        if self.finished:
            return []
        found: list[Action] = []
        found += self._commit()
        if self.gang is not None:
            self._without = self.now
            found += self._look_after(self.gang)
        if self.finished:
            return found
        found += self._probe()
        if self.committed.step >= self.total or (self._stopping and not self._wanted_under_way):
            self.finished = True
            if self.gang is not None:  # what follows is under way before the driver turns to other things
                found += self._submit(self.gang)
            return [*found, Done(self.committed)]
        if self.gang is None:
            found += self._begin()
        if self.gang is not None:
            found += self._submit(self.gang)
        return found

    @property
    def _wanted_under_way(self) -> bool:
        return self.gang is not None and any(segment.first < self.total for segment in self.gang.under_way)

    def _is_current(self, gang: int) -> bool:
        return self.gang is not None and self.gang.number == gang

    def _commit(self) -> list[Action]:
        gang, found = self.gang, list[Action]()
        while gang is not None and self._wanted_under_way:
            segment = gang.under_way[0]
            if len(gang.reported.get(segment.segment, ())) < len(gang.workers):
                break
            gang.under_way.pop(0)
            gang.reported.pop(segment.segment)
            self.committed = Held(segment.first + segment.steps, gang.number, segment.segment, gang.workers)
            self._failures, self._largest = 0, max(self._largest, segment.steps)
            found.append(Commit(gang.number, segment.segment, segment.first, segment.steps))
            if len(gang.workers) == 1 and self.committed.step < self.total:
                found.append(Fetch(self.committed))
        return found

    def _look_after(self, gang: _Gang) -> list[Action]:
        if not gang.broken:
            limit, since = (self.patience.news, gang.news) if gang.started else (self.patience.start, gang.began)
            if gang.under_way and self.now - since > limit:
                done = gang.reported.get(gang.under_way[0].segment, set())
                late = [w for i, w in enumerate(gang.workers) if i not in done]
                gang.broken = f"{'no news' if gang.started else 'the lanes have not met'} for {limit:g} s; not heard of: {', '.join(late)}"
        if gang.broken:
            self.gang = None
            self._failures += 1
            self._last_failure = gang.broken
            if self._failures >= self.patience.failures:
                self.finished = True
                return [
                    Abandon(gang.number, gang.broken, failure=True),
                    GiveUp(f"{self._failures} attempts failed in a row at step {self.committed.step}; the last time: {gang.broken}"),
                ]
            return [Abandon(gang.number, gang.broken, failure=True)]
        if not gang.draining:
            better = self._choose()
            if set(better) != set(gang.workers):
                gone, new = sorted(set(gang.workers) - set(better)), sorted(set(better) - set(gang.workers))
                gang.draining = "; ".join(
                    [*(["workers leave: " + ", ".join(gone)] if gone else []), *(["workers joined: " + ", ".join(new)] if new else [])]
                )
        if gang.draining and not gang.under_way and self.committed.step < self.total:
            self.gang = None
            return [Abandon(gang.number, gang.draining, failure=False)]
        return []

    def _probe(self) -> list[Action]:
        """Look at pairs that were kept apart for long enough; those of which one is gone are forgotten."""
        self._cut = {pair: due for pair, due in self._cut.items() if pair <= self._present}
        due = [pair for pair, when in self._cut.items() if self.now >= when]
        for pair in due:
            self._cut[pair] = self.now + self.patience.cut
        return [Probe((min(pair), max(pair))) for pair in due]

    def _choose(self) -> tuple[str, ...]:
        """Workers for a gang: all that are well, or those there are if all are leaving; without pairs that do not reach each other."""
        staying = (self._present - self._leaving) or self._present
        for pair in self._cut:
            if pair <= staying:
                # The one with more such neighbours goes; of two equals the one that is named last.
                bad = {w: sum(w in p and p <= staying for p in self._cut) for w in pair}
                staying = staying - {max(sorted(pair), key=lambda w: (bad[w], w))}
        # Whoever is at work stays, so that a gang is not given up for one that is no better.
        at_work = self.gang.workers if self.gang is not None else ()
        ranked = sorted(staying, key=lambda w: (w not in at_work, -self._held.get(w, 0), w))
        return tuple(sorted(ranked[: self.lanes]))

    @property
    def is_apart(self) -> bool:
        """Whether the network keeps workers of the gang from others that are there."""
        at_work = set(self.gang.workers if self.gang is not None else ())
        return any(len(pair & at_work) == 1 for pair in self._cut)

    def _begin(self) -> list[Action]:
        chosen = self._choose()
        if not chosen:
            if self.now - self._without > self.patience.workers:
                self.finished = True
                last = f" The last failure: {self._last_failure}." if self._last_failure else ""
                return [GiveUp(f"no worker is left on the cluster, and none came for {self.patience.workers:g} s.{last}")]
            return []
        self.gang = _Gang(self.gangs, chosen, self.now, self.now)
        self.gangs += 1
        holders = [w for w in self.committed.workers if w in self._present]
        if self.committed.gang >= 0:
            self.committed = self.committed._replace(workers=tuple(holders)) if holders else self.safe
        return [Begin(self.gang.number, chosen)]

    def _submit(self, gang: _Gang) -> list[Action]:
        found: list[Action] = []
        last = gang.under_way[-1] if gang.under_way else None
        first = last.first + last.steps if last else self.committed.step
        end = self.total + self.beyond
        # Whoever stops waits for what is under way: of long segments one ahead is enough.
        ahead = self.patience.ahead if self._length() <= self.patience.segment else min(self.patience.ahead, 2)
        while first < end and len(gang.under_way) < ahead and not (gang.draining or self._stopping):
            steps = min(self._size(), (self.total if first < self.total else end) - first)
            segment = Submit(gang.number, gang.next_segment, first, steps, self.committed)
            gang.next_segment += 1
            if not gang.under_way:
                gang.news = self.now
            gang.under_way.append(segment)
            found.append(segment)
            first += steps
        return found

    def _length(self) -> float:
        """Seconds of a segment: longer where its end takes long."""
        return max(self.patience.segment, min((self.pace.ending if self.pace else 0.0) / ENDING, self.patience.longest))

    def _size(self) -> int:
        """Steps of the next segment: as many as last long enough, growing at most fourfold."""
        if self.pace is None:
            return 2
        wanted = int(self._length() / max(self.pace.step, 1e-6))
        return max(1, min(wanted, 4 * self._largest if self._largest > 1 else 8, self.patience.most))
