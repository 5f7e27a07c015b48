"""Streams of batches: which values are streams, how far they are read ahead, and how their batches are cut."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import dask
import numpy as np
import pytest

from dagtrain.data import BatchPlan, open_source
from dagtrain.data.rounds import BatchStream
from dagtrain.data.stream import Stream, is_stream, open_iterator
from dagtrain.errors import ArgumentError, DataError

X = np.arange(40, dtype="f4").reshape(20, 2)


def open_batch(x: Any, y: Any, sample_weight: Any, expected: Any) -> Any:
    return open_source(x, y, sample_weight, targets=None, expected=expected)


def endless(read: list[int]) -> Iterator[Any]:
    """As good as endless: batches of four rows; records how many were read."""
    while len(read) < 1000:
        read.append(len(read))
        yield X[:4]


def stream(batches: Any, **options: Any) -> BatchStream:
    return BatchStream(batches, open_batch, **options)


class Anew:
    """Begun anew by each iteration, as a DataLoader is."""

    def __iter__(self) -> Iterator[Any]:
        return iter([X[:8], X[8:11]])


@pytest.mark.parametrize("value", [Anew(), iter([X]), lambda: iter([X]), (x for x in X), partial(endless, []), map(abs, X), Stream(Anew())])
def test_what_gives_batches_is_a_stream(value: Any) -> None:
    assert is_stream(value)


@pytest.mark.parametrize(
    "value", [X, X.tolist(), (X, X), {"a": X}, range(3), None, 3, "text", dask.delayed(abs)(1), [dask.delayed(abs)(1)]]
)
def test_arrays_and_their_collections_are_no_streams(value: Any) -> None:
    assert not is_stream(value)


def test_an_endless_stream_is_not_read_beyond_the_bound() -> None:
    read: list[int] = []
    reading = stream(Stream(endless(read), nbytes=3 * X[:4].nbytes, seconds=60))
    assert reading.first().samples == 4
    for rounds in range(1, 4):
        piece = reading.round()
        assert piece is not None
        assert len(piece.steps) == 3
        assert len(read) == 3 * rounds
        reading.advance(3)
        assert reading.pulled == 0


def test_slow_batches_are_not_waited_for_beyond_the_bound() -> None:
    read: list[int] = []
    piece = stream(Stream(endless(read), seconds=1e-9)).round()
    assert piece is not None
    assert (len(piece.steps), len(read)) == (1, 1)


def test_a_round_ends_with_its_epoch_and_at_a_stop() -> None:
    read: list[int] = []
    reading = stream(endless(read), steps=5)
    piece = reading.round(lambda: len(read) == 2)
    assert piece is None
    assert reading.pulled == 2
    piece = reading.round()
    assert piece is not None
    assert (len(piece.steps), len(read)) == (5, 5)


def test_batches_are_cut_as_those_of_arrays() -> None:
    plan = BatchPlan(11, 8, 3, 0, shuffle=False)
    reading = stream(Anew(), shards=3)
    piece = reading.round()
    assert piece is not None
    for i, shards in enumerate(piece.steps):
        assert [s.tolist() for s in shards] == [s.tolist() for s in plan.step(0, i)]
    reading.advance(2)
    assert [s.tolist() for s in reading.step(0, 1)] == [s.tolist() for s in plan.step(0, 1)]


def test_what_is_not_done_stays_the_next() -> None:
    reading = stream(iter([X[:4], X[4:8], X[8:12]]))
    assert reading.round() is not None
    reading.advance(1)
    piece = reading.round()
    assert piece is not None
    assert piece.first_row == 4
    assert (piece.source.local()[0] == X[4:12]).all()


def test_an_array_that_is_filled_again_is_copied() -> None:
    def batches() -> Iterator[Any]:
        buffer = np.empty((4, 2), "f4")
        for i in range(0, 20, 4):
            buffer[...] = X[i : i + 4]
            yield buffer

    piece = stream(batches).round()
    assert piece is not None
    assert (piece.source.local()[0] == X).all()


def test_an_error_comes_after_the_batches_before_it() -> None:
    def batches() -> Iterator[Any]:
        yield X[:4]
        raise KeyError("mine")

    reading = stream(batches)
    piece = reading.round()
    assert piece is not None
    assert len(piece.steps) == 1
    reading.advance(1)
    with pytest.raises(KeyError, match="mine"):
        reading.round()


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (X[:, :1], r"batch 1, counted from 0: .*shape"),
        (X[:0], r"batch 1, counted from 0: x is empty"),
        ([[1.0], [2.0, 3.0]], "batch 1, counted from 0: x .*same length"),
        (np.ma.masked_greater(X, 3), "batch 1, counted from 0: x holds a masked element"),
        ((X, X[:3]), "batch 1, counted from 0: x has 20 samples and y has 3"),
        ((X, X, X, X), "batch 1, counted from 0: it is a tuple of 4"),
        ((X, None, np.ones(20)), "its sample_weight is .* for each row, but none in the batches before"),
        (None, "batch 1, counted from 0: x is None"),
        (np.full((4, 2), np.nan), "batch 1, counted from 0: x holds nan: row 0, column 0"),
    ],
)
def test_a_batch_that_cannot_be_used_is_named(batch: Any, says: str) -> None:
    from dagtrain.train.rows import check_alike

    def checked(x: Any, y: Any, sample_weight: Any, expected: Any) -> Any:
        source = open_batch(x, y, sample_weight, expected)
        if expected is not None:
            check_alike(expected, source.columns)
        return source

    reading = BatchStream([X, batch].__iter__, checked)
    assert reading.round() is not None
    reading.advance(1)
    with pytest.raises(DataError, match=says):
        reading.round()


def test_a_function_with_an_argument_gets_the_epoch() -> None:
    assert list(open_iterator(lambda epoch: [epoch], 3)) == [3]
    with pytest.raises(ArgumentError, match="there are no epochs here"):
        open_iterator(lambda epoch: [epoch])


@pytest.mark.parametrize("made", [X, None, (X, X)])
def test_a_function_that_gives_no_iterator_is_refused(made: Any) -> None:
    with pytest.raises(DataError, match="the function of batches gave a"):
        open_iterator(lambda: made)


def test_bounds_are_above_zero() -> None:
    with pytest.raises(ArgumentError, match="nbytes"):
        Stream(Anew(), nbytes=0)
