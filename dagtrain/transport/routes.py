"""What two ranks exchange: for each phase of a step, which pieces of whose board.

    rank 0's board                       rank 1's board
    gradient  |  out  |      | ──PARTIAL──▶  read in place (shared memory), or received into a buffer of rank 1
    parameter |  own  | into | ◀─PARAMETERS─ ...

A table is about one peer and never changes in the life of a group; so both ends know the length of every message before it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

__all__ = ["Phase", "Piece", "Table"]


class Phase(IntEnum):
    """Why ranks exchange something. A further phase needs a line here and nothing else.

    Examples
    --------
    >>> [phase.name for phase in Phase]
    ['PARTIAL', 'SQUARES', 'PARAMETERS', 'SLOTS']
    """

    PARTIAL = 0
    """Sums of subtrees of the shards' gradients, read by the owner of each block."""
    SQUARES = 1
    """Numbers for norms over the whole vector, in as many rounds a step as are needed. Each round needs elements of its own: a fast
    peer may write those of the next round before a slow one has read the last."""
    PARAMETERS = 2
    """A rank's own slice after its update, read by all."""
    SLOTS = 3
    """The optimiser's state for a rank's own slice, read by all at a segment's end."""


class Piece(NamedTuple):
    """Elements ``start`` to ``stop`` of a region of a board."""

    region: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Table:
    """What goes to one peer and what comes from it.

    Parameters
    ----------
    out : mapping of Phase to tuple of Piece
        Pieces of this rank's board that the peer gets. A phase that is not named can be posted too: a signal without data.
    into : mapping of Phase to tuple of Piece
        Pieces of the peer's board that this rank gets: the same as `out` of the peer's table about this rank.

    Examples
    --------
    >>> Table(out={Phase.PARTIAL: (Piece("gradient", 0, 10),)}).into
    {}
    """

    out: Mapping[Phase, tuple[Piece, ...]] = field(default_factory=dict)
    into: Mapping[Phase, tuple[Piece, ...]] = field(default_factory=dict)
