"""Gathering samples: which rows of which partitions they are, and where each row goes; the one place where rows are assembled.

samples  [4, 0, 5, 1]     partitions of 3 rows     ──▶   partition 0: places [1, 3] take its rows [0, 1]
                                                         partition 1: places [0, 2] take its rows [1, 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dagtrain.data.columns import Rows
from dagtrain.data.windows import joined
from dagtrain.errors import ArgumentError

__all__ = ["Gathered", "Indices", "assemble", "gather_plan", "join", "samples_of"]

Indices = np.ndarray[Any, np.dtype[np.intp]]


class Gathered(NamedTuple):
    """The samples that are in one partition: ``out[places] = partition[within]``; their numbers are ``within + first``."""

    partition: int
    places: Indices | range
    within: Indices | range
    first: int = 0


def gather_plan(samples: Indices | range, sizes: Sequence[int]) -> list[Gathered]:
    """Find the partitions of samples.

    Parameters
    ----------
    samples
        Sample numbers in order; numbers of many steps may be joined into one array, so that each partition is read once for all of them. A
        range (of step 1) gives ranges.
    sizes
        Rows of each partition.

    Returns
    -------
    list of Gathered
        One for each partition with samples, in the order of partitions; within each, places ascend.

    Raises
    ------
    ArgumentError
        If a number is not that of a sample.

    Examples
    --------
    >>> for partition, places, within, first in gather_plan(np.array([4, 0, 5, 1]), sizes=(3, 3)):
    ...     print(partition, places, within, first)
    0 [1 3] [0 1] 0
    1 [0 2] [1 2] 3
    """
    ends = np.cumsum(sizes, dtype=np.intp)
    if not len(samples):
        return []
    lowest, highest = (samples[0], samples[-1]) if isinstance(samples, range) else (samples.min(), samples.max())
    if lowest < 0 or highest >= ends[-1]:
        raise ArgumentError(f"samples are counted from 0 to {ends[-1] - 1}, got {lowest} to {highest}.")
    if isinstance(samples, range):
        near, far = np.searchsorted(ends, [lowest, highest], side="right")
        parts = [_consecutive(samples, p, int(ends[p]) - sizes[p], int(ends[p])) for p in range(near, far + 1)]
        return [part for part in parts if len(part.places)]
    # NumPy sorts 16-bit integers by radix, in linear time.
    dtype = np.int16 if len(ends) <= np.iinfo(np.int16).max else np.intp
    held_by = np.searchsorted(ends, samples, side="right").astype(dtype)
    order = np.argsort(held_by, kind="stable")
    held_by = held_by[order]
    cuts = np.flatnonzero(np.diff(held_by)) + 1
    picks = []
    for a, b in pairwise([0, *cuts.tolist(), len(order)]):
        places, partition = order[a:b], int(held_by[a])
        first = int(ends[partition]) - sizes[partition]
        picks.append(Gathered(partition, places, samples[places] - first, first))
    return picks


def _consecutive(samples: range, partition: int, first: int, end: int) -> Gathered:
    """The consecutive samples that are in a partition with the samples from `first` to below `end`."""
    start, stop = max(samples.start, first), min(samples.stop, end)
    return Gathered(partition, range(start - samples.start, stop - samples.start), range(start - first, stop - first), first)


def samples_of(picks: Sequence[Gathered]) -> Indices:
    """The numbers of the samples that `assemble` gathers, in their order."""
    samples = np.empty(sum(len(p.places) for p in picks), np.intp)
    for pick in picks:
        samples[_index(pick.places)] = np.asarray(pick.within) + pick.first
    return samples


def assemble(picks: Sequence[Gathered], partitions: Sequence[Rows], out: Rows | None = None) -> Rows:
    """Gather rows from partitions, in the order of the samples.

    Parameters
    ----------
    picks
        For each partition, which rows go where.
    partitions
        One for each pick, with the same columns.
    out
        Where the rows go; new arrays by default.

    Examples
    --------
    >>> x = np.arange(6)
    >>> assemble(gather_plan(np.array([4, 0, 5, 1]), sizes=(3, 3)), [(x[:3],), (x[3:],)])
    (array([4, 0, 5, 1]),)
    """
    if out is None:
        count = sum(len(p.places) for p in picks)
        out = tuple(np.empty((count, *column.shape[1:]), column.dtype) for column in partitions[0])
    for pick, partition in zip(picks, partitions, strict=True):
        places, within = _index(pick.places), _index(pick.within)
        for target, source in zip(out, partition, strict=True):
            target[places] = source[within]
    return out


def join(partitions: Sequence[Rows]) -> Rows:
    """All rows of partitions, one after the other; windows that go on from each to the next stay views."""
    if len(partitions) == 1:
        return partitions[0]
    sizes = [len(partition[0]) for partition in partitions]
    return joined(partitions) or assemble(gather_plan(range(sum(sizes)), sizes), partitions)


def _index(numbers: Indices | range) -> Indices | slice:
    return slice(numbers.start, numbers.stop) if isinstance(numbers, range) else numbers
