"""The order "local": each shard goes through its own partitions, one after the other, so that data streams and none of it moves.

    partitions   │ 0 0 0 0 │ 1 1 1 │ 2 2 2 2 2 │        12 samples, 3 shards: 4 samples each
    shards       │ 0 0 0 0 │ 1 1 1   1│2 2 2 2 │        pieces of shard 1: all of partition 1, a sample of partition 2

In each epoch a shard takes its pieces in a drawn order, and the rows of each piece in a drawn order. All of it is a function of the
partition sizes, the number of shards, the seed and the epoch.

Shards differ by one sample at most, so that their rows are dealt out to the steps by a rule, not drawn: of a full batch every shard gets
the whole part of batch_size / shards, and the samples that are left over go round the shards, step by step, as cards are dealt.
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


def drawn(length: int, seed: int, purpose: int, *stream: int) -> Indices:
    """A permutation by Philox from (seed, purpose); the stream is in the high words of the counter, so no two overlap."""
    words = [0] * (4 - len(stream)) + list(stream)
    generator = np.random.Philox(key=np.array([seed, purpose], np.uint64), counter=np.array(words, np.uint64))
    return np.random.Generator(generator).permutation(length)


@dataclass(frozen=True)
class LocalOrder:
    """Which samples each shard takes, in which order, and how many of them in each step.

    Parameters
    ----------
    sizes
        Rows of each partition.
    batch_size, shards, seed
        As in `dagtrain.data.BatchPlan`; there are not more shards than samples, nor than samples in a batch.

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
    def _bounds(self) -> list[int]:
        return [s * self.samples // self.shards for s in range(self.shards + 1)]

    @cached_property
    def _places(self) -> Sequence[int]:
        """Where each shard sits when the samples left over are dealt: those that hold a sample more sit first, and so get the last one."""
        lengths = np.diff(self._bounds)
        places = np.empty(self.shards, np.intp)
        places[np.argsort(-lengths, kind="stable")] = np.arange(self.shards)
        return [int(p) for p in places]

    def pieces(self, shard: int) -> list[range]:
        """The samples of a shard, cut where partitions end."""
        start, stop = self._bounds[shard], self._bounds[shard + 1]
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        cuts = np.unique([start, *self._ends[first:last], stop])
        return [range(int(a), int(b)) for a, b in pairwise(cuts)]

    def shard(self, epoch: int, shard: int) -> Indices:
        """The samples of a shard in the order in which this epoch takes them."""
        pieces = self.pieces(shard)
        turns = drawn(len(pieces), self.seed, _PIECES, shard, epoch)
        return np.concatenate([pieces[p].start + drawn(len(pieces[p]), self.seed, _ROWS, int(p), shard, epoch) for p in turns])

    def taken(self, shard: int, step: int) -> int:
        """How many of its samples a shard has used before this step."""
        full = self.samples // self.batch_size
        if step > full:
            return self._bounds[shard + 1] - self._bounds[shard]
        each, over = divmod(self.batch_size, self.shards)
        return step * each + (step * over - self._places[shard] + self.shards - 1) // self.shards
