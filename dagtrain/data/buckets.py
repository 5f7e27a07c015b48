"""Buckets of lengths: steps of rows that are about equally long, computed on as many positions as their longest row needs.

    lengths of rows   3 9 4 2 8 3 …     ends of buckets  4, 9
    a step            3 4 2 3           columns cut to 4 positions: a plan of its own
    another step      9 8               cut to 9

The order of an epoch is a function of the seed, the epoch and the buckets of the rows. How far a shard is cut follows from the lengths of
its own rows. So neither depends on workers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.data.columns import Columns, Rows
from dagtrain.data.local import permutation
from dagtrain.data.pick import Indices
from dagtrain.data.source import Source
from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array, Spec

__all__ = ["BucketOrder", "Buckets", "Cut", "cut_of", "order_of"]

_ROWS, _BATCHES = 0x6275636B6574, 0x626174636865


@dataclass(frozen=True)
class Buckets:
    """An order of samples for ``fit(..., shuffle=Buckets(...))``: each step has rows of one bucket of lengths.

    A shard is computed on the positions up to the end of the bucket of its longest row. What is behind must not count: give a mask or
    lengths to layers, and a mask as `sample_weight`. Evaluation and prediction take all positions.

    Parameters
    ----------
    lengths
        The column that holds the number of positions of each row, such as ``"x.lengths"``, or ``"x.1"`` for the second of a tuple.
    ends
        The most positions of each bucket, in rising order; the last is the length of the columns.
    columns
        The columns whose first axis behind the samples is cut, such as ``("x.tokens", "y", "sample_weight")``.

    Raises
    ------
    ArgumentError
        If `ends` do not rise, or there are no columns.

    Examples
    --------
    >>> buckets = Buckets("x.lengths", (4, 9), columns=("x.tokens", "y"))
    >>> buckets.numbers(np.array([3, 9, 4, 2, 8, 3])).tolist()
    [0, 1, 0, 0, 1, 0]
    """

    lengths: str
    ends: tuple[int, ...]
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        ends, columns = self.ends, self.columns
        if not isinstance(ends, list | tuple) or not ends or not all(is_whole(n) and n > 0 for n in ends):
            raise ArgumentError(f"Buckets: ends are whole numbers of positions, as in ends=(8, 16, 32), got {ends!r}.")
        if any(a >= b for a, b in pairwise(ends)):
            raise ArgumentError(f"Buckets: ends rise, as in ends=(8, 16, 32), got {ends!r}.")
        if not isinstance(columns, list | tuple) or not columns or not all(isinstance(name, str) for name in columns):
            raise ArgumentError(f'Buckets: columns are the names of those to cut, as in columns=("x.tokens", "y"), got {columns!r}.')
        object.__setattr__(self, "ends", tuple(map(int, ends)))
        object.__setattr__(self, "columns", tuple(columns))

    def numbers(self, lengths: Array) -> Array:
        """The bucket of each row."""
        return np.searchsorted(self.ends, lengths).astype(np.uint8 if len(self.ends) < 256 else np.uint32)


@dataclass(frozen=True, eq=False)
class BucketOrder:
    """The order of the samples of each epoch: rows drawn within buckets, and the order of the batches.

    Attributes
    ----------
    buckets
        The settings.
    numbers
        The bucket of each sample.
    """

    buckets: Buckets
    numbers: Array

    @property
    def name(self) -> str:
        """The settings and a digest of the buckets of the samples."""
        digest = hashlib.sha256(self.numbers.tobytes()).hexdigest()
        return f"buckets of {self.buckets.lengths} to {', '.join(map(str, self.buckets.ends))} ({digest[:8]})"

    def draw(self, batch_size: int, seed: int, epoch: int) -> Indices:
        """The samples in the order of this epoch.

        Those of a bucket stand side by side in a drawn order, and are cut into batches of this size; a batch over the end of a bucket has
        rows of the next one too. Then the full batches are put into a drawn order.
        """
        order = permutation(len(self.numbers), seed, _ROWS, epoch)
        by_bucket = order[np.argsort(self.numbers[order], kind="stable")]
        full = len(by_bucket) // batch_size
        batches = by_bucket[: full * batch_size].reshape(full, batch_size)[permutation(full, seed, _BATCHES, epoch)]
        return np.concatenate([batches.reshape(-1), by_bucket[full * batch_size :]])


@dataclass(frozen=True)
class Cut:
    """How far the columns of a shard are cut.

    Attributes
    ----------
    lengths
        The number of the column of lengths.
    columns
        The numbers of the columns that are cut.
    ends
        As of `Buckets`.
    """

    lengths: int
    columns: tuple[int, ...]
    ends: tuple[int, ...]

    def end(self, rows: Rows) -> int:
        """The positions that these rows need."""
        return self.ends[int(np.searchsorted(self.ends, rows[self.lengths].max()))]

    def rows(self, rows: Rows) -> Rows:
        """The rows with as many positions as they need."""
        end = self.end(rows)
        if end == self.ends[-1]:
            return rows
        return tuple(np.ascontiguousarray(column[:, :end]) if i in self.columns else column for i, column in enumerate(rows))

    def specs(self, columns: Columns, end: int) -> Columns:
        """The columns cut to so many positions."""
        cut = [Spec((end, *s.shape[1:]), s.dtype) if i in self.columns else s for i, s in enumerate(columns.specs)]
        return Columns(columns.names, tuple(cut), columns.structure, columns.headers)


def cut_of(shuffle: Any, columns: Columns) -> Cut | None:
    """The cut of these columns; None for other orders than buckets.

    Raises
    ------
    DataError
        If there is no such column, or one has another shape than the buckets say.
    """
    if not isinstance(shuffle, Buckets):
        return None
    unknown = next((name for name in (shuffle.lengths, *shuffle.columns) if name not in columns.names), None)
    if unknown is not None:
        raise DataError(f"Buckets: there is no column {unknown!r}: the columns are {', '.join(columns.names)}.")
    lengths, *cut = (columns.names.index(name) for name in (shuffle.lengths, *shuffle.columns))
    spec = columns.specs[lengths]
    if spec.shape or spec.dtype.kind not in "iu":
        raise DataError(f"Buckets: the column {shuffle.lengths!r} holds one whole number for each row, got {spec}.")
    for i in cut:
        if columns.specs[i].shape[:1] != shuffle.ends[-1:]:
            raise DataError(
                f"Buckets: the rows of {columns.names[i]!r} have the shape {columns.specs[i].shape}, and the last bucket ends at "
                f"{shuffle.ends[-1]}: its first axis is that of the positions."
            )
    return Cut(lengths, tuple(cut), shuffle.ends)


def order_of(shuffle: Any, source: Source) -> Any:
    """The order for a `BatchPlan`: that of the buckets of a source's rows, or what was given.

    Raises
    ------
    DataError
        If the rows are on a cluster, or some are longer than the last bucket.
    """
    cut = cut_of(shuffle, source.columns)
    if cut is None:
        return shuffle
    if not source.in_memory:
        raise DataError("Buckets need the lengths of all rows, so the rows must be arrays in this process.")
    lengths = source.local()[cut.lengths]
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= cut.ends[-1]:
        raise DataError(f"Buckets: lengths are from 0 to {cut.ends[-1]}, the last end, got {lengths.min()} to {lengths.max()}.")
    return BucketOrder(shuffle, shuffle.numbers(lengths))
