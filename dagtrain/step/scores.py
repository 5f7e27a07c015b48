"""Evaluation: the scores of the fixed pieces of rows, joined in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dagtrain.data.columns import Rows
from dagtrain.graph import Array
from dagtrain.plan import Plan
from dagtrain.step.layout import VectorLayout, settled
from dagtrain.step.state import State
from dagtrain.step.statistics import StatisticsLayout, state_leaves

__all__ = ["EVALUATED", "Scorer", "Scores", "evaluation_pieces", "join_scores"]

EVALUATED = 1024
"""Most rows evaluated at once."""


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


class Scorer:
    """Evaluates rows with plans; small when pickled."""

    def __init__(self, plans: dict[int, Plan], layout: VectorLayout, statistics: StatisticsLayout) -> None:
        self.plans, self.layout, self.statistics_layout = plans, layout, statistics

    def score(self, state: State, columns: Rows) -> Scores:
        """The scores of the rows of a piece."""
        leaves = state_leaves(self.layout, self.statistics_layout, state)
        sums, *rows = self.plans[len(columns[0])](*leaves, *map(settled, columns))
        return Scores(sums, tuple(rows))
