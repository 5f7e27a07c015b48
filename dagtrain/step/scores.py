"""Evaluation: the scores of the fixed pieces of rows, joined in order.

A piece whose plan needs much memory, as with large pictures, is computed in parts. Their length is a function of the plan alone, so the
bits are the same wherever the rows lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dagtrain.data.columns import Rows
from dagtrain.graph import Array
from dagtrain.plan import Plan
from dagtrain.step.layout import VectorLayout, settled
from dagtrain.step.state import State
from dagtrain.step.statistics import StatisticsLayout, state_leaves

__all__ = ["EVALUATED", "Scorer", "Scores", "evaluation_pieces", "join_scores", "rows_at_once"]

EVALUATED = 1024
"""Most rows evaluated at once."""
MOST_BYTES = 1 << 28
"""What the plan of rows that are evaluated at once may need."""


class Scores(NamedTuple):
    """The evaluation of rows.

    Attributes
    ----------
    sums
        The parts of loss and metrics.
    rows
        For each metric that has rows, those rows.
    """

    sums: Array
    rows: Sequence[Array] = ()


def join_scores(pieces: Sequence[Scores]) -> Scores:
    """The scores of all pieces, from the first to the last: sums are added in this order, rows kept in it."""
    total = pieces[0].sums
    for piece in pieces[1:]:
        total = total + piece.sums
    return Scores(total, tuple(np.concatenate(rows) for rows in zip(*(piece.rows for piece in pieces), strict=True)))


def evaluation_pieces(samples: int) -> list[range]:
    """The fixed ranges of samples that are evaluated at once, independent of partitions.

    Examples
    --------
    >>> evaluation_pieces(1500)
    [range(0, 1024), range(1024, 1500)]
    """
    return [range(start, min(start + EVALUATED, samples)) for start in range(0, samples, EVALUATED)]


def rows_at_once(plan_of: Callable[[int], Plan], rows: int, most: int = MOST_BYTES) -> int:
    """So many of these rows, or a half, a quarter and so on (rounded up), that their plan needs at most so many bytes; one at least."""
    length = rows
    while length > 1 and (needed := plan_of(length).memory.needed) > most:
        # What a plan needs is about proportional to its rows, so its plans for the lengths between are not made.
        length = -(-length // 2 ** max(1, int(np.log2(needed / most))))
    return length


class Scorer:
    """Evaluates rows with plans; small when pickled.

    Parameters
    ----------
    plan_of
        The plan for so many rows.
    rows
        The numbers of rows that there are in a piece.
    layout, statistics
        Of the state.
    """

    def __init__(self, plan_of: Callable[[int], Plan], rows: Iterable[int], layout: VectorLayout, statistics: StatisticsLayout) -> None:
        self.layout, self.statistics_layout = layout, statistics
        self.lengths = {n: rows_at_once(plan_of, n) for n in sorted(set(rows))}
        """Rows of a piece → how many of them are computed at once."""
        self.plans = {n: plan_of(n) for m, length in self.lengths.items() for n in {length, m % length or length}}

    def score(self, state: State, columns: Rows) -> Scores:
        """The scores of the rows of a piece."""
        leaves, length, rows = state_leaves(self.layout, self.statistics_layout, state), self.lengths[len(columns[0])], len(columns[0])
        pieces = []
        for start in range(0, rows, length):
            part = [settled(column[start : start + length]) for column in columns]
            sums, *kept = self.plans[len(part[0])](*leaves, *part)
            pieces.append(Scores(sums, tuple(kept)))
        return pieces[0] if len(pieces) == 1 else join_scores(pieces)
