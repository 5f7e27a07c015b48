"""Dask arrays and dataframes: cut by rows of x, checked on the workers, refused with the row counted over all partitions."""

import subprocess
import sys

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from dagtrain.data import open_source
from dagtrain.errors import DataError

X = np.random.default_rng(0).random((50, 4))
LABELS = np.arange(50) % 3
FRAME = pd.DataFrame(X, columns=list("abcd"))


def lazy(array, *chunks):
    return da.from_array(np.asarray(array), chunks=chunks)


def filtered(array):
    """The same rows in blocks of sizes that dask does not know."""
    array = lazy(np.concatenate([array, array]), 20, *array.shape[1:])
    return array[da.arange(100, chunks=20) < 50]


def frame():
    return dd.from_pandas(FRAME, npartitions=3)


def check(source, sizes):
    graph, keys = source.tasks()
    parts = dask.get(graph, keys)
    assert source.sizes == sizes
    assert [len(x) for x, _ in parts] == list(sizes)
    assert np.array_equal(np.concatenate([x for x, _ in parts]), X.astype("f4"))
    assert np.array_equal(np.concatenate([y for _, y in parts]), LABELS)
    assert {(x.dtype, y.dtype) for x, y in parts} == {(source.columns.x.dtype, source.columns.y.dtype)}
    assert np.array_equal(source.local()[0], X.astype("f4"))
    assert np.array_equal(source.local()[1], LABELS)


@pytest.mark.parametrize(
    ("x", "y", "sizes"),
    [
        (lazy(X, 20, 4), lazy(LABELS, 20), (20, 20, 10)),
        (lazy(X, 20, 2), lazy(LABELS, 7), (20, 20, 10)),
        (lazy(X, 20, 4), LABELS, (20, 20, 10)),
        (lazy(X, 20, 4), pd.Series(LABELS), (20, 20, 10)),
        (lazy(X, 20, 4), LABELS.tolist(), (20, 20, 10)),
        (X, lazy(LABELS, 30), (30, 20)),
        (FRAME, lazy(LABELS, 30), (30, 20)),
        (filtered(X), filtered(LABELS), (20, 20, 10)),
        (filtered(X), LABELS, (20, 20, 10)),
        (frame(), dd.from_pandas(pd.Series(LABELS), npartitions=2), (17, 17, 16)),
        (frame(), LABELS, (17, 17, 16)),
        (dd.from_pandas(FRAME / 2, npartitions=3) * 2, LABELS, (17, 17, 16)),
        (dd.from_pandas(FRAME / 4, npartitions=3).map_partitions(lambda part: part * 2) * 2, LABELS, (17, 17, 16)),
        (frame(), dd.from_pandas(pd.Series(LABELS + 1), npartitions=2) - 1, (17, 17, 16)),
        (frame().assign(e=1.0)[["a", "b", "c", "d"]], LABELS, (17, 17, 16)),
        (frame()[["a", "b", "c", "d"]].to_dask_array(), LABELS, (17, 17, 16)),
    ],
)
def test_collections_are_cut_by_the_rows_of_x(x, y, sizes):
    check(open_source(x, y, targets="classes", classes=3), sizes)


def test_images_in_many_blocks_become_blocks_of_rows():
    x = np.random.default_rng(1).random((6, 4, 4, 3)).astype("f4")
    source = open_source(lazy(x, 4, 2, 3, 1), targets=None)
    assert (source.sizes, source.columns.x.shape) == ((4, 2), (4, 4, 3))
    assert np.array_equal(source.local()[0], x)


def test_a_frame_of_several_dtypes_becomes_floats():
    mixed = dd.from_pandas(FRAME.assign(d=FRAME.d > 0.5, e=LABELS, f=pd.array(LABELS, dtype="Int64")), npartitions=2)
    source = open_source(mixed, targets=None)
    assert np.array_equal(source.local()[0][:, 3:], np.stack([X[:, 3] > 0.5, LABELS, LABELS], axis=1))


def test_opening_does_not_change_the_users_array():
    x = filtered(X)
    open_source(x, LABELS, targets="classes")
    assert np.isnan(x.shape[0])


def test_the_whole_is_computed_once():
    calls = []

    def count(block):
        calls.append(1)
        return block

    x = lazy(X, 25, 4).map_blocks(count, dtype=float, meta=np.empty((0, 0)))
    source = open_source(x, targets=None)
    before = len(calls)
    assert source.local()[0] is source.local()[0]
    assert len(calls) == before + 2


def test_blocks_without_rows_are_left_out():
    source = open_source(da.concatenate([lazy(X[:0], 1, 4), lazy(X, 25, 4)]), LABELS, targets="classes")
    assert source.sizes == (25, 25)
    assert len(source.tasks()[1]) == 2


def test_a_persisted_frame_is_used_as_it_is():
    check(open_source(frame().persist(), lazy(LABELS, 10).persist(), targets="classes"), (17, 17, 16))


def test_keys_are_the_same_in_every_process():
    code = "import numpy as np, dask.array as da; from dagtrain.data import open_source as o; "
    code += "print(o(da.ones((6, 2), chunks=(2, 2)), np.zeros(6), targets='classes').tasks()[1])"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = str(open_source(da.ones((6, 2), chunks=(2, 2)), np.zeros(6), targets="classes").tasks()[1])
    assert there.strip() == here
    assert here.startswith("[('data-")


def bad(row, column, value):
    x = X.copy()
    x[row, column] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (lazy(bad(41, 2, np.nan), 20, 2), LABELS, "x holds nan: row 41, column 2, counted from 0"),
        (filtered(bad(33, 0, np.inf)), LABELS, "x holds inf: row 33, column 0"),
        (dd.from_pandas(FRAME.mask(FRAME.eq(X[30, 1])), npartitions=3), LABELS, r"x holds nan: row 30, column 1 \('b'\)"),
        (lazy(X, 20, 4), lazy(LABELS - 1, 20), "y holds the label -1, which is negative: row 0"),
        (lazy(X, 20, 4), np.where(np.arange(50) == 49, 3, LABELS), "y holds the label 3, but there are 3 classes .*: row 49"),
        (lazy(X, 20, 4), lazy(LABELS * 0.5, 20), "y holds the label 0.5, which is not a whole number: row 1"),
        (lazy(X, 20, 4), lazy(LABELS[:40], 20), "x has 50 samples and y has 40"),
        (filtered(X), LABELS[:40], "x has 50 samples and y has 40"),
        (lazy(X, 20, 4), lazy(np.eye(3)[LABELS], 20, 3), r"y has shape \(50, 3\).*argmax"),
        (lazy(X.astype(object), 20, 4), LABELS, "x has dtype object"),
        (lazy(X + 1j, 20, 4), LABELS, "x has dtype complex128"),
        (lazy(X[:0], 20, 4), LABELS[:0], r"x is empty: its shape is \(0, 4\)"),
        (lazy(X, 20, 4)[da.zeros(50, chunks=20, dtype=bool)], LABELS, r"x is empty: its shape is \(0, 4\)"),
        (dd.from_pandas(FRAME.assign(town="Bonn"), npartitions=2), LABELS, "column 'town' of x"),
    ],
)
def test_collections_that_cannot_be_used_are_refused(x, y, says):
    with pytest.raises(DataError, match=says):
        open_source(x, y, targets="classes", classes=3)


def test_blocks_of_another_shape_than_announced_are_named():
    x = da.concatenate([da.from_delayed(dask.delayed(X[:20]), (n, 4), dtype=float) for n in (20, 30)])
    with pytest.raises(DataError, match=r"partition 1 of x has shape \(20, 4\), but the collection announced \(30, 4\)"):
        open_source(x, LABELS, targets="classes")


def test_blocks_of_another_dtype_than_announced_are_refused():
    x = da.from_delayed(dask.delayed(X.astype(object)), (50, 4), dtype=float)
    with pytest.raises(DataError, match="x has dtype object"):
        open_source(x, LABELS, targets="classes")
