"""Who is taken for dead: a state machine without I/O.

    heartbeat, report, answer ──▶ heard                       silent for half the limit ──▶ Ask the worker, and its nanny

    silent for the limit      its nanny answers               the process has stopped: End it; the nanny starts another
                              its nanny does not, or it       its host is out of reach, or frozen: Leave it out until it is
                              has none                        heard again; nothing is taken from the cluster
                              so for all hosts, or for most   one cause, and it is the scheduler's: wait for it to pass

One worker's silence tells of that worker; the silence of all tells of the listener. For the same reason the time that it is given should
be an `AwakeClock`'s: in a machine that was suspended every clock has moved on, and no worker has had a chance to speak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Ask", "End", "LeaveOut", "Liveness", "Verdict"]

_MOST = 2.0
"""For how many limits more to wait where most hosts are silent, yet not all: to leave them out costs a group, not a worker."""
_START = 60.0
"""Seconds for a worker to set itself up: it reads its software from a disk that may be slow."""
_EVERY = 1.0
"""Seconds from one question to a worker to the next."""


class Ask(NamedTuple):
    """See whether a worker answers a question, or else its nanny, within some seconds."""

    worker: str
    timeout: float


class LeaveOut(NamedTuple):
    """Go on without a worker, which stays on the cluster."""

    worker: str
    why: str


class End(NamedTuple):
    """Have its nanny end a worker, and remove it from the cluster."""

    worker: str
    why: str


Verdict = Ask | LeaveOut | End


@dataclass
class _Worker:
    host: str
    heard: float
    asked: float = -1.0
    """When the last question was put; before `heard` if it is of no account any more."""
    under_way: bool = False
    """Whether that question waits for its answer."""
    alone: bool = False
    """Whether neither the worker nor its nanny answered it."""
    stopped: bool = False
    """Whether its nanny answered, and the worker did not."""
    apart: bool = False
    ending: bool = False
    new: bool = True
    """Whether it was never heard: it sets itself up."""
    furnished: bool = True
    """Whether it does not set up anything that was sent to it."""


class Liveness:
    """Judges the workers of one scheduler.

    Parameters
    ----------
    now
        The time.
    outage
        Seconds without a word from any host after which it is not waited any longer.

    Attributes
    ----------
    limit
        Seconds without a word after which a worker is judged; None while nobody cares.
    waiting
        What is waited for where the scheduler seems to be the one that is cut off; empty otherwise.
    """

    def __init__(self, now: float, outage: float) -> None:
        self.outage = outage
        self.limit: float | None = None
        self.waiting = ""
        self._workers: dict[str, _Worker] = {}
        self._clock = now
        self._since: float | None = None
        """When the wait began."""
        self._light = 0
        """Hosts that were heard then."""

    # ---- events

    def tick(self, now: float) -> None:
        """Time goes by."""
        self._clock = now

    def joined(self, worker: str, host: str) -> None:
        """A worker is there."""
        self._workers.setdefault(worker, _Worker(host, self._clock))

    def left(self, worker: str) -> None:
        """A worker is gone."""
        self._workers.pop(worker, None)

    def heard(self, worker: str) -> None:
        """A worker gave a sign of life."""
        if (found := self._workers.get(worker)) is not None:
            found.heard, found.new, found.apart, found.alone, found.stopped = self._clock, False, False, False, False

    def furnished(self, worker: str, done: bool) -> None:
        """A worker is to set something up, for which it may need all of its time, or has done so."""
        if (found := self._workers.get(worker)) is not None:
            found.furnished = done

    def answered(self, worker: str, itself: bool, nanny: bool) -> None:
        """What came of a question."""
        if (found := self._workers.get(worker)) is None:
            return
        found.under_way = False
        if itself:
            self.heard(worker)
        elif found.asked > found.heard:
            found.stopped, found.alone = nanny, not nanny

    def stayed(self, worker: str) -> None:
        """A worker could not be ended after all."""
        if (found := self._workers.get(worker)) is not None:
            found.ending = found.stopped = False

    # ---- what follows

    def silent_for(self, worker: str) -> float:
        """Seconds since a worker was heard."""
        return self._clock - self._workers[worker].heard

    @property
    def workers(self) -> set[str]:
        """All that are known."""
        return set(self._workers)

    @property
    def absent(self) -> set[str]:
        """Those that cannot be worked with now."""
        return {name for name, worker in self._workers.items() if worker.apart or worker.ending}

    def act(self) -> list[Verdict]:
        """The instructions that follow from what has happened."""
        if self.limit is None:
            self.waiting, self._since = "", None
            return []
        found = self._ask(self.limit)
        for name, worker in sorted(self._workers.items()):
            if worker.stopped and not worker.ending and self.silent_for(name) >= self.limit:
                why = f"it was silent for {self.limit:g} s"
                if (worker.furnished and not worker.new) or self.silent_for(name) >= _START:
                    worker.ending = True
                    found.append(End(name, why))
                elif not worker.apart:
                    worker.apart = True
                    found.append(LeaveOut(name, f"{why} while it was set up"))
        return found + self._leave_out(self.limit)

    def _ask(self, limit: float) -> list[Verdict]:
        found: list[Verdict] = []
        for name, worker in sorted(self._workers.items()):
            quiet = self.silent_for(name) >= limit / 2 and not (worker.ending or worker.under_way)
            if quiet and (worker.asked < worker.heard or self._clock - worker.asked >= _EVERY):
                worker.asked, worker.under_way = self._clock, True
                found.append(Ask(name, limit / 4))
        return found

    def _leave_out(self, limit: float) -> list[Verdict]:
        """Those of whom nothing is heard in any way, unless so few are left that it must be the listener's fault."""
        near = {name: worker for name, worker in self._workers.items() if not (worker.apart or worker.ending)}
        dark = {worker.host for worker in near.values()} - {worker.host for worker in near.values() if not worker.alone}
        hosts = len({worker.host for worker in near.values()})
        if self._since is not None and hosts - len(dark) > self._light:  # it passes: who was not heard meanwhile may speak now
            for name in near:
                self.heard(name)
            dark, self._since = set(), None
        due = [name for name, worker in sorted(near.items()) if worker.alone and self.silent_for(name) >= limit]
        if due and len(dark) * 2 > hosts:
            if self._since is None:
                self._since, self._light = self._clock, hosts - len(dark)
            whom, bound = ("any worker", self.outage) if len(dark) == hosts else (f"{len(dark)} of {hosts} hosts", _MOST * limit)
            if self._clock - self._since < bound:
                self.waiting = f"the scheduler has not heard of {whom} for {limit:g} s: it waits up to {bound:g} s more for the network"
                return []
        self.waiting, self._since = "", None
        for name in due:
            near[name].apart = True
        return [LeaveOut(name, f"it was silent for {limit:g} s, and no nanny answers for it") for name in due]
