"""What a rank does with the rows that Dask brought."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from dagtrain.engines.ranks.inputs import RankInput, batches_of_rank

Array = np.ndarray[Any, Any]
ROWS = 100_000  # so much that what other threads allocate meanwhile is little beside it
LABELS = np.arange(ROWS, dtype="i8")
X = (LABELS[:, None] + np.arange(16) / 16).astype("f4")


def unaligned(array: Array) -> Array:
    """As it lies in a message, behind a header of any length."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    moved = memory[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def by_columns(array: Array) -> Array:
    return np.asfortranarray(array)


def every_other(array: Array) -> Array:
    """As rows lie whose table has more columns, or more rows."""
    return np.repeat(array, 2, axis=array.ndim - 1)[..., ::2]


@pytest.mark.parametrize("lying", [np.array, unaligned, by_columns, every_other])
@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("in_a_row", [True, False])
def test_rows_are_taken_by_themselves_however_the_data_came(lying: Any, partitions: int, in_a_row: bool) -> None:
    parts = [(lying(X[rows]), lying(LABELS[rows])) for rows in np.array_split(LABELS, partitions)]
    rows = LABELS if in_a_row else np.random.default_rng(0).permutation(LABELS)
    steps = [np.split(batch, 4) for batch in np.split(rows, 50)]
    rank_input = RankInput(batches_of_rank([1, 3], steps), (((16,), "<f4"), ((), "<i8")), "all")
    kept: dict[str, Any] = {}
    opened = rank_input.open(parts, kept)
    tracemalloc.start()
    for i, batch in enumerate(steps):
        found = opened.step(i)
        assert list(found) == [1, 3]
        for shard, (x, y) in found.items():
            assert y is not None
            assert x.tobytes() == X[batch[shard]].tobytes()
            assert y.tobytes() == LABELS[batch[shard]].tobytes()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < X.nbytes / 4
    again = rank_input.open((), kept)
    assert all(a is b for a, b in zip(again.arrays, opened.arrays, strict=True))
