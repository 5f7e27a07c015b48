"""Which workers are declared dead: a state machine without I/O.

    heartbeat, report, answer ──▶ heard                       silent for half the limit ──▶ Ask the worker, and its nanny

    silent for the limit      its nanny answers               the process has stopped: End it; the nanny starts another
                              its nanny does not, or it       its host is out of reach, or frozen: LeaveOut until it is
                              has none                        heard again; it stays on the cluster
                              the same for most hosts         one cause, at the scheduler: wait for it to pass

If one worker is silent, that worker has failed; if all are silent, the scheduler's network has. For the same reason `tick` should get the
time of an `AwakeClock`: after a suspend every clock has advanced, but no worker could send a heartbeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Ask", "End", "LeaveOut", "Liveness", "Verdict"]

_MOST = 2.0
"""Number of further limits to wait if most hosts are silent, but not all: leaving them out costs a group, not a worker."""
_START = 60.0
"""Seconds for a worker to start: it reads its software from a disk that may be slow."""
_EVERY = 1.0
"""Seconds between two requests to a worker."""


class Ask(NamedTuple):
    """Test whether a worker answers within `timeout` seconds, and whether its nanny does."""

    worker: str
    timeout: float


class LeaveOut(NamedTuple):
    """Continue without a worker, which stays on the cluster."""

    worker: str
    why: str


class End(NamedTuple):
    """Let a worker's nanny end it, and remove it from the cluster."""

    worker: str
    why: str


Verdict = Ask | LeaveOut | End


@dataclass
class _Worker:
    host: str
    heard: float
    last_request: float = -1.0
    """Time of the last request; before `heard` if its answer no longer matters."""
    awaits_answer: bool = False
    """Whether that request is unanswered yet."""
    unreachable: bool = False
    """Whether neither the worker nor its nanny answered."""
    stopped: bool = False
    """Whether its nanny answered, but the worker did not."""
    left_out: bool = False
    ending: bool = False
    new: bool = True
    """Whether it was never heard: it is starting."""
    furnished: bool = True
    """Whether it has set up everything that was sent to it."""


class Liveness:
    """Judges the workers of one scheduler.

    Parameters
    ----------
    now
        Current time.
    outage
        Seconds to wait while all hosts are silent.

    Attributes
    ----------
    limit
        Seconds of silence after which a worker is judged; None to judge none.
    waiting
        Message while the scheduler seems to be cut off and waits; empty otherwise.
    """

    def __init__(self, now: float, outage: float) -> None:
        self.outage = outage
        self.limit: float | None = None
        self.waiting = ""
        self._workers: dict[str, _Worker] = {}
        self._clock = now
        self._since: float | None = None
        """When the wait for the network began; None if there is none."""
        self._hosts_heard = 0
        """Number of hosts that were not silent then."""

    # ---- events

    def tick(self, now: float) -> None:
        """Set the current time."""
        self._clock = now

    def joined(self, worker: str, host: str) -> None:
        """A worker has joined the cluster."""
        self._workers.setdefault(worker, _Worker(host, self._clock))

    def left(self, worker: str) -> None:
        """A worker has left the cluster."""
        self._workers.pop(worker, None)

    def heard(self, worker: str) -> None:
        """A heartbeat or another message of a worker has arrived."""
        if (state := self._workers.get(worker)) is not None:
            state.heard, state.new, state.left_out, state.unreachable, state.stopped = self._clock, False, False, False, False

    def furnished(self, worker: str, done: bool) -> None:
        """A worker begins or has finished a setup, which may take all of its time."""
        if (state := self._workers.get(worker)) is not None:
            state.furnished = done

    def answered(self, worker: str, itself: bool, nanny: bool) -> None:
        """A request has ended: whether the worker itself answered, and whether its nanny did."""
        if (state := self._workers.get(worker)) is None:
            return
        state.awaits_answer = False
        if itself:
            self.heard(worker)
        elif state.last_request > state.heard:
            state.stopped, state.unreachable = nanny, not nanny

    def stayed(self, worker: str) -> None:
        """A worker's nanny could not end it."""
        if (state := self._workers.get(worker)) is not None:
            state.ending = state.stopped = False

    # ---- verdicts

    def silent_for(self, worker: str) -> float:
        """Seconds since the last message of a worker."""
        return self._clock - self._workers[worker].heard

    @property
    def workers(self) -> set[str]:
        """All workers of the cluster."""
        return set(self._workers)

    @property
    def absent(self) -> set[str]:
        """Workers that are left out, or being ended."""
        return {name for name, worker in self._workers.items() if worker.left_out or worker.ending}

    def act(self) -> list[Verdict]:
        """The verdicts that follow from the events so far."""
        if self.limit is None:
            self.waiting, self._since = "", None
            return []
        verdicts = self._ask(self.limit)
        for name, worker in sorted(self._workers.items()):
            if worker.stopped and not worker.ending and self.silent_for(name) >= self.limit:
                why = f"it was silent for {self.limit:g} s"
                if (worker.furnished and not worker.new) or self.silent_for(name) >= _START:
                    worker.ending = True
                    verdicts.append(End(name, why))
                elif not worker.left_out:
                    worker.left_out = True
                    verdicts.append(LeaveOut(name, f"{why} while it was set up"))
        return verdicts + self._leave_out(self.limit)

    def _ask(self, limit: float) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for name, worker in sorted(self._workers.items()):
            silent = self.silent_for(name) >= limit / 2 and not (worker.ending or worker.awaits_answer)
            if silent and (worker.last_request < worker.heard or self._clock - worker.last_request >= _EVERY):
                worker.last_request, worker.awaits_answer = self._clock, True
                verdicts.append(Ask(name, limit / 4))
        return verdicts

    def _leave_out(self, limit: float) -> list[Verdict]:
        """Leave out workers that are unreachable, unless most hosts are: then the scheduler's network is the cause."""
        present = {name: worker for name, worker in self._workers.items() if not (worker.left_out or worker.ending)}
        silent_hosts = {worker.host for worker in present.values()} - {worker.host for worker in present.values() if not worker.unreachable}
        hosts = len({worker.host for worker in present.values()})
        if self._since is not None and hosts - len(silent_hosts) > self._hosts_heard:  # the network is back: all get the full limit again
            for name in present:
                self.heard(name)
            silent_hosts, self._since = set(), None
        due = [name for name, worker in sorted(present.items()) if worker.unreachable and self.silent_for(name) >= limit]
        if due and len(silent_hosts) * 2 > hosts:
            if self._since is None:
                self._since, self._hosts_heard = self._clock, hosts - len(silent_hosts)
            all_silent = len(silent_hosts) == hosts
            sources, bound = ("any worker", self.outage) if all_silent else (f"{len(silent_hosts)} of {hosts} hosts", _MOST * limit)
            if self._clock - self._since < bound:
                self.waiting = (
                    f"the scheduler has not heard from {sources} for {limit:g} s: it waits up to {bound:g} s more for the network"
                )
                return []
        self.waiting, self._since = "", None
        for name in due:
            present[name].left_out = True
        return [LeaveOut(name, f"it was silent for {limit:g} s, and no nanny answers for it") for name in due]
