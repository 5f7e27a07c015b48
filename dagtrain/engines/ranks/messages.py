"""What the client, the ranks and the coordinator tell each other: values without behaviour.

GroupSpec, SegmentSpec ──▶ a rank ──▶ its state, or Stopped                   Action: what the coordinator has the client do
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dagtrain.engines.ranks.inputs import RankInput
from dagtrain.engines.ranks.placement import Placement

__all__ = [
    "Abandon",
    "Action",
    "Begin",
    "Commit",
    "Done",
    "Fetch",
    "GiveUp",
    "GroupSpec",
    "Inquire",
    "Probe",
    "SegmentPolicy",
    "SegmentSpec",
    "StateRef",
    "StepTime",
    "Stopped",
    "Submit",
]


class GroupSpec(NamedTuple):
    """What all ranks of a group are told.

    Attributes
    ----------
    run, group, number
        Name of the run, name of the group, and the group's number in the run.
    placement
        Who does what.
    token
        Lets ranks know each other.
    start
        Seconds for all ranks to meet.
    deadline
        Seconds without a word from a rank that is waited for.
    link
        Seconds after which the kernel takes a connection for broken.
    channel
        The one kind of channel to use; None for the best that each pair can do.
    by_comm
        Pairs of ranks that are known to have no socket between them: they do not try.
    """

    run: str
    group: str
    number: int
    placement: Placement
    token: bytes
    start: float
    deadline: float
    link: float
    channel: str | None = None
    by_comm: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class SegmentSpec:
    """What a rank is told of some steps.

    Attributes
    ----------
    name
        Name of the task; Dask need not look into an order to tell it from others.
    segment, first
        Number of the segment, and of its first step since the beginning of training.
    counts
        Samples of every shard in each of the steps.
    learning_rate_scale
        See `State`.
    rank_input
        Which rows.
    """

    name: str
    segment: int
    first: int
    counts: tuple[tuple[int, ...], ...]
    learning_rate_scale: float
    input: RankInput

    def __dask_tokenize__(self) -> str:
        return self.name


class Stopped(NamedTuple):
    """What a task gives instead of a state when its group came to an end."""

    why: str


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
    """Where a state lies: in the results of a group's segment on these workers, or with the client (`group` is -1)."""

    step: int
    group: int = -1
    segment: int = -1
    workers: tuple[str, ...] = ()


class Begin(NamedTuple):
    """Place the step on these workers."""

    group: int
    workers: tuple[str, ...]


class Submit(NamedTuple):
    """Submit a segment; `source` is where its state comes from if it is the group's first."""

    group: int
    segment: int
    first: int
    steps: int
    source: StateRef


class Commit(NamedTuple):
    """A segment counts."""

    group: int
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

    group: int
    segment: int


class Abandon(NamedTuple):
    """Stop a group and let go of what it has under way."""

    group: int
    why: str
    failure: bool


class Done(NamedTuple):
    """All steps that were wanted are committed."""

    held: StateRef


class GiveUp(NamedTuple):
    """It cannot go on."""

    why: str


Action = Begin | Submit | Commit | Fetch | Probe | Inquire | Abandon | Done | GiveUp
