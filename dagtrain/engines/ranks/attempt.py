"""The progress of a group: submitted segments, ranks that have begun and finished them, and what it waits for; no I/O.

If a rank has not begun while others have, the coordinator asks the scheduler after a few seconds:

    its worker is paused, or other tasks take its threads           ──▶ leave the worker out, if there are others
    its task depends on unfinished tasks, one on such a worker      ──▶ the same
    its task depends on unfinished tasks                            ──▶ wait as long as their number changes
    none of this: probe all pairs of workers                        ──▶ keep apart those that do not reach each other
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from dagtrain.engines.ranks.actions import Action, Inquire, Probe, SegmentPolicy, Submit
from dagtrain.engines.ranks.membership import Membership

__all__ = ["Answer", "Attempt"]

_AGAIN = 1.0
"""Seconds between two inquiries."""


class Answer(NamedTuple):
    """The answer to an inquiry, and when it came."""

    when: float
    waiting: frozenset[int]
    unfinished: int
    hindered: Mapping[str, str]


@dataclass
class Attempt:
    """A group at work."""

    generation: int
    workers: tuple[str, ...]
    began: float
    moved: float
    """When it last made progress."""
    started: bool = False
    draining: str = ""
    broken: str = ""
    learnt: bool = False
    """Whether the next attempt will differ from this one."""
    final: bool = False
    """Whether any other attempt would fail in the same way."""
    fault: frozenset[str] | str = ""
    """The probable cause of its failure: workers, or a named cause."""
    concerned: tuple[str, ...] = ()
    """Workers that are the reason for its end, for the event that reports it."""
    next_segment: int = 0
    under_way: list[Submit] = field(default_factory=list)
    begun: dict[int, set[int]] = field(default_factory=dict)
    """Segment → ranks whose tasks of it run."""
    reported: dict[int, set[int]] = field(default_factory=dict)
    """Segment → ranks that have reported it."""
    probed: bool = False
    asked: float = float("-inf")
    answer: Answer | None = None
    hindered: Mapping[str, str] = field(default_factory=dict)
    """Workers that cannot begin their tasks → why."""

    def fail(self, why: str, fault: frozenset[str] | str = "", final: bool = False, workers: Iterable[str] = ()) -> None:
        """Mark it as failed, because of `workers`; the first reason counts."""
        if not self.broken:
            self.broken, self.fault, self.final, self.concerned = why, fault, final, tuple(sorted(workers))

    def late(self) -> tuple[str, ...]:
        """Workers whose ranks have not begun the next segment to be committed."""
        if not self.under_way:
            return ()
        head = self.under_way[0].segment
        here = self.begun.get(head, set()) | self.reported.get(head, set())
        return tuple(w for i, w in enumerate(self.workers) if i not in here)

    def look_for_late(self, now: float, policy: SegmentPolicy, membership: Membership) -> list[Action]:
        """Find what holds it up, and leave out the workers concerned."""
        self.hindered = {}
        if self.broken or not self.under_way:
            return []
        late, idle, actions = self.late(), now - self.moved, list[Action]()
        waiting: set[str] = set()
        if (late or not self.started) and idle > policy.begin:
            if now - self.asked >= _AGAIN:
                self.asked = now
                actions.append(Inquire(self.generation, self.under_way[0].segment))
            if self.answer is None or self.answer.when <= self.moved:
                return actions
            waiting = {self.workers[i] for i in self.answer.waiting}
            held = {w: why for w in late if w not in waiting and (why := membership.hindrance(w)) is not None}
            self.hindered = {**self.answer.hindered, **held}
            if self.hindered:
                if membership.leave_out(self.hindered, now):
                    why = "; ".join(f"worker {w} does not begin its part: {why}" for w, why in sorted(self.hindered.items()))
                    self.fail(why, workers=self.hindered)
                    self.learnt = True
                return actions
            if not self.probed and len(self.workers) > 1:
                self.probed = True
                actions.append(Probe(tuple(combinations(sorted(self.workers), 2))))
        meets = not waiting and (bool(late) or not self.started)
        limit = policy.start + policy.begin if meets else policy.news  # the ranks' own deadline, `start`, gives a better reason
        if idle > limit:
            done = self.reported.get(self.under_way[0].segment, set())
            silent = late or tuple(w for i, w in enumerate(self.workers) if i not in done)
            what = "the ranks have not met" if meets else "no news"
            self.fail(f"{what} for {limit:g} s; not heard of: {', '.join(silent)}", "silence", workers=silent)
            self.learnt = membership.leave_out(dict.fromkeys(silent, f"it was not heard of for {limit:g} s"), now)
        return actions

    def answered(self, now: float, waiting: frozenset[int], unfinished: int, hindered: Mapping[str, str]) -> None:
        """Take the answer to an inquiry; a changed number of unfinished tasks is progress."""
        if self.answer is not None and unfinished != self.answer.unfinished:
            self.moved = now
        self.answer = Answer(now, waiting, unfinished, hindered)
