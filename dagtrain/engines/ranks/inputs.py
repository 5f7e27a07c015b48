"""The rows of a segment in a rank, assembled from data that Dask brings to its worker.

    small data     every rank has all partitions, and takes rows from them          (resident)
    other data     pick tasks take a segment's rows for each rank, on the workers that hold the partitions; Dask moves the
                   rows to the rank while it runs earlier segments                  (picked)

A `RankInput` describes them: it is small, and part of the task. `SegmentRows.used` reports the samples that were taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from dagtrain.data.columns import Rows
from dagtrain.data.pick import Gathered, assemble, join, samples_of
from dagtrain.data.windows import shared_rows, take_rows
from dagtrain.graph import Array
from dagtrain.step.layout import settled

__all__ = ["PickedRows", "RankBatches", "RankInput", "batches_of_rank", "pick_rows"]


class PickedRows(NamedTuple):
    """Rows that a pick task took from partitions: their places in the segment, their sample numbers, and the rows."""

    places: Array
    samples: Array
    rows: Rows


def pick_rows(picks: Sequence[Gathered], *partitions: Rows) -> PickedRows:
    """Task: the picked rows of these partitions, one partition after the other."""
    ends = accumulate((len(p.places) for p in picks), initial=0)
    in_a_row = [p._replace(places=range(a, b)) for p, (a, b) in zip(picks, pairwise(ends), strict=True)]
    return PickedRows(np.concatenate([p.places for p in picks]), samples_of(in_a_row), assemble(in_a_row, partitions))


class RankBatches(NamedTuple):
    """A rank's part of a segment: its rows, in the order of steps and shards, and the range of each shard of each step.

    Attributes
    ----------
    rows
        Sample numbers.
    cuts
        For each step, ``(shard, start, stop)`` in `rows`, without shards that have no samples.
    """

    rows: Array
    cuts: tuple[tuple[tuple[int, int, int], ...], ...]


def batches_of_rank(shards: Sequence[int], batches: Sequence[Sequence[Array]]) -> RankBatches:
    """The part of these steps that belongs to a rank with these shards.

    Examples
    --------
    >>> part = batches_of_rank([1], [[np.array([0, 1]), np.array([2, 3])], [np.array([4]), np.array([])]])
    >>> part.rows.tolist(), part.cuts
    ([2, 3], (((1, 0, 2),), ()))
    """
    rows, cuts, start = [], [], 0
    for batch in batches:
        step = []
        for shard in shards:
            count = len(batch[shard])
            if count:
                rows.append(batch[shard])
                step.append((shard, start, start + count))
                start += count
        cuts.append(tuple(step))
    return RankBatches(np.concatenate(rows).astype(np.int64) if rows else np.empty(0, np.int64), tuple(cuts))


class RankInput(NamedTuple):
    """The description of a rank's rows.

    Attributes
    ----------
    batches
        Numbers of the rows, and how they are cut.
    columns
        Shape and dtype of a row of each column.
    resident
        Name under which the rank keeps all partitions; empty for picked rows.
    """

    batches: RankBatches
    columns: tuple[tuple[tuple[int, ...], str], ...]
    resident: str = ""

    def open(self, data: Sequence[Any], memory: dict[str, Any]) -> SegmentRows:
        """The rows, from the task's inputs: all partitions (in the first segment; `memory` has them later), or picked rows."""
        if self.resident:
            if self.resident not in memory:
                memory.clear()
                memory[self.resident] = _join(data)
            return SegmentRows(self, memory[self.resident], memory)
        count = len(self.batches.rows)
        arrays = self.empty(count)
        samples = np.full(count, -1)
        for part in data:
            samples[part.places] = part.samples
        assemble([Gathered(0, part.places, range(len(part.places))) for part in data], [part.rows for part in data], arrays)
        return SegmentRows(self, arrays, memory, samples)

    def empty(self, count: int) -> Rows:
        """Memory for this many rows."""
        return tuple(np.empty((count, *shape), dtype) for shape, dtype in self.columns)


class SegmentRows:
    """The rows of a segment in a rank: ``step(i)`` returns those of its shards.

    Consecutive rows are views; others are copied to memory that the next step overwrites.
    """

    def __init__(self, input: RankInput, arrays: Rows, memory: dict[str, Any], samples: Array | None = None) -> None:
        self.input, self.arrays, self.samples = input, arrays, samples
        self._buffers: dict[tuple[int, int], Rows] = memory.setdefault("buffers", {})
        # Picked rows are in the order of the steps.
        rows = input.batches.rows if samples is None else np.arange(len(input.batches.rows))
        self._first = rows.tolist()
        self._windows = any(shared_rows(column) is not None for column in arrays)
        self._jumps = np.cumsum(np.diff(rows, prepend=rows[:1]) != 1).tolist()

    def step(self, i: int) -> dict[int, Rows]:
        """The rows of each shard that has any."""
        rows = {}
        for shard, start, stop in self.input.batches.cuts[i]:
            rows[shard] = self._view(start, stop) or self._copied(shard, start, stop)
        return rows

    def _view(self, start: int, stop: int) -> Rows | None:
        """A view of these rows if they are consecutive, otherwise None."""
        if self._jumps[stop - 1] != self._jumps[start] or self._windows:
            return None
        first, last = self._first[start], self._first[start] + stop - start
        return tuple(column[first:last] for column in self.arrays)

    def _copied(self, shard: int, start: int, stop: int) -> Rows:
        rows = self._buffer(shard, stop - start)
        for target, source in zip(rows, self.arrays, strict=True):
            if self.samples is None:
                take_rows(source, self.input.batches.rows[start:stop], target)
            else:
                np.copyto(target, source[start:stop])
        return rows

    def used(self) -> dict[str, bytes]:
        """The samples that were taken, and their number for each shard in each step."""
        rows = self.input.batches.rows if self.samples is None else self.samples
        cuts = [(i, shard, stop - start) for i, cuts in enumerate(self.input.batches.cuts) for shard, start, stop in cuts]
        return {"rows": rows.astype("<i8").tobytes(), "cuts": np.array(cuts, "<i4").tobytes()}

    def _buffer(self, shard: int, count: int) -> Rows:
        buffer = self._buffers.get((shard, count))
        if buffer is None:
            buffer = self._buffers[shard, count] = self.input.empty(count)
        return buffer


def _join(partitions: Sequence[Rows]) -> Rows:
    """All rows in memory of their own: from the unaligned memory of a message, NumPy would copy all of them for every shard."""
    return tuple(column if shared_rows(column) is not None else settled(column) for column in join(partitions))
