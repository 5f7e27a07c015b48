"""Batches that come one after the other, of unknown number: begun, read and checked.

    batches()  ──open_iterator──▶  (x, y)  (x, y)  (x, y) …  ──BatchReader──▶  rows in the dtypes of training

Each batch passes the checks of arrays, and has the columns of the first one. `dagtrain.data.rounds` makes steps of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dagtrain.arguments import positive, whole
from dagtrain.data.check import Form
from dagtrain.data.columns import Columns, Rows
from dagtrain.data.nests import is_part
from dagtrain.data.source import Source
from dagtrain.errors import ArgumentError, DataError

__all__ = ["BatchReader", "Open", "Stream", "is_iterator", "is_stream", "open_iterator"]

Open = Callable[[Any, Any, Any, Columns | None], Source]
"""Checks x, y and sample_weight of a batch, against the columns of the first one, and opens it."""
_ARRAY = ("__array__", "__array_interface__", "__dlpack__", "__dask_graph__", "toarray", "columns", "ndim")


@dataclass(frozen=True)
class Stream:
    """A stream with bounds of its own for what is read ahead: a round ends with the batch that reaches one.

    Parameters
    ----------
    batches
        A function, an object to iterate over, or an iterator.
    nbytes
        Bytes of the rows, in training.
    seconds
        Seconds of reading.

    Raises
    ------
    ArgumentError
        If a bound is not above 0.
    """

    batches: Any
    nbytes: int = 32 << 20
    seconds: float = 1.0

    def __post_init__(self) -> None:
        whole("nbytes", self.nbytes)
        positive("seconds", self.seconds)


def is_stream(value: Any) -> bool:
    """Whether this gives batches: a function, an iterator, or an object to iterate over that is neither an array nor a collection of them.

    Examples
    --------
    >>> is_stream(iter([])), is_stream(lambda: iter([])), is_stream([1, 2]), is_stream({"x": [1]})
    (True, True, False, False)
    """
    if isinstance(value, Stream):
        return True
    if any(hasattr(value, name) for name in _ARRAY) or is_part(value):
        return False
    if isinstance(value, str | bytes | dict | set | frozenset | Sequence):
        return False
    return callable(value) or hasattr(value, "__iter__")


def is_iterator(batches: Any) -> bool:
    """Whether this can be read once only."""
    return hasattr(batches.batches if isinstance(batches, Stream) else batches, "__next__")


def takes_epoch(batches: Any) -> bool:
    """Whether this is a function with one argument, the number of the epoch."""
    if not callable(batches) or hasattr(batches, "__iter__"):
        return False
    try:
        parameters = inspect.signature(batches).parameters.values()
    except (TypeError, ValueError):  # of a builtin
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional and p.default is p.empty for p in parameters)


def open_iterator(batches: Any, epoch: int | None = None) -> Iterator[Any]:
    """An iterator from the beginning; `epoch` for a function that takes it, None where there are no epochs."""
    if isinstance(batches, Stream):
        batches = batches.batches
    if hasattr(batches, "__iter__"):
        return iter(batches)
    if takes_epoch(batches) and epoch is None:
        raise ArgumentError("there are no epochs here: give a function of batches without arguments.")
    made = batches(epoch) if takes_epoch(batches) else batches()
    if not is_stream(made) and not isinstance(made, list):
        raise DataError(f"the function of batches gave a {type(made).__name__}: let it yield batches (x, y), or return an iterator.")
    return open_iterator(made, epoch)


class BatchReader:
    """One pass over a stream: an iterator of the rows of each batch, checked, in the dtypes of training.

    Parameters
    ----------
    iterator
        Gives ``(x, y)``, ``(x, y, sample_weight)``, or x alone.
    open_batch
        Checks a batch and opens it.
    expected
        Columns of a trainer, which the first batch is compared with; None before any fit.
    only_x
        Whether y and sample_weight are ignored.
    name
        What errors call a batch.

    Attributes
    ----------
    form
        That of the first batch, once it was read.
    read
        Batches read.
    """

    def __init__(
        self, iterator: Iterator[Any], open_batch: Open, expected: Columns | None = None, only_x: bool = False, name: str = "batch"
    ) -> None:
        self._iterator, self._open, self._expected, self._only_x, self._name = iterator, open_batch, expected, only_x, name
        self.form: Form | None = None
        self.read = 0

    def __iter__(self) -> BatchReader:
        return self

    def checked_by(self, open_batch: Open, expected: Columns | None) -> BatchReader:
        """A reader that goes on from here with other checks."""
        reader = BatchReader(self._iterator, open_batch, expected, self._only_x, self._name)
        reader.read = self.read
        return reader

    def __next__(self) -> Rows:
        """The next batch; errors of the user's own code pass unchanged, those about a batch name its number."""
        batch = next(self._iterator)
        self.read += 1
        try:
            x, y, sample_weight = _parts(batch)
            source = self._open(x, None if self._only_x else y, None if self._only_x else sample_weight, self._expected)
            if self.form is None:
                self.form, self._expected = source.form, source.columns
            elif source.columns.specs != self.form.columns.specs:
                first, weight = (columns.bind(columns.specs)[2] or "none" for columns in (self.form.columns, source.columns))
                raise DataError(f"its sample_weight is {weight} for each row, but {first} in the batches before.")
        except DataError as error:
            raise DataError(f"{self._name} {self.read - 1}, counted from 0: {error}") from error
        return tuple(column.copy() for column in source.local())  # the user may fill the same array again


def _parts(batch: Any) -> tuple[Any, Any, Any]:
    """x, y and sample_weight of a batch."""
    if isinstance(batch, list) and any(getattr(part, "ndim", 0) or isinstance(part, dict | tuple) for part in batch):
        batch = tuple(batch)  # as a DataLoader gives it
    if not isinstance(batch, tuple):
        return batch, None, None
    if len(batch) not in (1, 2, 3):
        raise DataError(
            f"it is a tuple of {len(batch)}: a batch is (x, y), (x, y, sample_weight), or x alone. A tuple of arrays as x stands in the "
            "pair as one, as in ((a, b), y)."
        )
    x, y, sample_weight = (*batch, None, None)[:3]
    return x, y, sample_weight
