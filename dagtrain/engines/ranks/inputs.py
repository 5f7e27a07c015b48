"""How rows come to ranks: what a rank needs for a segment, put together from what Dask brings to its worker.

    small data     every rank has all partitions, and takes rows from them          (resident)
    other data     pick tasks, where the partitions lie, take a segment's rows for each rank; Dask brings them there while
                   the segments before are running                                  (picked)

A `RankInput` is the rank's side: small, and part of the task. `used` tells which samples were really taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from dagtrain.data.pick import Gathered, Partition, assemble, gather_plan, samples_of
from dagtrain.engines.ranks.arithmetic import Rows
from dagtrain.graph import Array
from dagtrain.step.layout import settled

__all__ = ["PickedRows", "RankBatches", "RankInput", "batches_of_rank", "pick_rows"]


class PickedRows(NamedTuple):
    """Rows that a pick task took from some partitions: their places in the segment, which samples they are, and the rows."""

    places: Array
    samples: Array
    x: Array
    y: Array | None


def pick_rows(picks: Sequence[Gathered], *partitions: Partition) -> PickedRows:
    """Task: the rows that are picked from some partitions, one partition after the other."""
    ends = accumulate((len(p.places) for p in picks), initial=0)
    in_a_row = [p._replace(places=range(a, b)) for p, (a, b) in zip(picks, pairwise(ends), strict=True)]
    return PickedRows(np.concatenate([p.places for p in picks]), samples_of(in_a_row), *assemble(in_a_row, partitions))


class RankBatches(NamedTuple):
    """A rank's part of a segment: its rows, in the order of steps and shards, and where each shard of each step begins and ends.

    Attributes
    ----------
    rows
        Sample numbers.
    cuts
        For each step, ``(shard, start, stop)`` in `rows`; shards without samples are left out.
    """

    rows: Array
    cuts: tuple[tuple[tuple[int, int, int], ...], ...]


def batches_of_rank(shards: Sequence[int], batches: Sequence[Sequence[Array]]) -> RankBatches:
    """The part of these steps that belongs to a rank with these shards.

    Examples
    --------
    >>> share = batches_of_rank([1], [[np.array([0, 1]), np.array([2, 3])], [np.array([4]), np.array([])]])
    >>> share.rows.tolist(), share.cuts
    ([2, 3], (((1, 0, 2),), ()))
    """
    rows, cuts, at = [], [], 0
    for batch in batches:
        step = []
        for shard in shards:
            count = len(batch[shard])
            if count:
                rows.append(batch[shard])
                step.append((shard, at, at + count))
                at += count
        cuts.append(tuple(step))
    return RankBatches(np.concatenate(rows).astype(np.int64) if rows else np.empty(0, np.int64), tuple(cuts))


class RankInput(NamedTuple):
    """What a rank is told of its rows.

    Attributes
    ----------
    share
        Which rows, and how they are cut.
    x, y
        Shape and dtype of a row.
    resident
        Name under which the rank keeps all partitions; empty for rows that were picked.
    """

    share: RankBatches
    x: tuple[tuple[int, ...], str]
    y: tuple[tuple[int, ...], str] | None
    resident: str = ""

    def open(self, data: Sequence[Any], kept: dict[str, Any]) -> SegmentRows:
        """The rows, from what Dask brought: all partitions (for the first segment; then `kept` has them), or what was picked."""
        if self.resident:
            if self.resident not in kept:
                kept.clear()
                kept[self.resident] = _join(data)
            return SegmentRows(self, kept[self.resident], kept)
        count = len(self.share.rows)
        x = np.empty((count, *self.x[0]), self.x[1])
        y = None if self.y is None else np.empty((count, *self.y[0]), self.y[1])
        samples = np.full(count, -1)
        for part in data:
            samples[part.places] = part.samples
        assemble([Gathered(0, part.places, range(len(part.x))) for part in data], [(part.x, part.y) for part in data], (x, y))
        return SegmentRows(self, (x, y), kept, samples)


class SegmentRows:
    """The rows of a segment in a rank: ``step(i)`` gives those of its shards.

    Rows that lie in a row are given as they lie; others in memory that the next step uses again.
    """

    def __init__(self, input: RankInput, arrays: tuple[Array, Array | None], kept: dict[str, Any], samples: Array | None = None) -> None:
        self.input, self.arrays, self.samples = input, arrays, samples
        self._buffers: dict[tuple[int, int], Rows] = kept.setdefault("buffers", {})
        # What was picked lies in the order of the steps.
        rows = input.share.rows if samples is None else np.arange(len(input.share.rows))
        self._first = rows.tolist()
        self._jumps = np.cumsum(np.diff(rows, prepend=rows[:1]) != 1).tolist()

    def step(self, i: int) -> dict[int, Rows]:
        """The rows of each shard that has any."""
        found = {}
        for shard, start, stop in self.input.share.cuts[i]:
            found[shard] = self._in_a_row(start, stop) or self._copied(shard, start, stop)
        return found

    def _in_a_row(self, start: int, stop: int) -> Rows | None:
        """Rows as they lie, where they can be taken so."""
        if self._jumps[stop - 1] != self._jumps[start]:
            return None
        first, last = self._first[start], self._first[start] + stop - start
        x, y = self.arrays
        return Rows(x[first:last], None if y is None else y[first:last])

    def _copied(self, shard: int, start: int, stop: int) -> Rows:
        rows = self._buffer(shard, stop - start)
        for target, source in zip(rows, self.arrays, strict=True):
            if target is None or source is None:
                continue
            if self.samples is None:  # the rows were checked: "clip" only spares NumPy a copy
                np.take(source, self.input.share.rows[start:stop], axis=0, out=target, mode="clip")
            else:
                np.copyto(target, source[start:stop])
        return rows

    def used(self) -> dict[str, bytes]:
        """The samples that were taken, and how many by each shard in each step."""
        rows = self.input.share.rows if self.samples is None else self.samples
        cuts = [(i, shard, stop - start) for i, cuts in enumerate(self.input.share.cuts) for shard, start, stop in cuts]
        return {"rows": rows.astype("<i8").tobytes(), "cuts": np.array(cuts, "<i4").tobytes()}

    def _buffer(self, shard: int, count: int) -> Rows:
        found = self._buffers.get((shard, count))
        if found is None:
            x, y = self.input.x, self.input.y
            found = self._buffers[shard, count] = Rows(
                np.empty((count, *x[0]), x[1]), None if y is None else np.empty((count, *y[0]), y[1])
            )
        return found


def _join(partitions: Sequence[Partition]) -> Partition:
    """All rows, laid so that NumPy can take some of them alone: as a message leaves them, it would copy all of them for every shard."""
    sizes = [len(x) for x, _ in partitions]
    x, y = partitions[0] if len(partitions) == 1 else assemble(gather_plan(range(sum(sizes)), sizes), partitions)
    return settled(x), None if y is None else settled(y)
