"""What two ranks exchange: for each phase of a step, spans of both windows.

    rank 0's window                       rank 1's window
    gradient  |  out  |      | ──REDUCE_SCATTER──▶  read in place (shared memory), or received into a buffer of rank 1
    parameter |  own  | into | ◀─ALL_GATHER─ ...

The routes to a peer never change in the life of a group; so both ends know the length of every message before it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

__all__ = ["Phase", "Routes", "Span"]


class Phase(IntEnum):
    """Why ranks exchange something. A further phase needs a line here and nothing else.

    Examples
    --------
    >>> [phase.name for phase in Phase]
    ['REDUCE_SCATTER', 'ALL_REDUCE_NORM', 'ALL_GATHER', 'ALL_GATHER_OPTIMIZER', 'ALL_GATHER_WEIGHTS']
    """

    REDUCE_SCATTER = 0
    """Sums of subtrees of the shards' gradients, read by the owner of each block."""
    ALL_REDUCE_NORM = 1
    """Numbers for norms over the whole vector, in one or more rounds a step. Each round needs elements of its own: a fast peer may write
    those of the next round before a slow one has read the last."""
    ALL_GATHER = 2
    """The slice of a rank after its update, read by all."""
    ALL_GATHER_OPTIMIZER = 3
    """The optimiser's state for the slice of a rank, read by all at a segment's end."""
    ALL_GATHER_WEIGHTS = 4
    """The weights of losses in a rank's shards, read by all at a step's beginning."""


class Span(NamedTuple):
    """Elements ``start`` to ``stop`` of a region of a window."""

    region: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Routes:
    """What goes to one peer and what comes from it.

    Parameters
    ----------
    out : mapping of Phase to tuple of Span
        Spans of this rank's window that the peer gets. A phase without spans can be posted too: a signal without data.
    into : mapping of Phase to tuple of Span
        Spans of the peer's window that this rank gets: `out` of the peer's routes to this rank.

    Examples
    --------
    >>> Routes(out={Phase.REDUCE_SCATTER: (Span("gradient", 0, 10),)}).into
    {}
    """

    out: Mapping[Phase, tuple[Span, ...]] = field(default_factory=dict)
    into: Mapping[Phase, tuple[Span, ...]] = field(default_factory=dict)
