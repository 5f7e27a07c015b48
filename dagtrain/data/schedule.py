"""`Schedule`: the steps that a session is asked to run, each a pure function of its position, and the marks among them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np  # noqa: F401  # in examples

from dagtrain.data.pick import Indices

__all__ = ["Schedule"]

Batch = Sequence[Indices]


@dataclass(frozen=True)
class Schedule:
    """Consecutive steps of training.

    Attributes
    ----------
    at
        Position → the rows in each shard of that step. It is called in any order and as often as an engine likes.
    steps
        Their number.
    lengths
        The rows that a shard may have; shards without rows do not count.
    rows
        Most rows of a step.
    every
        Steps between two marks; 0 for none. A commit ends at each mark, and at the last step.
    offset
        Steps before the first one, since a mark.
    epoch
        Steps that take all rows once; 0 where that is unknown.

    Examples
    --------
    >>> schedule = Schedule.of([[np.arange(4)], [np.arange(4, 8)], [np.arange(8, 10)]], every=2, offset=1)
    >>> len(schedule), schedule.rows, sorted(schedule.lengths)
    (3, 4, [2, 4])
    >>> [schedule.until(i) for i in range(3)]
    [1, 3, 3]
    """

    at: Callable[[int], Batch]
    steps: int
    lengths: frozenset[int]
    rows: int
    every: int = 0
    offset: int = 0
    epoch: int = 0

    @classmethod
    def of(cls, batches: Sequence[Batch], every: int = 0, offset: int = 0) -> Schedule:
        """The schedule of these steps."""
        lengths = frozenset(len(shard) for batch in batches for shard in batch if len(shard))
        return cls(batches.__getitem__, len(batches), lengths, max(map(_rows, batches), default=0), every, offset)

    def __len__(self) -> int:
        return self.steps

    def until(self, i: int) -> int:
        """The first mark after the beginning of step i, or the end."""
        if not self.every:
            return self.steps
        return min(self.steps, i + self.every - (i + self.offset) % self.every)

    def sample(self) -> list[Batch]:
        """Steps that tell which rows are used where: the first ones, at most an epoch."""
        return self.cut(0, min(self.steps, self.epoch or self.steps))

    def cut(self, first: int, end: int) -> list[Batch]:
        """The steps from `first` to below `end`."""
        return [self.at(i) for i in range(first, end)]


def _rows(batch: Collection[Indices]) -> int:
    return sum(map(len, batch))
