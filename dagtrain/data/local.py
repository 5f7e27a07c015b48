"""The order "local": each shard reads partitions of its own, one after the other, so data streams and does not move.

    partitions   │ 0 0 0 0 │ 1 1 1 │ 2 2 2 2 2 │        12 samples, 3 shards: 4 samples each
    shards       │ 0 0 0 0 │ 1 1 1   1│2 2 2 2 │        pieces of shard 1: all of partition 1, a sample of partition 2

Each epoch draws an order of a shard's pieces, and an order of the rows in each piece: a function of the partition sizes, the number of
shards, the seed and the epoch.

The number of rows that a shard takes in a step follows from a rule: of a full batch every shard gets batch_size // shards, and the rest
goes round the shards, step by step, as cards are dealt. So shards differ by one sample at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from dagtrain.data.pick import Indices

__all__ = ["LocalOrder"]


_PIECES, _ROWS = 0x706965636573, 0x726F7773


def permutation(length: int, seed: int, purpose: int, *stream: int) -> Indices:
    """A permutation drawn by Philox from (seed, purpose); the stream fills the high words of the counter, so no two overlap."""
    words = [0] * (4 - len(stream)) + list(stream)
    generator = np.random.Philox(key=np.array([seed, purpose], np.uint64), counter=np.array(words, np.uint64))
    return np.random.Generator(generator).permutation(length)


@dataclass(frozen=True)
class LocalOrder:
    """The samples of each shard, their order, and how many of them each step takes.

    Parameters
    ----------
    sizes
        Rows of each partition.
    batch_size, shards, seed
        As in `dagtrain.data.BatchPlan`; at most as many shards as samples, and as samples in a batch.

    Examples
    --------
    >>> order = LocalOrder(sizes=(4, 3, 5), batch_size=6, shards=3, seed=0)
    >>> [order.pieces(shard) for shard in range(3)]
    [[range(0, 4)], [range(4, 7), range(7, 8)], [range(8, 12)]]
    """

    sizes: tuple[int, ...]
    batch_size: int
    shards: int
    seed: int

    @cached_property
    def _ends(self) -> Indices:
        return np.cumsum(self.sizes, dtype=np.intp)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self._ends[-1])

    @cached_property
    def _starts(self) -> list[int]:
        return [s * self.samples // self.shards for s in range(self.shards + 1)]

    @cached_property
    def _turns(self) -> Sequence[int]:
        """The turn of each shard when the rest of a batch is dealt: shards with one more sample come first, and so get the last one."""
        lengths = np.diff(self._starts)
        turns = np.empty(self.shards, np.intp)
        turns[np.argsort(-lengths, kind="stable")] = np.arange(self.shards)
        return [int(t) for t in turns]

    def pieces(self, shard: int) -> list[range]:
        """The samples of a shard, one range for each partition."""
        start, stop = self._starts[shard], self._starts[shard + 1]
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        cuts = np.unique([start, *self._ends[first:last], stop])
        return [range(int(a), int(b)) for a, b in pairwise(cuts)]

    def shard(self, epoch: int, shard: int) -> Indices:
        """The samples of a shard in the order of this epoch."""
        pieces = self.pieces(shard)
        order = permutation(len(pieces), self.seed, _PIECES, shard, epoch)
        return np.concatenate([pieces[p].start + permutation(len(pieces[p]), self.seed, _ROWS, int(p), shard, epoch) for p in order])

    def taken(self, shard: int, step: int) -> int:
        """Number of its samples that a shard has used before this step."""
        full = self.samples // self.batch_size
        if step > full:
            return self._starts[shard + 1] - self._starts[shard]
        each, rest = divmod(self.batch_size, self.shards)
        return step * each + (step * rest - self._turns[shard] + self.shards - 1) // self.shards
