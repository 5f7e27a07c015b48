"""What the driver tells ranks: of their group, and of each segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dagtrain.engines.ranks.inputs import RankInput
from dagtrain.engines.ranks.placement import Placement

__all__ = ["GroupSpec", "SegmentSpec", "Stopped"]


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
    rate_scale
        See `State`.
    feed
        Which rows.
    """

    name: str
    segment: int
    first: int
    counts: tuple[tuple[int, ...], ...]
    rate_scale: float
    feed: RankInput

    def __dask_tokenize__(self) -> str:
        return self.name


class Stopped(NamedTuple):
    """What a task gives instead of a state when its group came to an end."""

    why: str
