"""What the coordinator decides, and the sizes and deadlines by which it does: values without behaviour."""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "Abandon",
    "Action",
    "Begin",
    "Commit",
    "Done",
    "Fetch",
    "GiveUp",
    "Inquire",
    "Probe",
    "SegmentPolicy",
    "StateRef",
    "StepTime",
    "Submit",
]


class SegmentPolicy(NamedTuple):
    """Deadlines and sizes; times in seconds.

    Attributes
    ----------
    begin
        For a rank's task to begin where others have, and for ranks to meet, until it is asked what keeps them.
    start
        For the ranks of a group to begin and to meet, where nothing is known that keeps them.
    news
        Without any report from a group that has started, or any progress in what its ranks wait for.
    workers
        Without any worker that can take a task.
    again
        Until a worker that was left out is looked at again; twice as long each time, up to a minute.
    cut
        Between two looks whether workers that could not reach each other can do so again.
    failures
        Failures in a row, without a committed segment between, after which it gives up. After each that taught nothing it waits, longer
        each time.
    ahead
        Segments under way at a time.
    segment
        How long a segment should last.
    longest
        How long it may last where its end takes long: large states over slow networks.
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
    """Seconds of a step, and those of a segment's end."""

    step: float
    ending: float


class StateRef(NamedTuple):
    """Where a state lies: in the results of a group's segment on these workers, or with the client (`generation` is -1)."""

    step: int
    generation: int = -1
    segment: int = -1
    workers: tuple[str, ...] = ()


class Begin(NamedTuple):
    """Place the step on these workers."""

    generation: int
    workers: tuple[str, ...]


class Submit(NamedTuple):
    """Submit a segment; `source` is where its state comes from if it is the group's first."""

    generation: int
    segment: int
    first: int
    steps: int
    source: StateRef


class Commit(NamedTuple):
    """A segment counts."""

    generation: int
    segment: int
    first: int
    steps: int


class Fetch(NamedTuple):
    """Bring a committed state to the client, since it lies in one place only."""

    held: StateRef


class Probe(NamedTuple):
    """See which of these pairs of workers reach each other."""

    pairs: tuple[tuple[str, str], ...]


class Inquire(NamedTuple):
    """See what the tasks of a segment wait for."""

    generation: int
    segment: int


class Abandon(NamedTuple):
    """Stop a group and let go of what it has under way."""

    generation: int
    why: str
    failure: bool


class Done(NamedTuple):
    """All steps that were wanted are committed."""

    held: StateRef


class GiveUp(NamedTuple):
    """It cannot go on."""

    why: str


Action = Begin | Submit | Commit | Fetch | Probe | Inquire | Abandon | Done | GiveUp
