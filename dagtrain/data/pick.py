"""Which rows of which partitions make up some samples, and where each row goes: pure functions of sample numbers and partition sizes.

samples  [4, 0, 5, 1]     partitions of 3 rows     ──▶   partition 0: places [1, 3] take its rows [0, 1]
                                                         partition 1: places [0, 2] take its rows [1, 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dagtrain.errors import ArgumentError

__all__ = ["Gathered", "gather_plan"]

Indices = np.ndarray[Any, np.dtype[np.intp]]


class Gathered(NamedTuple):
    """The part of some samples that lies in one partition: ``out[places] = partition[within]``."""

    partition: int
    places: Indices
    within: Indices


def gather_plan(samples: Indices, sizes: Sequence[int]) -> list[Gathered]:
    """Where samples lie, partition by partition.

    Parameters
    ----------
    samples
        Sample numbers in the order in which they are wanted; those of many steps may be joined into one array, so that each partition is
        read once for all of them.
    sizes
        Rows of each partition.

    Returns
    -------
    list of Gathered
        One for each partition that is needed, in the order of partitions; within each, places ascend.

    Raises
    ------
    ArgumentError
        A number is not that of a sample.

    Examples
    --------
    >>> for partition, places, within in gather_plan(np.array([4, 0, 5, 1]), sizes=(3, 3)):
    ...     print(partition, places, within)
    0 [1 3] [0 1]
    1 [0 2] [1 2]
    """
    ends = np.cumsum(sizes, dtype=np.intp)
    if not len(samples):
        return []
    if samples.min() < 0 or samples.max() >= ends[-1]:
        raise ArgumentError(f"samples are counted from 0 to {ends[-1] - 1}, got {samples.min()} to {samples.max()}.")
    # NumPy sorts integers of 16 bits by their digits, in time that grows with their number alone.
    kind = np.int16 if len(ends) <= np.iinfo(np.int16).max else np.intp
    held_by = np.searchsorted(ends, samples, side="right").astype(kind)
    order = np.argsort(held_by, kind="stable")
    held_by = held_by[order]
    cuts = np.flatnonzero(np.diff(held_by)) + 1
    found = []
    for a, b in pairwise([0, *cuts.tolist(), len(order)]):
        places, partition = order[a:b], int(held_by[a])
        first = ends[partition - 1] if partition else 0
        found.append(Gathered(partition, places, samples[places] - first))
    return found
