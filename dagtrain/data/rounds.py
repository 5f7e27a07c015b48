"""The steps of a stream: its batches read ahead, and put together into rounds for an engine.

    iterator   (x, y)  (x, y)  (x, y) │ (x, y)  (x, y) │ …          one batch is one step
               round: 3 steps, their rows as an `ArraySource`

A round is bounded in bytes and in seconds of reading, so memory is bounded however long the stream is. Where a round ends changes no bit: a
step's rows, its shards and the number of each row in its epoch follow from the position in the stream alone.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from dagtrain.data.batches import auto_shards, shard_slice
from dagtrain.data.columns import Columns, Rows
from dagtrain.data.pick import Indices
from dagtrain.data.source import ArraySource, partition_sizes
from dagtrain.data.stream import BatchReader, Open, Stream, is_iterator, open_iterator
from dagtrain.errors import DataError

__all__ = ["BatchStream", "Round"]


class Round(NamedTuple):
    """Consecutive steps of an epoch.

    Attributes
    ----------
    source
        Their rows.
    steps
        For each step, the rows in each shard, counted in this source.
    first_row
        Rows of the epoch before.
    """

    source: ArraySource
    steps: list[tuple[Indices, ...]]
    first_row: int


class BatchStream:
    """The steps of a stream, epoch by epoch.

    Parameters
    ----------
    batches
        A function, called for each epoch, with its number if it takes an argument; an object to iterate over; or an iterator.
    open_batch, expected
        As for `BatchReader`.
    shards
        Number of parts of each batch; "auto" derives it from the size of the first batch of the epoch.
    steps
        Steps of an epoch; None where an epoch ends with the iterator.
    epoch
        The epoch that is read first.

    Attributes
    ----------
    once
        Whether the batches can be read once only.
    class_weight
        Weights of classes that the batches read ahead have.
    """

    class_weight: Any = None

    def __init__(
        self,
        batches: Any,
        open_batch: Open,
        shards: int | Literal["auto"] = "auto",
        steps: int | None = None,
        expected: Columns | None = None,
        epoch: int = 0,
    ) -> None:
        self._bounds = batches if isinstance(batches, Stream) else Stream(batches)
        self.batches, self.once = self._bounds.batches, is_iterator(batches)
        self._open, self._expected, self._given_shards, self._given_steps = open_batch, expected, shards, steps
        self._pulled: deque[Rows] = deque()
        self._error: Exception | None = None
        self._ends, self._first_rows = [0], 1
        self._begin(epoch)

    def _begin(self, epoch: int) -> None:
        self._epoch, self._first_rows, self._ends, self._is_over = epoch, self.first_rows, [0], False
        self._pulled.clear()
        self._reader = BatchReader(open_iterator(self.batches, epoch), self._open, self._expected)

    # ---- what training asks a plan of batches

    @property
    def done(self) -> int:
        """Steps of the epoch that were done."""
        return len(self._ends) - 1

    @property
    def pulled(self) -> int:
        """Batches that were read and not trained on."""
        return len(self._pulled)

    @property
    def samples(self) -> int:
        """Rows of the steps done in the epoch; of all, once it has ended."""
        return self._ends[-1]

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; the largest number while that is unknown."""
        if self._given_steps is not None:
            return self._given_steps
        return self.done + self.pulled if self._is_over else sys.maxsize

    @property
    def steps_known(self) -> int | None:
        """Steps of an epoch, if they are known."""
        return None if self.steps_per_epoch == sys.maxsize else self.steps_per_epoch

    @property
    def first_rows(self) -> int:
        """Rows of the first batch of the epoch; until it is read, of the epoch before."""
        return self._ends[1] if self.done else len(self._pulled[0][0]) if self._pulled else self._first_rows

    @property
    def shards(self) -> int:
        """Parts of each batch in this epoch."""
        first = self.first_rows
        if self._given_shards == "auto":
            return auto_shards(first)
        if self._given_shards > first:
            raise DataError(
                f"the first batch has {first} rows for {self._given_shards} shards: every shard of it holds at least one. "
                f'Give larger batches, set shards to {first} or less, or shards="auto".'
            )
        return self._given_shards

    @property
    def settings(self) -> dict[str, int | str]:
        """What batches depend on besides the stream; 0 where it is the stream that decides."""
        order = "a stream" if self._given_steps is None else f"a stream, {self._given_steps} steps an epoch"
        return {"samples": 0, "batch_size": 0, "shards": 0, "shuffle": order}

    def continues(self, epoch: int, done: int, settings: dict[str, int | str]) -> bool:
        """Whether an epoch that was begun with these settings goes on in this stream."""
        return settings == self.settings and (not self.once or (epoch, done) == (self._epoch, self.done))

    def step(self, epoch: int, i: int) -> tuple[Indices, ...]:
        """The rows of each shard of a step that was done, or of the first one, counted in the epoch."""
        return self._cut(self._ends[i], self._ends[i + 1] - self._ends[i]) if i else self._cut(0, self.first_rows)

    def _cut(self, start: int, rows: int) -> tuple[Indices, ...]:
        shards = self.shards
        return tuple(np.arange(part.start, part.stop) for part in (shard_slice(start, rows, shards, s) for s in range(shards)))

    # ---- reading

    def adopt(self, earlier: BatchStream) -> None:
        """Go on from where an earlier stream of the same iterator is, with the batches that it read ahead."""
        self._epoch, self._ends, self._is_over, self._error = earlier._epoch, earlier._ends, earlier._is_over, earlier._error
        self._pulled, self._first_rows = earlier._pulled, earlier._first_rows
        self._reader = earlier._reader if self._pulled else earlier._reader.checked_by(self._open, self._expected)

    def first(self) -> ArraySource:
        """The next batch, which stays the next."""
        if not self._pulled and not self._pull():
            error, self._error = self._error, None
            raise error or DataError(f"there are no batches: {self._nothing}")
        return self._source([self._pulled[0]])

    @property
    def _nothing(self) -> str:
        if self.once:
            return "the iterator has ended. Give a function that makes a new one for each epoch, or a new iterator."
        return "the iterator ended before its first batch. A function must make a new iterator at each call, and yield from it."

    def begin(self, epoch: int, done: int) -> None:
        """Begin an epoch whose first steps are `done`: another than an iterator's own is read from the beginning."""
        if self.once and done == 0:
            self._epoch, self._first_rows, self._ends = epoch, self.first_rows, [0]
        elif self._epoch != epoch or self.done > done:
            self._begin(epoch)
        while self.done < done:
            if not self._pulled and not self._pull():
                error, self._error = self._error, None
                raise error or DataError(
                    f"the batches of epoch {epoch} ended after {self.done}, but {done} steps of it were done before: give the same batches."
                )
            self.advance(1)

    def round(self, stop: Callable[[], bool] = lambda: False) -> Round | None:
        """The next steps of the epoch, as many as the bounds allow; None where it has ended, or at a stop.

        An error of the stream is raised once the steps before it are done.
        """
        began, nbytes = time.monotonic(), sum(map(_nbytes, self._pulled))
        most = (self._given_steps or sys.maxsize) - self.done
        while len(self._pulled) < most and not stop():
            full = nbytes >= self._bounds.nbytes or time.monotonic() - began >= self._bounds.seconds
            if (self._pulled and full) or not self._pull():
                break
            nbytes += _nbytes(self._pulled[-1])
        if self._error is not None and not self._pulled:
            error, self._error = self._error, None
            raise error
        if not self._pulled or stop():
            if self.done == 0 and self._is_over and not self._pulled and not self.once:
                raise DataError(f"epoch {self._epoch} has no batches: {self._nothing}")
            return None
        steps = list(self._pulled)[:most]
        source = self._source(steps)
        ends = list(accumulate((len(rows[0]) for rows in steps), initial=0))
        for i, (a, b) in enumerate(pairwise(ends)):
            self._pulled[i] = tuple(column[a:b] for column in source.arrays)  # in memory once
        return Round(source, [self._cut(a, b - a) for a, b in pairwise(ends)], self.samples)

    def advance(self, steps: int) -> None:
        """Note that the next steps were done."""
        for _ in range(steps):
            self._ends.append(self._ends[-1] + len(self._pulled.popleft()[0]))

    def _pull(self) -> bool:
        """Read a batch; False at the end, or if it cannot be read."""
        if self._is_over or self._error is not None:
            return False
        try:
            self._pulled.append(next(self._reader))
        except StopIteration:
            self._is_over = True
            return False
        except Exception as error:
            self._error = error
            return False
        return True

    def _source(self, batches: Sequence[Rows]) -> ArraySource:
        form = self._reader.form
        assert form is not None, "a batch was read"
        arrays = tuple(map(np.concatenate, zip(*batches, strict=True))) if len(batches) > 1 else batches[0]
        return ArraySource(form, partition_sizes(len(arrays[0]), form.columns.row_bytes), arrays)


def _nbytes(rows: Rows) -> int:
    return sum(column.nbytes for column in rows)
