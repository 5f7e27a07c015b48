"""The messages of the engine *lanes*: values without behaviour.

client ── GroupSpec, SegmentSpec: a task's arguments ──▶ rank ── its state, or Stopped: the task's result ──▶ client
rank ── Report ──▶ worker plugin ──▶ scheduler plugin ── News ──▶ client
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dagtrain.engines.ranks.inputs import RankInput
from dagtrain.engines.ranks.placement import Placement

__all__ = [
    "AtStep",
    "Begun",
    "Erred",
    "Failed",
    "GroupSpec",
    "Inquiry",
    "Met",
    "News",
    "Probed",
    "Report",
    "SegmentDone",
    "SegmentSpec",
    "StateLost",
    "Stopped",
    "WorkerState",
    "decode",
    "encode",
]


class GroupSpec(NamedTuple):
    """What the ranks of a group need to know of it.

    Attributes
    ----------
    session, name, generation
        Of the session; of the group, unique everywhere; the group's number in the session.
    placement
        Which rank does what.
    token
        The group's secret, by which ranks recognise each other.
    start
        Seconds for all ranks to meet.
    deadline
        Seconds to wait for a peer.
    link
        Seconds after which the kernel gives up a connection.
    channel
        The only kind of channel to use; None for the best of each pair.
    by_comm
        Pairs of ranks that could open no socket before: they do not try again.
    """

    session: str
    name: str
    generation: int
    placement: Placement
    token: bytes
    start: float
    deadline: float
    link: float
    channel: str | None = None
    by_comm: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class SegmentSpec:
    """What a rank needs to know of a segment.

    Attributes
    ----------
    name
        Name of the task, by which Dask tells specs apart.
    segment, first
        Number of the segment, and of its first step in training.
    counts
        Samples of each shard in each step.
    learning_rate_scale
        See `State`.
    input
        The rank's rows.
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
    """The result of a task whose group ended, in place of a state."""

    why: str


class Begun(NamedTuple):
    """A rank's task of a segment runs."""

    generation: int
    rank: int
    segment: int


class Met(NamedTuple):
    """A rank has channels to all peers; `refused` says for which peers Dask's connections are the only ones left, and why."""

    generation: int
    rank: int
    refused: tuple[tuple[int, str], ...]
    software: Mapping[str, str]


class AtStep(NamedTuple):
    """A rank begins this step of training."""

    generation: int
    rank: int
    segment: int
    step: int


class SegmentDone(NamedTuple):
    """A rank has done a segment.

    Attributes
    ----------
    seconds, ending
        How long it took, and how long its end took.
    sums
        Loss and metrics of each step as float64, from the first owner; empty from the others.
    used
        The samples that were taken, see `SegmentRows.used`.
    times
        Seconds of a step spent computing, exchanging and waiting, as a mean over the timed steps; see `SegmentTimes`.
    """

    generation: int
    rank: int
    segment: int
    seconds: float
    ending: float
    sums: bytes
    used: Mapping[str, bytes]
    times: Sequence[float] = ()


class StateLost(NamedTuple):
    """The state that a rank was to begin with is lost."""

    generation: int
    rank: int
    segment: int


class Failed(NamedTuple):
    """A rank cannot go on; `cut`, `silent`, `fault` and `final` as in `Coordinator.failed`, with ranks in place of workers."""

    generation: int
    rank: int
    segment: int
    why: str
    cut: Sequence[int] = ()
    silent: Sequence[int] = ()
    fault: Sequence[int] = ()
    final: bool = False


class Erred(NamedTuple):
    """The computation itself met an error, which would come again wherever the step is repeated."""

    generation: int
    rank: int
    segment: int
    why: str


class Probed(NamedTuple):
    """Pairs of workers that reach each other, and pairs that do not."""

    reached: Sequence[tuple[str, str]]
    cut: Sequence[tuple[str, str]]


Report = Begun | Met | AtStep | SegmentDone | StateLost | Failed | Erred | Probed
_REPORTS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Begun, Met, AtStep, SegmentDone, StateLost, Failed, Erred, Probed)}


def encode(report: Report) -> dict[str, Any]:
    """A report as a message of Dask, which carries dicts, sequences, numbers and text."""
    return {"kind": type(report).__name__, **report._asdict()}


def decode(message: Mapping[str, Any]) -> Report:
    """The report of a message.

    Examples
    --------
    >>> decode(encode(Begun(generation=0, rank=1, segment=2)))
    Begun(generation=0, rank=1, segment=2)
    """
    fields = dict(message)
    report: Report = _REPORTS[fields.pop("kind")](**fields)
    return report


class WorkerState(NamedTuple):
    """A worker that is there: its memory limit in bytes, whether it is paused, and with what its threads are busy."""

    host: str
    threads: int
    memory: int
    paused: bool
    busy: str


class News(NamedTuple):
    """What happened since the client last asked.

    Attributes
    ----------
    reports
        ``(number, worker, message)`` in the order of their arrival.
    present
        Address → what the scheduler knows of the worker.
    apart
        Workers that do not answer.
    waiting
        Why the scheduler waits for all workers at once; empty where it does not.
    leaving
        Workers that are about to close.
    gone
        Worker → why it is gone.
    """

    reports: list[tuple[int, str, dict[str, Any]]]
    present: dict[str, WorkerState]
    apart: list[str]
    waiting: str
    leaving: list[str]
    gone: dict[str, str]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> News:
        """The scheduler's answer, which may have come as Dask's message."""
        return cls(**{**answer, "present": {worker: WorkerState(*state) for worker, state in answer["present"].items()}})


class Inquiry(NamedTuple):
    """What some tasks wait for.

    Attributes
    ----------
    waiting
        Places, among the tasks asked for, of those that wait for others.
    unfinished
        Number of the others.
    hindered
        Workers that are to run one of all these and cannot begin → why.
    missing
        Number of tasks that the scheduler does not know.
    blamed
        Key of the task whose error made the first of them fail; empty where none has.
    """

    waiting: list[int]
    unfinished: int
    hindered: dict[str, str]
    missing: int
    blamed: str
