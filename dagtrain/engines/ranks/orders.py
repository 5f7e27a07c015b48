"""What the driver tells lanes: of their gang, and of each segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dagtrain.engines.ranks.inputs import LaneFeed
from dagtrain.engines.ranks.placement import Placement

__all__ = ["GangOrder", "SegmentOrder", "Stopped"]


class GangOrder(NamedTuple):
    """What all lanes of a gang are told.

    Attributes
    ----------
    run, gang, number
        Name of the run, name of the gang, and the gang's number in the run.
    placement
        Who does what.
    token
        Lets lanes know each other.
    start
        Seconds for all lanes to meet.
    deadline
        Seconds without a word from a lane that is waited for.
    link
        Seconds after which the kernel takes a connection for broken.
    channel
        The one kind of channel to use; None for the best that each pair can do.
    by_comm
        Pairs of lanes that are known to have no socket between them: they do not try.
    """

    run: str
    gang: str
    number: int
    placement: Placement
    token: bytes
    start: float
    deadline: float
    link: float
    channel: str | None = None
    by_comm: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class SegmentOrder:
    """What a lane is told of some steps.

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
    feed: LaneFeed

    def __dask_tokenize__(self) -> str:
        return self.name


class Stopped(NamedTuple):
    """What a task gives instead of a state when its gang came to an end."""

    why: str
