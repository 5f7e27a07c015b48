"""Columns of the user's data: nests and tables keep their names, which bind them wherever data comes in; weights; alignment of rows."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from dagtrain.data import Columns, open_source
from dagtrain.errors import DataError
from dagtrain.graph import Spec

X = np.random.default_rng(0).random((50, 4)).astype("f4")
LABELS = np.arange(50) % 3
FRAME = pd.DataFrame(X, columns=list("abcd"))
FITTED = open_source(FRAME, LABELS, targets="classes").columns
CUTS = [20, 30]


def lazy(array):
    return da.from_array(array, chunks=(20, *array.shape[1:]))


def delayed(value):
    return [dask.delayed(value[a:b]) for a, b in ((0, 20), (20, 30), (30, 50))]


def dicts():
    return [dask.delayed({"mask": LABELS[a:b] > 0, "a": X[a:b]}) for a, b in ((0, 20), (20, 50))]


NESTS = {
    "arrays": {"a": X, "mask": LABELS > 0},
    "dask arrays": {"a": lazy(X), "mask": lazy(LABELS > 0)},
    "a mixture": {"a": X, "mask": da.from_array(LABELS > 0, chunks=7)},
    "delayed": {"a": delayed(X), "mask": [dask.delayed(LABELS > 0)]},
    "a table": {"a": FRAME, "mask": pd.Series(LABELS > 0)},
    "dask tables": {"a": dd.from_pandas(FRAME, npartitions=3), "mask": dd.from_pandas(pd.Series(LABELS > 0), npartitions=3)},
    "partitions that are dicts": dicts(),
    "lists of dicts": [({"a": dask.delayed(X)}, dask.delayed(LABELS))],
}


@pytest.mark.parametrize("form", NESTS)
def test_a_dict_is_columns_by_name(form):
    source = open_source(NESTS[form], None if form == "lists of dicts" else LABELS, targets="classes")
    x, labels, weight = source.columns.bind(source.local())
    assert np.array_equal(x["a"], X)
    assert "mask" not in x or (x["mask"].dtype == bool and np.array_equal(x["mask"], LABELS > 0))
    assert (np.array_equal(labels, LABELS), weight) == (True, None)


def test_names_and_structure_of_nests():
    source = open_source(({"a": X, "b": (X, LABELS)}, X[:, 0]), {"up": LABELS, "down": X}, LABELS, targets=None)
    assert source.columns.names == ("x.0.a", "x.0.b.0", "x.0.b.1", "x.1", "y.up", "y.down", "sample_weight")
    x, y, weight = source.columns.bind(range(7))
    assert (x, y, weight) == (({"a": 0, "b": (1, 2)}, 3), {"up": 4, "down": 5}, 6)
    assert [str(spec.dtype) for spec in source.columns.specs] == ["float32", "float32", "int64", "float32", "int64", "float32", "float32"]


def test_a_tuple_of_numbers_or_lists_is_one_array():
    assert open_source(([1.0, 2.0], [3.0, 4.0]), (0, 1), targets="classes").columns == Columns.of(
        Spec((2,), np.dtype("f4")), Spec((), np.dtype("i8"))
    )


def test_a_dict_is_put_in_the_order_of_the_fit():
    fitted = open_source({"a": X, "b": LABELS}, targets=None).columns
    again = open_source({"b": LABELS, "a": X}, targets=None, expected=fitted)
    assert again.columns == fitted
    assert np.array_equal(again.local()[0], X)
    with pytest.raises(DataError, match=r"x has other columns than the trainer was fitted on: it comes without 'a' and with 'c'"):
        open_source({"b": LABELS, "c": X}, targets=None, expected=fitted)


def mixed(frame):
    """Partitions of a table, each with its columns in an order of its own."""
    return [dask.delayed(frame[20 * i : 20 * i + 20][order]) for i, order in enumerate((list("dcba"), list("abcd"), list("bdac")))]


TABLES = {
    "pandas": lambda frame: frame[frame.columns[::-1]],
    "dask": lambda frame: dd.from_pandas(frame[frame.columns[::-1]], npartitions=3),
    "delayed": lambda frame: delayed(frame[frame.columns[::-1]]),
    "delayed in several orders": mixed,
    "pairs": lambda frame: [dask.delayed((frame[frame.columns[::-1]], LABELS))],
}


@pytest.mark.parametrize("form", TABLES)
def test_a_table_is_put_in_the_order_of_the_fit(form):
    source = open_source(TABLES[form](FRAME), None if form == "pairs" else LABELS, targets="classes", expected=FITTED)
    assert source.columns.headers == FITTED.headers == (tuple("abcd"), ())
    assert np.array_equal(source.local()[0], X)


@pytest.mark.parametrize("form", [name for name in TABLES if "several" not in name])
def test_a_table_with_other_names_is_refused(form):
    other = FRAME.rename(columns={"c": "e"})
    with pytest.raises(DataError, match=r"x has other columns than the trainer was fitted on: it comes without 'c' and with 'e'"):
        open_source(TABLES[form](other), None if form == "pairs" else LABELS, targets="classes", expected=FITTED)


def test_partitions_of_a_table_follow_the_first():
    source = open_source(mixed(FRAME), LABELS, targets="classes")
    assert source.columns.headers[0] == tuple("dcba")
    assert np.array_equal(source.local()[0], X[:, ::-1])
    with pytest.raises(DataError, match=r"partition 1 of x has other columns than partition 0 has: it comes without 'd'"):
        open_source([dask.delayed(FRAME), dask.delayed(FRAME.drop(columns="d"))], LABELS, targets="classes")


def test_an_array_is_taken_for_a_table_by_position():
    assert np.array_equal(open_source(X, LABELS, targets="classes", expected=FITTED).local()[0], X)


@pytest.mark.parametrize("wrap", [np.asarray, lazy, pd.Series, lambda w: [dask.delayed(w)]])
def test_weights_are_a_column_of_floats(wrap):
    source = open_source(X, LABELS, wrap(LABELS), targets="classes")
    assert source.columns.names == ("x", "y", "sample_weight")
    assert np.array_equal(source.local()[2], LABELS.astype("f4"))
    assert source.local()[2].dtype == np.float32


def test_pairs_may_be_triples_with_weights():
    source = open_source([dask.delayed((X, LABELS, LABELS * 0.5))], targets="classes")
    assert np.array_equal(source.columns.bind(source.local())[2], LABELS * 0.5)


@pytest.mark.parametrize("pairs", [[dask.delayed((X, X[:, 0]))], [(dask.delayed(X), dask.delayed(X[:, 0]))]])
def test_pairs_may_have_weights_beside_them(pairs):
    source = open_source(pairs, None, LABELS, targets="like_outputs")
    assert source.columns.names == ("x", "y", "sample_weight")
    for column, expected in zip(source.columns.bind(source.local()), (X, X[:, 0], LABELS), strict=True):
        assert np.array_equal(column, expected)


@pytest.mark.parametrize("wrap", [np.asarray, lazy])
@pytest.mark.parametrize(
    ("weight", "says"),
    [
        (np.where(np.arange(50) == 33, -1.0, 1.0), "sample_weight holds -1.0, but a weight is not negative: row 33"),
        (np.where(np.arange(50) == 33, np.nan, 1.0), "sample_weight holds nan: row 33"),
        (np.where(np.arange(50) == 33, np.inf, 1.0), "sample_weight holds inf: row 33"),
        (np.ones((50, 1)), r"sample_weight has shape \(50, 1\): a weight is one number for each sample"),
        (np.ones(49), "x has 50 samples and sample_weight has 49"),
        (np.ones((49, 1)), "x has 50 samples and sample_weight has 49"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(wrap, weight, says):
    with pytest.raises(DataError, match=says):
        open_source(X, LABELS, wrap(weight), targets="classes")


@pytest.mark.parametrize("wrap", [np.asarray, lazy])
def test_positions_may_have_weights(wrap):
    for shape in ((50,), (50, 4), (50, 4, 2)):
        source = open_source(X, np.ones((50, 4, 2)), wrap(np.ones(shape)), targets="like_outputs")
        assert source.local()[2].shape == shape
    for shape in ((50, 3), (50, 4, 1)):
        with pytest.raises(DataError, match=r"sample_weight has shape .*each sample.*or one for each of its positions, shape \(50, 4, 2\)"):
            open_source(X, np.ones((50, 4, 2)), wrap(np.ones(shape)), targets="like_outputs")


def test_rows_of_tables_are_aligned_by_their_index():
    shuffled = pd.Series(LABELS)[::-1]
    source = open_source(FRAME, shuffled, targets="classes")
    assert np.array_equal(source.local()[1], LABELS)
    with pytest.raises(DataError, match=r"x and y have different indexes.*reset_index"):
        open_source(FRAME, shuffled.rename(lambda i: i + 1), targets="classes")


def test_partitions_of_tables_with_other_indexes_are_refused():
    labels = pd.Series(LABELS)
    open_source(dd.from_pandas(FRAME, npartitions=3), dd.from_pandas(labels, npartitions=3), targets="classes")
    with pytest.raises(DataError, match=r"x and y have different indexes"):
        open_source(dd.from_pandas(FRAME, npartitions=3), dd.from_pandas(labels.rename(lambda i: i + 1), npartitions=3), targets="classes")
    with pytest.raises(DataError, match=r"x and y have different indexes"):
        open_source([dask.delayed((FRAME, labels[::-1]))], targets="classes")


def test_rows_do_not_depend_on_the_order_of_keys():
    turned = FRAME[::-1][["a"]]
    for x in ({"u": FRAME, "v": turned}, {"v": turned, "u": FRAME}):
        source = open_source(x, pd.Series(LABELS[::-1], turned.index), targets="classes")
        rows, labels, _ = source.columns.bind(source.local())
        assert np.array_equal(rows["u"], X)
        assert np.array_equal(rows["v"], X[:, :1])
        assert np.array_equal(labels, LABELS)
        with pytest.raises(DataError, match=r"x.u and x.v have their rows in different orders, and y has no index.*y.loc\[x.index\]"):
            open_source(x, LABELS, targets="classes")


ROWS = {
    "pandas": lambda table: table,
    "dask": lambda table: dd.from_pandas(table, npartitions=3, sort=False),
    "dask, cut otherwise": lambda table: dd.from_pandas(table, npartitions=4, sort=False),
    "delayed": delayed,
}


@pytest.mark.parametrize("form", ROWS)
def test_rows_of_partitions_and_tables_with_other_indexes_are_refused(form):
    names = pd.Series([f"row {i}" for i in range(50)])
    frame, labels = FRAME.set_index(names), pd.Series(LABELS, names)
    source = open_source(ROWS["dask"](frame), ROWS[form](labels), targets="classes")
    assert np.array_equal(source.local()[0], X)
    assert np.array_equal(source.local()[1], LABELS)
    swapped = labels.iloc[[1, 0, *range(2, 50)]]
    for x, y in ((ROWS["dask"](frame), ROWS[form](swapped)), (ROWS[form](frame), ROWS["dask"](swapped))):
        with pytest.raises(DataError, match=r"x and y have different indexes.*\.to_numpy\(\)"):
            open_source(x, y, targets="classes")


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: dd.from_pandas(f, npartitions=2), lambda f: [dask.delayed(f)]])
@pytest.mark.parametrize("names", [[0, "0"], ["a", "a"]])
def test_tables_with_two_columns_of_one_name_are_refused(wrap, names):
    frame = pd.DataFrame(X[:, :2], columns=names)
    with pytest.raises(DataError, match=r"x has two columns of one name"):
        open_source(wrap(frame), LABELS, targets="classes")


@pytest.mark.parametrize("form", [list, tuple, lambda a: [[*row] for row in a]])
def test_masked_elements_of_lists_are_refused(form):
    masked = np.ma.array(X, mask=np.arange(200).reshape(50, 4) == 99)
    with pytest.raises(DataError, match=r"x(\.24)? holds a masked element: row (24|3), counted from 0"):
        open_source(form(masked), targets=None)


def test_masked_blocks_are_refused():
    masked = da.from_array(np.ma.masked_greater(X, X[33].max()), chunks=(20, 4), asarray=False)
    with pytest.raises(DataError, match=r"x holds a masked element: row \d+"):
        open_source(masked, LABELS, targets="classes")
    with pytest.raises(DataError, match=r"partition 1: x holds a masked element"):
        open_source([dask.delayed(X), dask.delayed(np.ma.masked_greater(X, 0.9))], targets=None)
    assert np.array_equal(open_source(np.ma.array(X), LABELS, targets="classes").local()[0], X)


def test_integers_become_the_floats_of_the_fit():
    assert open_source(LABELS, targets=None, expected=Columns.of(Spec((), np.dtype("f4")))).columns.x == Spec((), np.dtype("f4"))
    assert open_source(LABELS, targets=None, expected=Columns.of(Spec((), np.dtype("u1")))).columns.x == Spec((), np.dtype("i8"))


def test_several_targets_need_a_cost_function():
    with pytest.raises(DataError, match="y is a nest of columns, but this loss compares the outputs with one array"):
        open_source(X, {"a": LABELS}, targets="classes")
