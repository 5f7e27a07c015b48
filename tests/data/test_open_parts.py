"""Partitions as delayed values, alone or in pairs: inspected once, kept in order, refused with the number of the partition."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagtrain.data import open_source
from dagtrain.errors import DataError

X = np.random.default_rng(0).random((50, 4))
LABELS = np.arange(50) % 3
FRAME = pd.DataFrame(X, columns=list("abcd"))
CUTS = [20, 30]


def delayed(array, cuts=CUTS):
    return [dask.delayed(part) for part in np.split(array, cuts)]


def pairs(cuts=CUTS):
    return list(zip(np.split(X, cuts), np.split(LABELS, cuts), strict=True))


def tables():
    return [dask.delayed(FRAME[a:b]) for a, b in ((0, 20), (20, 30), (30, 50))]


def check(source, sizes=(20, 10, 20)):
    parts = dask.get(*source.tasks())
    assert source.sizes == sizes
    assert [len(x) for x, _ in parts] == list(sizes)
    assert np.array_equal(np.concatenate([x for x, _ in parts]), X.astype("f4"))
    assert np.array_equal(np.concatenate([y for _, y in parts]), LABELS)
    assert source.columns.x.dtype == np.float32


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (delayed(X), delayed(LABELS)),
        (delayed(X), delayed(LABELS, [7])),
        (delayed(X), LABELS),
        (delayed(X), pd.Series(LABELS)),
        (delayed(X), da.from_array(LABELS, chunks=17)),
        (da.from_array(X, chunks=((20, 10, 20), 2)), delayed(LABELS, [7, 9])),
        (tables(), delayed(LABELS)),
        ([dask.delayed(pair) for pair in pairs()], None),
        ([(dask.delayed(x), dask.delayed(y)) for x, y in pairs()], None),
        ([dask.delayed(lambda a, b: (a, b))(x, y) for x, y in pairs()], None),
        (dd.from_pandas(FRAME, npartitions=3).to_delayed(), LABELS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_partitions_keep_their_order(x, y):
    source = open_source(x, y, targets="classes", classes=3)
    check(source, source.sizes)
    assert source.sizes in ((20, 10, 20), (17, 17, 16))


def test_one_delayed_value_is_one_partition():
    check(open_source(dask.delayed(X), dask.delayed(LABELS), targets="classes"), (50,))
    check(open_source(dask.delayed((X, LABELS)), targets="classes"), (50,))


def test_an_array_with_partitions_is_cut_like_them():
    check(open_source(X, delayed(LABELS), targets="classes"))


def test_partitions_of_several_dtypes_become_one():
    mixed = [dask.delayed(X[:20].astype("f4")), dask.delayed((X[20:] * 10).astype("i8"))]
    x = open_source(mixed, targets=None).local()[0]
    assert np.array_equal(x, np.concatenate([X[:20].astype("f4"), (X[20:] * 10).astype("i4")]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=5).map(sorted), st.lists(st.integers(0, 50), max_size=5).map(sorted))
def test_any_partitions_of_x_and_of_y(x_cuts, y_cuts):
    source = open_source(delayed(X, x_cuts), delayed(LABELS, y_cuts), targets="classes", classes=3)
    check(source, tuple(len(part) for part in np.split(X, x_cuts) if len(part)))


def test_a_partition_is_computed_once_to_inspect_once_to_check_and_once_to_read():
    calls = []

    def load(i):
        calls.append(i)
        return X[i * 10 : i * 10 + 10], LABELS[i * 10 : i * 10 + 10]

    with dask.config.set(scheduler="sync"):
        source = open_source([dask.delayed(load)(i) for i in range(5)], targets="classes")
        assert len(calls) == 10
        assert source.local()[0] is source.local()[0]
    assert sorted(calls) == sorted([*range(5)] * 3)


def test_columns_of_tables_are_named():
    bad = FRAME.mask(FRAME.eq(X[25, 1]))
    with pytest.raises(DataError, match=r"x holds nan: row 25, column 1 \('b'\)"):
        open_source([dask.delayed(bad[:20]), dask.delayed(bad[20:])], LABELS, targets="classes")


def test_sizes_and_places_of_sources():
    source = open_source(delayed(X), delayed(LABELS), targets="classes")
    assert (source.row_bytes, source.nbytes, source.resident, source.in_memory) == (24, 1200, False, False)
    assert source.origins == ((), (), ())
    source.local()
    assert source.in_memory
    plain = open_source(X, LABELS, targets="classes")
    assert (plain.row_bytes, plain.nbytes, plain.resident, plain.in_memory, plain.origins) == (24, 1200, False, True, ((),))


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        ([dask.delayed(X), X], LABELS, "x is a list of partitions, but partition 1 is a ndarray"),
        ([X, dask.delayed(X)], LABELS, "x is a list of partitions, but partition 0 is a ndarray"),
        (delayed(X), [*delayed(LABELS), 3], "y is a list of partitions, but partition 3 is a int"),
        ([(dask.delayed(X), dask.delayed(LABELS))], LABELS, "leave out y"),
        ([(dask.delayed(X), dask.delayed(LABELS)), dask.delayed(X)], None, "not all of its elements are pairs"),
        ([dask.delayed((X, LABELS)), dask.delayed(X)], None, "some partitions of x are pairs"),
        ([dask.delayed([X, LABELS])], None, "partition 0: x .*A list is one array of samples; give several arrays as a tuple or a dict"),
        ([dask.delayed((X, LABELS))], LABELS, "the partitions of x are pairs .*leave out y"),
        ([dask.delayed((X, LABELS, LABELS))], LABELS, r"the partitions of x are triples \(x, y, sample_weight\): leave out y"),
        (X, [dask.delayed((X, LABELS))], "the partitions of y are pairs .*x alone"),
        (delayed(X), delayed(LABELS[:40]), "x has 50 samples and y has 40"),
        ([dask.delayed(X), dask.delayed(X[:, :3])], LABELS, r"partition 1 of x has rows of shape \(3,\), but partition 0 .* \(4,\)"),
        ([dask.delayed(X), dask.delayed(LABELS)], None, r"rows of shape .*If the list is \[x, y\], give the two apart"),
        ([dask.delayed(X), dask.delayed("X")], LABELS, "partition 1: x is a str"),
        ([dask.delayed(X), dask.delayed(3.0)], LABELS, "partition 1: x is a single number"),
        ([dask.delayed(FRAME), dask.delayed(FRAME.assign(a="A"))], LABELS, "partition 1: column 'a' of x has dtype"),
        (dd.from_pandas(FRAME.assign(a=pd.Categorical(["u"] * 50)), npartitions=2), LABELS, r"column 'a' of x .*as_known\(\)\.cat\.codes"),
        (delayed(np.where(np.arange(200).reshape(50, 4) == 101, np.nan, X)), LABELS, "x holds nan: row 25, column 1"),
    ],
)
def test_partitions_that_cannot_be_used_are_refused(x, y, says):
    with pytest.raises(DataError, match=says):
        open_source(x, y, targets="classes", classes=3)


@pytest.mark.parametrize("triples", [[dask.delayed((X, LABELS, LABELS))], [(dask.delayed(X), dask.delayed(LABELS), dask.delayed(LABELS))]])
def test_triples_have_weights_already(triples):
    with pytest.raises(DataError, match=r"triples \(x, y, sample_weight\).*: leave out sample_weight"):
        open_source(triples, None, LABELS, targets="classes")


def test_an_error_in_a_partition_is_raised():
    with pytest.raises(FileNotFoundError, match="part-1"):
        open_source([dask.delayed(open)("/nowhere/part-1")], LABELS, targets="classes")


def test_a_list_of_dask_arrays_is_not_stacked_silently():
    with pytest.raises(DataError, match=r"list of dask arrays.*concatenate"):
        open_source([da.ones((5, 2)), da.ones((5, 2))], np.zeros(10), targets="classes")
