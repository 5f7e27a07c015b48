"""Ranges of anomalous rows, and how well ranges that were detected fit those that are true.

true       ───████████────────████───
detected   ─────████──██──────────────      recall: 1 of 2 found, half of it; precision: 1 of 2, all of it
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import fraction
from dagtrain.errors import ShapeError
from dagtrain.graph import Array

__all__ = ["RangeScores", "range_scores", "ranges"]


class RangeScores(NamedTuple):
    """How well detected ranges fit true ones, each from 0 to 1."""

    precision: float
    recall: float
    f1: float


def ranges(flags: Any) -> list[tuple[int, int]]:
    """The ranges of rows that are flagged: first row, and the row after the last.

    Examples
    --------
    >>> ranges([0, 1, 1, 0, 1])
    [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], _flags("flags", flags).astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def range_scores(true: Any, detected: Any, existence: float = 0.5) -> RangeScores:
    """Precision and recall by ranges, not by rows: each range counts once, however long it is.

    The recall of a true range is ``existence`` if any row of it is detected, and ``1 - existence`` times its detected share, divided by the
    number of detected ranges that meet it. The precision of a detected range is its true share, divided by the number of true ranges that
    it meets. Recall and precision are the means over ranges; the mean over no range is 1 where there is none of the other kind, else 0.

    Source: Tatbul et al., "Precision and recall for time series", arXiv:1803.03639, section 4, with a flat positional bias and reciprocal
    cardinality.

    Parameters
    ----------
    true, detected
        A flag for each row.
    existence
        Weight of finding a range at all.

    Examples
    --------
    >>> range_scores([1, 1, 1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 0, 1, 0, 0])
    RangeScores(precision=0.5, recall=0.375, f1=0.42857142857142855)
    """
    fraction("existence", existence, one=True)
    a, b = _flags("true", true), _flags("detected", detected)
    if a.shape != b.shape:
        raise ShapeError(f"range_scores: there are {len(a)} true flags and {len(b)} detected ones: give one of each for a row.")
    recall, precision = _mean(a, b, existence), _mean(b, a, 0.0)
    both = recall + precision
    return RangeScores(precision, recall, 2 * recall * precision / both if both else 0.0)


def _mean(of: Array, by: Array, existence: float) -> float:
    """The mean over ranges of `of` of how `by` covers them."""
    covered = [by[start:stop] for start, stop in ranges(of)]
    if not covered:
        return float(not by.any())
    return float(np.mean([existence * part.any() + (1 - existence) * part.mean() / max(1, len(ranges(part))) for part in covered]))


def _flags(name: str, flags: Any) -> Array:
    array = np.asarray(flags)
    if array.ndim != 1 or not ((array == 0) | (array == 1)).all():
        raise ShapeError(f"{name} are one flag for each row, True or False, got {array.dtype} of shape {array.shape}.")
    return array.astype(bool)
