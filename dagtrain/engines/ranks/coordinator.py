"""Which segments are submitted to which group, and what follows a failure: a state machine without I/O.

    workers ──▶ group ──▶ segment 0, 1, 2, … (two or three under way) ──▶ commit in order
                 ▲                 │
                 └── abandon ◀─────┴─ a worker lost, leaving, paused or busy; a connection cut; workers joined; no news

A *group* is a placement on fixed workers; it is given up as a whole, and a new one (the next *generation*) takes the next segments. A
*segment* is a run of steps: a pure function of the state before it. It is committed once every rank has reported it. Every worker of the
group then holds its state, so any of them can supply it to the next group; if none is left, the client's copy does. When all steps are
committed the group waits for the next ones.

A failed attempt either teaches something (a worker is left out, two are kept apart) or delays the next attempt, longer each time; where
neither can help, training ends at once. `Membership` holds what is known of workers, `Attempt` the progress of a group.

Events are methods; `act` returns the actions that follow from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dagtrain.engines.ranks.actions import (
    Abandon,
    Action,
    Begin,
    Commit,
    Fetch,
    GiveUp,
    Held,
    Missing,
    Probe,
    SegmentPolicy,
    StepTime,
    Submit,
)
from dagtrain.engines.ranks.attempt import Attempt
from dagtrain.engines.ranks.membership import Membership

__all__ = ["ENDING", "Coordinator"]


ENDING = 0.05
"""Largest part of a segment's time that its end should take."""
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds of delay before a second attempt in a row that has learnt nothing, and at most."""


class Coordinator:
    """Drives steps to their end: `train` says which.

    Parameters
    ----------
    now
        The time.
    policy
        Deadlines.
    membership
        What is known of the workers.
    """

    def __init__(self, now: float, policy: SegmentPolicy | None = None, membership: Membership | None = None) -> None:
        self.now, self.total, self.ranks = now, 0, 0
        self.policy = policy or SegmentPolicy()
        self.step_time: StepTime | None = None
        """Seconds of a step and of a segment's end."""
        self.membership = membership or Membership(self.policy.cut, self.policy.again)
        self.committed = Held(0)
        self.safe = Held(0)
        """The last committed state of which the client has a copy."""
        self.group: Attempt | None = None
        self.generations = 0
        self.finished = True
        self._failures = 0
        self._last_failure = ""
        self._faults: set[frozenset[str] | str] = set()
        """What the failures since the last commit were blamed on."""
        self._not_before = now
        self._without = now
        """When a worker was last able to take a task."""
        self._next: set[str] = set()
        """Workers of the next group, while there is none."""
        self._largest = 1
        self._until: Callable[[int], int] | None = None

    # ---- events

    def train(self, start: Held, total: int, ranks: int, until: Callable[[int], int] | None = None) -> None:
        """Train from this state, of which the client has a copy, to step `total`, on at most so many ranks (the number of shards).

        The group that is there goes on: it holds this state, and has begun nothing after it. A segment ends at `until` of its first step.
        """
        self.committed, self.safe, self.total, self.ranks, self._until = start, Held(start.step), total, ranks, until
        self.finished, self._failures, self._not_before, self._without = False, 0, self.now, self.now
        self._faults.clear()
        if self.group is not None:
            self.group.began = self.group.moved = self.now

    def drop(self) -> Abandon | None:
        """Give up the group, if there is one, with what it has begun; the last committed state stays where it is."""
        group, self.group, self.finished = self.group, None, True
        return None if group is None else Abandon(group.generation, "other steps are trained on", failure=False)

    def tick(self, now: float) -> None:
        """Set the time."""
        self.now = now

    def workers(
        self,
        present: Iterable[str],
        leaving: Iterable[str] = (),
        gone: Mapping[str, str] | None = None,
        paused: Iterable[str] = (),
        busy: Mapping[str, str] | None = None,
    ) -> None:
        """The scheduler's view of its workers, see `Membership.seen`; `gone` maps lost workers to the reason."""
        self.membership.seen(self.now, present, leaving, paused, busy)
        for worker in self.group.workers if self.group is not None else ():
            if worker not in self.membership.present:
                why = (gone or {}).get(worker)
                said = f"worker {worker} was lost" + (f": {why}" if why else "")
                self.group.fail(said, workers=(worker,))  # type: ignore[union-attr]  # there is one

    def placed(self, generation: int, workers: tuple[str, ...]) -> None:
        """A group was placed on these workers, in the order of its ranks."""
        if (current := self._current(generation)) is not None:
            current.workers = workers

    def begun(self, generation: int, segment: int, rank: int) -> None:
        """A rank's task of a segment runs."""
        if (current := self._current(generation)) is not None:
            current.moved = self.now
            current.begun.setdefault(segment, set()).add(rank)

    def started(self, generation: int) -> None:
        """All ranks of a group have met."""
        if (current := self._current(generation)) is not None:
            current.started, current.moved = True, self.now

    def news(self, generation: int) -> None:
        """A group reports progress."""
        if (current := self._current(generation)) is not None:
            current.moved = self.now

    def reported(self, generation: int, segment: int, rank: int, seconds: float = 0.0, ending: float = 0.0) -> None:
        """A rank has done a segment in `seconds`, of which the end took `ending`, and holds its state."""
        current = self._current(generation)
        if current is None:
            return
        current.started, current.moved = True, self.now
        current.reported.setdefault(segment, set()).add(rank)
        if seconds and rank == 0 and current.under_way and current.under_way[0].segment == segment:
            usual = ending if self.step_time is None else min(ending, 2 * self.step_time.ending)  # one slow end says little
            self.step_time = StepTime(max(seconds - ending, 0.0) / current.under_way[0].steps, usual)

    def failed(
        self,
        generation: int,
        why: str,
        cut: Iterable[tuple[str, str]] = (),
        silent: Iterable[str] = (),
        fault: Iterable[str] | str = "",
        final: bool = False,
    ) -> None:
        """A group failed.

        The network failed between the pairs in `cut`: they are kept apart. The workers in `silent` are present but sent nothing: they
        are left out. A `fault` (of one worker, of two, or of a named cause) may pass the first time; the second time the worker is left
        out, the two are kept apart, and a named cause ends training. A `final` failure would recur, and ends training at once.
        """
        current = self._current(generation)
        if current is None:
            return
        for pair in cut:
            self.membership.part(pair, self.now)
            current.learnt = True
        if not current.broken:
            current.learnt |= self.membership.leave_out(dict.fromkeys(silent, why), self.now)
        workers = {*silent, *(w for pair in cut for w in pair), *(() if isinstance(fault, str) else fault)}
        current.fail(why, fault if isinstance(fault, str) else frozenset(fault), final, workers)

    def inquired(self, generation: int, waiting: Iterable[int], unfinished: int, hindered: Mapping[str, str]) -> None:
        """What a group's tasks wait for: ranks `waiting` for other tasks, the number of those `unfinished`, `hindered` workers → why."""
        if (current := self._current(generation)) is not None:
            current.answered(self.now, frozenset(waiting), unfinished, hindered)

    def probed(self, reached: Iterable[tuple[str, str]], cut: Iterable[tuple[str, str]]) -> None:
        """Pairs of workers that reach each other, and pairs that do not."""
        for pair in reached:
            self.membership.join(pair)
        group = self.group
        for pair in cut:
            if group is not None and set(pair) <= set(group.workers):
                if group.started and not group.late():
                    continue  # it gets on: they do
                why = f"workers {min(pair)} and {max(pair)} do not reach each other, though the scheduler reaches both"
                group.fail(why, workers=pair)
                group.learnt = True
            self.membership.part(pair, self.now)

    def stateless(self, generation: int) -> None:
        """The worker that was to supply a group's state has lost it."""
        if self._current(generation) is not None:
            self.failed(generation, "the state was lost where it lay")
            self.lost()

    def lost(self) -> None:
        """No worker has the committed state: continue from the client's copy."""
        self.committed, self.finished = self.safe, False
        if self.group is not None:  # the state after its segments cannot be had either
            self.group.reported.clear()

    def fetched(self, held: Held) -> None:
        """The client has a copy of a committed state."""
        if held.step >= self.safe.step:
            self.safe = Held(held.step)

    # ---- actions

    def act(self) -> list[Action]:
        """The actions that follow from the events so far."""
        if self.finished:
            return []
        actions: list[Action] = []
        actions += self._commit()
        if self.group is not None:
            actions += self._look_after(self.group)
        if self.finished:
            return actions
        due = self.membership.due(self.now)
        if due:
            actions.append(Probe(tuple(due)))
        if self.committed.step >= self.total:
            self.finished = True
            return actions
        if self.group is None:
            actions += self._begin()
        if self.group is not None:
            actions += self._submit(self.group)
        return actions

    def _current(self, generation: int) -> Attempt | None:
        return self.group if self.group is not None and self.group.generation == generation else None

    def _commit(self) -> list[Action]:
        """Commit at most one segment: whoever takes it may want no other."""
        group = self.group
        if group is None or not group.under_way:
            return []
        segment = group.under_way[0]
        if len(group.reported.get(segment.segment, ())) < len(group.workers):
            return []
        group.under_way.pop(0)
        group.reported.pop(segment.segment)
        group.begun.pop(segment.segment, None)
        self.committed = Held(segment.first + segment.steps, group.generation, segment.segment, group.workers)
        self._failures, self._largest = 0, max(self._largest, segment.steps)
        self._faults.clear()
        self.membership.proved(group.workers)
        commit = Commit(group.generation, segment.segment, segment.first, segment.steps)
        return [Fetch(self.committed), commit] if len(group.workers) == 1 else [commit]

    def _look_after(self, group: Attempt) -> list[Action]:
        actions = group.look_for_late(self.now, self.policy, self.membership)
        if group.broken:
            return [*actions, *self._fail(group)]
        if not group.hindered:
            self._without = self.now
        elif self.now - self._without > self.policy.workers:
            self.group, self.finished = None, True
            hindered = tuple(sorted(group.hindered))
            return [Abandon(group.generation, "no worker can take a task", True, hindered), self._no_worker(group.hindered)]
        if not group.draining:
            better = self.membership.choose(self.ranks, group.workers)
            if better and set(better) != set(group.workers):
                unfit = self.membership.unfit()
                self._next = set(better)
                gone, new = sorted(set(group.workers) - set(better)), sorted(set(better) - set(group.workers))
                group.concerned = (*gone, *new)
                why = [w + (f" ({unfit[w]})" if w in unfit else "") for w in gone]
                group.draining = "; ".join(
                    [*(["workers leave: " + ", ".join(why)] if gone else []), *(["workers joined: " + ", ".join(new)] if new else [])]
                )
        if group.draining and not group.under_way and self.committed.step < self.total:
            self.group = None
            actions.append(Abandon(group.generation, group.draining, failure=False, workers=group.concerned))
        return actions

    def _fail(self, group: Attempt) -> list[Action]:
        """Give up a broken group: learn from its failure, or delay the next."""
        self.group, self._next = None, self.membership.present & (self._next | set(group.workers))
        self._failures += 1
        self._last_failure = group.broken
        if group.fault in self._faults and not group.learnt:
            if isinstance(group.fault, str):
                group.final = True
            elif len(group.fault) > 1:
                self.membership.part(group.fault, self.now)
                group.learnt = True
            else:
                group.learnt = self.membership.leave_out(dict.fromkeys(group.fault & self.membership.present, group.broken), self.now)
        if group.fault:
            self._faults.add(group.fault)
        actions: list[Action] = [Abandon(group.generation, group.broken, failure=True, workers=group.concerned)]
        if group.final or self._failures >= self.policy.failures:
            self.finished = True
            if group.final:
                why = f"at step {self.committed.step}: {group.broken}. Another attempt would fail as well"
            else:
                why = f"{self._failures} attempts failed in a row at step {self.committed.step}; the last time: {group.broken}"
            return [*actions, GiveUp(why)]
        if not group.learnt and self._failures > 1:
            self._not_before = self.now + min(_PAUSE * 2 ** (self._failures - 2), _LONGEST_PAUSE)
        return actions

    def _begin(self) -> list[Action]:
        chosen = self.membership.choose(self.ranks)
        if not chosen:
            if self.now - self._without > self.policy.workers:
                self.finished = True
                return [self._no_worker({})]
            return []
        if self.now < self._not_before:
            return []
        self.group = Attempt(self.generations, chosen, self.now, self.now)
        self.generations += 1
        holders = [w for w in self.committed.workers if w in self.membership.present]
        if self.committed.generation >= 0:
            self.committed = self.committed._replace(workers=tuple(holders)) if holders else self.safe
        missing, self._next = tuple(sorted(self._next - self.membership.present)), set()
        return [*([Missing(missing)] if missing else []), Begin(self.group.generation, chosen)]

    def _no_worker(self, hindered: Mapping[str, str]) -> GiveUp:
        """No worker has been able to take a task for too long."""
        limit = f"{self.policy.workers:g} s"
        if self.membership.present:
            reasons = "; ".join(f"{w}: {why}" for w, why in sorted((self.membership.unfit() | dict(hindered)).items()))
            return GiveUp(f"no worker can take a task, and none could for {limit}, at step {self.committed.step}: {reasons}")
        last = f" The last failure: {self._last_failure}." if self._last_failure else ""
        return GiveUp(f"no worker is left on the cluster, and none came for {limit}, at step {self.committed.step}.{last}")

    def _submit(self, group: Attempt) -> list[Action]:
        actions: list[Action] = []
        last = group.under_way[-1] if group.under_way else None
        first = last.first + last.steps if last else self.committed.step
        # What is submitted may be dropped; so submit long segments only one ahead.
        ahead = self.policy.ahead if self._length() <= self.policy.segment else min(self.policy.ahead, 2)
        while first < self.total and len(group.under_way) < ahead and not group.draining:
            steps = min(self._size(), (self.total if self._until is None else self._until(first)) - first)
            segment = Submit(group.generation, group.next_segment, first, steps, self.committed)
            group.next_segment += 1
            if not group.under_way:
                group.moved = self.now
            group.under_way.append(segment)
            actions.append(segment)
            first += steps
        return actions

    def _length(self) -> float:
        """Seconds that a segment should last: longer where its end takes long."""
        return max(self.policy.segment, min((self.step_time.ending if self.step_time else 0.0) / ENDING, self.policy.longest))

    def _size(self) -> int:
        """Steps of the next segment: enough to last `_length()` seconds, at most four times the longest so far."""
        if self.step_time is None:
            return 2
        steps = int(self._length() / max(self.step_time.step, 1e-6))
        return max(1, min(steps, 4 * self._largest if self._largest > 1 else 8, self.policy.most))
