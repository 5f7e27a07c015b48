"""What the coordinator decides, and the sizes and deadlines by which it does: values without behaviour."""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "Abandon",
    "Action",
    "Begin",
    "Commit",
    "Fetch",
    "GiveUp",
    "Held",
    "Inquire",
    "Missing",
    "Probe",
    "SegmentPolicy",
    "StepTime",
    "Submit",
]


class SegmentPolicy(NamedTuple):
    """Deadlines and sizes; times in seconds.

    Attributes
    ----------
    begin
        For a rank's task to begin after others have, and for ranks to meet, before the scheduler is asked what holds them up.
    start
        For the ranks of a group to begin and to meet, if nothing is known to hold them up.
    news
        Without a report from a started group, or progress of the tasks that its ranks wait for.
    workers
        Without a worker that can take a task.
    again
        Until a worker that was left out is tried again; doubles each time, up to a minute.
    cut
        Between two probes of workers that do not reach each other, at most: the first comes sooner.
    failures
        Failures in a row, without a committed segment between, before training gives up. After one that taught nothing the next
        attempt is delayed, longer each time.
    ahead
        Segments submitted ahead.
    segment
        Length of a segment.
    longest
        Length of a segment whose end takes long: large states over slow networks.
    most
        Steps of the longest segment.
    """

    begin: float = 3.0
    start: float = 60.0
    news: float = 600.0
    workers: float = 60.0
    again: float = 1.0
    cut: float = 30.0
    failures: int = 8
    ahead: int = 3
    segment: float = 0.5
    longest: float = 10.0
    most: int = 4096


class StepTime(NamedTuple):
    """Seconds of a step, and of a segment's end."""

    step: float
    ending: float


class Held(NamedTuple):
    """Where the state after a step is: the result of a group's segment on these workers, or with the client (`generation` is -1)."""

    step: int
    generation: int = -1
    segment: int = -1
    workers: tuple[str, ...] = ()


class Begin(NamedTuple):
    """Place the step on these workers."""

    generation: int
    workers: tuple[str, ...]


class Submit(NamedTuple):
    """Submit a segment; `source` has the state, if it is the group's first."""

    generation: int
    segment: int
    first: int
    steps: int
    source: Held


class Commit(NamedTuple):
    """A segment counts."""

    generation: int
    segment: int
    first: int
    steps: int


class Fetch(NamedTuple):
    """Copy a committed state to the client, since only one worker holds it."""

    held: Held


class Probe(NamedTuple):
    """Probe which of these pairs of workers reach each other."""

    pairs: tuple[tuple[str, str], ...]


class Inquire(NamedTuple):
    """Ask the scheduler what the tasks of a segment wait for."""

    generation: int
    segment: int


class Abandon(NamedTuple):
    """End a group and release its submitted segments."""

    generation: int
    why: str
    failure: bool
    workers: tuple[str, ...] = ()
    """Workers that are the reason."""


class Missing(NamedTuple):
    """Workers that the next group was to have went while there was none."""

    workers: tuple[str, ...]


class GiveUp(NamedTuple):
    """Training cannot go on."""

    why: str


Action = Begin | Submit | Commit | Fetch | Probe | Inquire | Abandon | Missing | GiveUp
