"""The source of rows in training: partitions on any machine; and the source of arrays in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Self

import numpy as np

from dagtrain.data.check import Form, read
from dagtrain.data.columns import Columns, Rows
from dagtrain.data.windows import bytes_of, partition_of
from dagtrain.graph import Array

__all__ = ["PARTITION_BYTES", "ArraySource", "Source", "count_labels", "partition_sizes", "row_slices"]

PARTITION_BYTES = 4 << 20
"""Most bytes of a partition of arrays in this process (or one row, if a row is larger)."""


@dataclass(frozen=True, eq=False)
class Source(ABC):
    """Data that passed every check, cut into partitions of rows.

    Attributes
    ----------
    form
        Columns of the rows and the rules that were checked.
    sizes
        Rows of each partition; empty partitions are left out.
    """

    form: Form
    sizes: tuple[int, ...]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(self.sizes)

    @property
    def columns(self) -> Columns:
        """The columns of a row."""
        return self.form.columns

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in training."""
        return self.columns.row_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of all rows in training."""
        return self.samples * self.row_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of all partitions in memory: fewer than `nbytes` where windows share rows."""
        return self.nbytes

    @property
    @abstractmethod
    def in_memory(self) -> bool:
        """Whether all rows are in this process, so `local` costs nothing."""

    @property
    @abstractmethod
    def resident(self) -> bool:
        """Whether every partition is already on a cluster, persisted or as a future: reading it computes nothing."""

    @property
    @abstractmethod
    def origins(self) -> tuple[tuple[Any, ...], ...]:
        """For each partition, the keys of the futures that it is computed from; it costs least on their worker."""

    @abstractmethod
    def local(self) -> Rows:
        """All rows in this process; computed once."""

    @abstractmethod
    def some(self, rows: int) -> Rows:
        """So many rows, in this process: spread over all that are here, else the first ones."""

    @abstractmethod
    def label_counts(self, column: str = "y") -> dict[float, int]:
        """The values in a column of y, in order, and how many samples have each."""

    @abstractmethod
    def with_form(self, form: Form) -> Self:
        """The same raw rows in another form, which may add weights of classes."""

    @abstractmethod
    def split(self, rows: int) -> tuple[Self, Self]:
        """The first rows, and all others."""

    @abstractmethod
    def tasks(self) -> tuple[dict[Any, Any], list[tuple[str, int]]]:
        """A Dask graph, and the keys of the partitions in it."""


@dataclass(frozen=True, eq=False)
class ArraySource(Source):
    """Arrays in this process, in the dtypes of training."""

    arrays: Rows

    @property
    def in_memory(self) -> bool:
        """True."""
        return True

    @property
    def resident(self) -> bool:
        """False: the rows are in this process."""
        return False

    @property
    def origins(self) -> tuple[tuple[Any, ...], ...]:
        """No futures for any partition."""
        return ((),) * len(self.sizes)

    @property
    def held_bytes(self) -> int:
        """Bytes of the arrays, rows that windows share once."""
        return bytes_of(self.arrays)

    def local(self) -> Rows:
        """The arrays themselves."""
        return self.arrays

    def some(self, rows: int) -> Rows:
        """Rows at equal distances."""
        return spread(self.arrays, rows)

    def label_counts(self, column: str = "y") -> dict[float, int]:
        """Counted here."""
        return count_labels(self.form, *self.arrays, column=column)

    def with_form(self, form: Form) -> ArraySource:
        """Other columns share their memory."""
        return ArraySource(form, self.sizes, read(form, *self.arrays))

    def split(self, rows: int) -> tuple[ArraySource, ArraySource]:
        """Views of the arrays."""
        parts = (tuple(column[part] for column in self.arrays) for part in (np.s_[:rows], np.s_[rows:]))
        first, rest = (ArraySource(self.form, partition_sizes(len(part[0]), self.row_bytes), part) for part in parts)
        return first, rest

    def tasks(self) -> tuple[dict[Any, Any], list[tuple[str, int]]]:
        """One data node for each partition: the graph holds the rows, so it restores a partition lost with its worker."""
        from dask.task_spec import DataNode
        from dask.tokenize import tokenize

        name = f"data-{tokenize(*self.arrays)}"
        graph = {}
        for i, rows in enumerate(row_slices(self.sizes)):
            graph[name, i] = DataNode((name, i), partition_of([column[rows] for column in self.arrays]))
        return graph, list(graph)


def count_labels(form: Form, *parts: Array, column: str = "y") -> dict[float, int]:
    """The values in a column of a partition, in order, and how many samples have each."""
    y = form.columns.names.index(column)
    labels, counts = np.unique(np.asarray(parts[y], form.columns.specs[y].dtype), return_counts=True)
    return dict(zip(labels.astype(float).tolist(), counts.tolist(), strict=True))


def spread(columns: Rows, rows: int) -> Rows:
    """Views of this many rows (or all, if there are fewer) at equal distances."""
    return tuple(column[:: max(1, len(column) // rows)][:rows] for column in columns)


def partition_sizes(samples: int, row_bytes: int) -> tuple[int, ...]:
    """Rows of each partition: as many as fit, and in the last one the rest.

    Examples
    --------
    >>> partition_sizes(5, row_bytes=PARTITION_BYTES // 2)
    (2, 2, 1)
    """
    most = max(1, PARTITION_BYTES // row_bytes)
    full, rest = divmod(samples, most)
    return (most,) * full + ((rest,) if rest else ())


def row_slices(sizes: tuple[int, ...]) -> Iterator[slice]:
    """The rows of each partition, as slices of all rows."""
    ends = list(accumulate(sizes, initial=0))
    return (slice(a, b) for a, b in pairwise(ends))
