"""Which segments are submitted, to which gang of workers, and what is done when something fails: a state machine without I/O.

    workers ──▶ gang ──▶ segment 0, 1, 2, … (two or three under way) ──▶ commit in order ──▶ end
                 ▲                 │
                 └── abandon ◀─────┴─ a worker lost, leaving, paused or busy; a link cut; workers that joined; no news

A *gang* is a placement on certain workers; it is given up whole and a new one takes the next segments. A *segment* is some steps, a pure
function of the state before it. It is committed once every lane has reported it. Its state then lies on every worker of the
gang, so that any one of them can begin the next gang; where none is left, the copy that the client has.

An attempt that fails teaches something (a worker is left out, two are kept apart), or the next one waits, longer each time; where neither
can help, it ends at once. `Roster` holds what is learnt of workers, `attempt.py` how far a gang is

Events are methods, and `act` gives the instructions that follow from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dagtrain.engines.ranks.attempt import Attempt
from dagtrain.engines.ranks.instructions import (
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
from dagtrain.engines.ranks.roster import Roster

__all__ = ["ENDING", "Conductor"]


ENDING = 0.05
"""The part of a segment's time that its end should take at most."""
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds before the second attempt in a row that has learnt nothing, and most."""


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
    roster
        What is known of the workers from before.
    base
        Steps of training before these, for what is told.
    """

    def __init__(
        self,
        steps: int,
        lanes: int,
        now: float,
        patience: Patience | None = None,
        pace: Pace | None = None,
        beyond: int = 0,
        roster: Roster | None = None,
        base: int = 0,
    ) -> None:
        self.total, self.beyond, self.lanes, self.now, self.base = steps, beyond, lanes, now, base
        self.patience = patience or Patience()
        self.pace = pace
        self.roster = roster or Roster(self.patience.cut, self.patience.again)
        self.committed = Held(0)
        self.safe = Held(0)
        """The last state that the client has."""
        self.gang: Attempt | None = None
        self.gangs = 0
        self.finished = False
        self._failures = 0
        self._last_failure = ""
        self._faults: set[frozenset[str] | str] = set()
        """What failures were blamed on, without a committed segment between."""
        self._not_before = now
        self._without = now
        """When a worker could last take a task."""
        self._stopping = False
        self._largest = 1

    # ---- events

    def continue_from(self, before: Conductor) -> None:
        """Go on with the gang of the stretch before, which ended where this one begins."""
        assert before.gang is not None, "there is a gang to go on with"
        gang, steps = before.gang, before.committed.step
        gang.began = gang.moved = self.now
        gang.under_way = [segment._replace(first=segment.first - steps) for segment in gang.under_way]
        self.committed, self.gangs, self.gang = before.committed._replace(step=0), before.gangs, gang
        self._largest = before._largest

    def tick(self, now: float) -> None:
        """Time goes by."""
        self.now = now

    def workers(
        self,
        present: Iterable[str],
        leaving: Iterable[str] = (),
        gone: Mapping[str, str] | None = None,
        paused: Iterable[str] = (),
        busy: Mapping[str, str] | None = None,
    ) -> None:
        """What the scheduler knows of its workers, see `Roster.seen`; `gone` says why some are not there any more."""
        self.roster.seen(self.now, present, leaving, paused, busy)
        for worker in self.gang.workers if self.gang is not None else ():
            if worker not in self.roster.present:
                why = (gone or {}).get(worker)
                self.gang.fail(f"worker {worker} was lost" + (f": {why}" if why else ""))  # type: ignore[union-attr]  # there is one

    def placed(self, gang: int, workers: tuple[str, ...]) -> None:
        """The workers of a gang in the order of its lanes."""
        if (current := self._current(gang)) is not None:
            current.workers = workers

    def begun(self, gang: int, segment: int, lane: int) -> None:
        """The task of a lane in a segment runs."""
        if (current := self._current(gang)) is not None:
            current.moved = self.now
            current.begun.setdefault(segment, set()).add(lane)

    def started(self, gang: int) -> None:
        """All lanes of a gang have met."""
        if (current := self._current(gang)) is not None:
            current.started, current.moved = True, self.now

    def news(self, gang: int) -> None:
        """A gang reports that it gets on."""
        if (current := self._current(gang)) is not None:
            current.moved = self.now

    def reported(self, gang: int, segment: int, lane: int, seconds: float = 0.0, ending: float = 0.0) -> None:
        """A lane has done a segment, after so many seconds, the last of them for its end, and holds its state."""
        current = self._current(gang)
        if current is None:
            return
        current.started, current.moved = True, self.now
        current.reported.setdefault(segment, set()).add(lane)
        if seconds and lane == 0 and current.under_way and current.under_way[0].segment == segment:
            usual = ending if self.pace is None else min(ending, 2 * self.pace.ending)  # one that was held up once says little
            self.pace = Pace(max(seconds - ending, 0.0) / current.under_way[0].steps, usual)

    def failed(
        self,
        gang: int,
        why: str,
        cut: Iterable[tuple[str, str]] = (),
        silent: Iterable[str] = (),
        fault: Iterable[str] | str = "",
        final: bool = False,
    ) -> None:
        """A gang could not go on.

        Between the pairs in `cut` the network failed: they are kept apart. The workers in `silent` are there, and nothing came from
        them: they are left out. What is the `fault` of a worker, of two, or of something that has a name may pass; the second time a
        worker is left out, two are kept apart, and of anything else it is the end. What is `final` would come again.
        """
        current = self._current(gang)
        if current is None:
            return
        for pair in cut:
            self.roster.part(pair, self.now)
            current.learnt = True
        if not current.broken:
            current.learnt |= self.roster.leave_out(dict.fromkeys(silent, why), self.now)
        current.fail(why, fault if isinstance(fault, str) else frozenset(fault), final)

    def inquired(self, gang: int, waiting: Iterable[int], unfinished: int, hindered: Mapping[str, str]) -> None:
        """What a gang's tasks wait for.

        Lanes whose tasks are `waiting` for others, of which so many are `unfinished`; workers on which some of these are, and cannot
        begin, and why.
        """
        if (current := self._current(gang)) is not None:
            current.answered(self.now, frozenset(waiting), unfinished, hindered)

    def probed(self, reached: Iterable[tuple[str, str]], cut: Iterable[tuple[str, str]]) -> None:
        """Pairs of workers that reach each other, and pairs that do not."""
        for pair in reached:
            self.roster.join(pair)
        gang = self.gang
        for pair in cut:
            if gang is not None and set(pair) <= set(gang.workers):
                if gang.started and not gang.late():
                    continue  # it gets on: they do
                gang.fail(f"workers {min(pair)} and {max(pair)} do not reach each other, though the scheduler reaches both")
                gang.learnt = True
            self.roster.part(pair, self.now)

    def stateless(self, gang: int) -> None:
        """The worker from which a gang was to have its state has it no more."""
        if self._current(gang) is not None:
            self.failed(gang, "the state was lost where it lay")
            self.lost()

    def lost(self) -> None:
        """The committed state could not be had from anywhere: go on from the client's copy."""
        self.committed, self.finished = self.safe, False
        if self.gang is not None:  # what it has done since cannot be had either
            self.gang.reported.clear()

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
            found += self._look_after(self.gang)
        if self.finished:
            return found
        due = self.roster.due(self.now)
        if due:
            found.append(Probe(tuple(due)))
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

    @property
    def step(self) -> int:
        """The step of training that is committed."""
        return self.base + self.committed.step

    def _current(self, gang: int) -> Attempt | None:
        return self.gang if self.gang is not None and self.gang.number == gang else None

    def _commit(self) -> list[Action]:
        gang, found = self.gang, list[Action]()
        while gang is not None and self._wanted_under_way:
            segment = gang.under_way[0]
            if len(gang.reported.get(segment.segment, ())) < len(gang.workers):
                break
            gang.under_way.pop(0)
            gang.reported.pop(segment.segment)
            gang.begun.pop(segment.segment, None)
            self.committed = Held(segment.first + segment.steps, gang.number, segment.segment, gang.workers)
            self._failures, self._largest = 0, max(self._largest, segment.steps)
            self._faults.clear()
            self.roster.proved(gang.workers)
            found.append(Commit(gang.number, segment.segment, segment.first, segment.steps))
            if len(gang.workers) == 1 and self.committed.step < self.total:
                found.append(Fetch(self.committed))
        return found

    def _look_after(self, gang: Attempt) -> list[Action]:
        found = gang.look_for_late(self.now, self.patience, self.roster)
        if gang.broken:
            return [*found, *self._fail(gang)]
        if not gang.hindered:
            self._without = self.now
        elif self.now - self._without > self.patience.workers:
            self.gang, self.finished = None, True
            return [Abandon(gang.number, "no worker can take a task", failure=True), self._no_worker(gang.hindered)]
        if not gang.draining:
            better = self.roster.choose(self.lanes, gang.workers)
            if better and set(better) != set(gang.workers):
                unfit = self.roster.unfit()
                gone, new = sorted(set(gang.workers) - set(better)), sorted(set(better) - set(gang.workers))
                why = [w + (f" ({unfit[w]})" if w in unfit else "") for w in gone]
                gang.draining = "; ".join(
                    [*(["workers leave: " + ", ".join(why)] if gone else []), *(["workers joined: " + ", ".join(new)] if new else [])]
                )
        if gang.draining and not gang.under_way and self.committed.step < self.total:
            self.gang = None
            found.append(Abandon(gang.number, gang.draining, failure=False))
        return found

    def _fail(self, gang: Attempt) -> list[Action]:
        """A gang is broken: learn from it, or wait before the next."""
        self.gang = None
        self._failures += 1
        self._last_failure = gang.broken
        if gang.fault in self._faults and not gang.learnt:
            if isinstance(gang.fault, str):
                gang.final = True
            elif len(gang.fault) > 1:
                self.roster.part(gang.fault, self.now)
                gang.learnt = True
            else:
                gang.learnt = self.roster.leave_out(dict.fromkeys(gang.fault & self.roster.present, gang.broken), self.now)
        if gang.fault:
            self._faults.add(gang.fault)
        found: list[Action] = [Abandon(gang.number, gang.broken, failure=True)]
        if gang.final or self._failures >= self.patience.failures:
            self.finished = True
            if gang.final:
                why = f"at step {self.step}: {gang.broken}. Another attempt would fail as well"
            else:
                why = f"{self._failures} attempts failed in a row at step {self.step}; the last time: {gang.broken}"
            return [*found, GiveUp(why)]
        if not gang.learnt and self._failures > 1:
            self._not_before = self.now + min(_PAUSE * 2 ** (self._failures - 2), _LONGEST_PAUSE)
        return found

    def _begin(self) -> list[Action]:
        chosen = self.roster.choose(self.lanes)
        if not chosen:
            if self.now - self._without > self.patience.workers:
                self.finished = True
                return [self._no_worker({})]
            return []
        if self.now < self._not_before:
            return []
        self.gang = Attempt(self.gangs, chosen, self.now, self.now)
        self.gangs += 1
        holders = [w for w in self.committed.workers if w in self.roster.present]
        if self.committed.gang >= 0:
            self.committed = self.committed._replace(workers=tuple(holders)) if holders else self.safe
        return [Begin(self.gang.number, chosen)]

    def _no_worker(self, hindered: Mapping[str, str]) -> GiveUp:
        """Nobody can take a task, and nobody could for too long."""
        limit = f"{self.patience.workers:g} s"
        if self.roster.present:
            reasons = "; ".join(f"{w}: {why}" for w, why in sorted((self.roster.unfit() | dict(hindered)).items()))
            return GiveUp(f"no worker can take a task, and none could for {limit}, at step {self.step}: {reasons}")
        last = f" The last failure: {self._last_failure}." if self._last_failure else ""
        return GiveUp(f"no worker is left on the cluster, and none came for {limit}, at step {self.step}.{last}")

    def _submit(self, gang: Attempt) -> list[Action]:
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
                gang.moved = self.now
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
