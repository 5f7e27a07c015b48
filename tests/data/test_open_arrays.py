"""Arrays, lists and tables in this process: their dtypes in training, and errors for unfit data."""

import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagtrain.data import open_source
from dagtrain.data.source import PARTITION_BYTES
from dagtrain.errors import ArgumentError, DataError, UnknownNameError
from dagtrain.graph import Spec

X = np.arange(12.0).reshape(6, 2)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def spec(dtype, *shape):
    return Spec(shape, np.dtype(dtype))


@pytest.mark.parametrize(
    ("x", "row"),
    [
        (X, spec("f4", 2)),
        (X.tolist(), spec("f4", 2)),
        (X.astype("f2"), spec("f4", 2)),
        (X.astype("u1"), spec("u1", 2)),
        (X > 3, spec("?", 2)),
        (X[:, 0], spec("f4")),
        (np.zeros((6, 4, 5, 3)), spec("f4", 4, 5, 3)),
        (pd.DataFrame(X), spec("f4", 2)),
        (pd.Series(X[:, 0]), spec("f4")),
        (pd.DataFrame({"a": X[:, 0], "b": X[:, 0] > 3, "c": LABELS}), spec("f4", 3)),
        (pd.DataFrame({"a": pd.array([1, 2, 3, 4, 5, 6], dtype="Int64")}), spec("f4", 1)),
        (pd.Series([1, 2, 3, 4, 5, 6], dtype="Int64"), spec("f4")),
    ],
)
def test_floats_become_float32_and_integers_stay(x, row):
    source = open_source(x, LABELS, targets="classes")
    assert source.columns.x == row
    assert source.local()[0].dtype == row.dtype
    assert source.local()[0].shape == (6, *row.shape)


def test_float64_is_kept_with_dtype():
    source = open_source(X, X[:, 0], targets="like_outputs", dtype=np.float64)
    assert (source.columns.x, source.columns.y) == (spec("f8", 2), spec("f8"))


@pytest.mark.parametrize(
    ("y", "targets", "row"),
    [
        (LABELS, "classes", spec("i8")),
        (LABELS.astype("f8"), "classes", spec("i8")),
        (LABELS.astype("u1"), "classes", spec("i8")),
        (pd.Series(LABELS), "classes", spec("i8")),
        (LABELS > 0, "binary", spec("f4")),
        ((LABELS > 0) * 2 - 1, "signs", spec("f4")),
        (np.eye(3)[LABELS], "distribution", spec("f4", 3)),
        (LABELS, "like_outputs", spec("f4")),
        (np.zeros((6, 2, 2)), "like_outputs", spec("f4", 2, 2)),
        (LABELS / 2, "binary", spec("f4")),
        (LABELS, None, spec("i8")),
        (LABELS, "any", spec("i8")),
        (LABELS * 0.5, None, spec("f4")),
    ],
)
def test_targets_get_the_dtype_of_their_loss(y, targets, row):
    source = open_source(X, y, targets=targets, classes=3)
    assert source.columns.y == row
    assert source.local()[1].dtype == row.dtype
    assert np.array_equal(source.local()[1], np.asarray(y))


def test_sequences_of_labels_have_label_axes():
    y = np.stack([LABELS] * 4, axis=1)
    assert open_source(X, y, targets="classes", classes=3, label_axes=2).columns.y == spec("i8", 4)
    with pytest.raises(DataError, match=r"y has shape \(6, 4, 3\): class labels are whole numbers along 2 axes.*argmax"):
        open_source(X, np.eye(3)[y], targets="classes", classes=3, label_axes=2)
    with pytest.raises(DataError, match="row 2, column 0"):
        open_source(X, y, targets="classes", classes=2, label_axes=2)


def test_there_may_be_no_targets():
    source = open_source(X, targets=None)
    graph, (key,) = source.tasks()
    assert (source.columns.y, len(source.local()), len(graph[key]())) == (None, 1, 1)


def test_arrays_already_right_are_not_copied():
    x = X.astype("f4")
    assert np.shares_memory(open_source(x, targets=None).local()[0], x)


def test_partitions_are_rows_of_four_megabytes_and_join_to_the_whole():
    x = np.arange(3 * PARTITION_BYTES // 4 // 100 * 100, dtype="f4").reshape(-1, 100)
    source = open_source(x, np.arange(len(x)), targets="like_outputs")
    graph, keys = source.tasks()
    parts = [graph[key]() for key in keys]
    assert len(source.sizes) == 4
    assert [len(part) for part, _ in parts] == list(source.sizes)
    assert all(part.nbytes + target.nbytes <= PARTITION_BYTES for part, target in parts)
    assert np.array_equal(np.concatenate([part for part, _ in parts]), x)
    assert np.array_equal(np.concatenate([target for _, target in parts]), np.arange(len(x)))


def test_a_row_larger_than_a_partition_is_one_partition():
    assert open_source(np.zeros((2, PARTITION_BYTES // 4 + 1), "f4"), targets=None).sizes == (1, 1)


def test_keys_name_the_data_and_depend_on_its_content_alone():
    first, second, other = (open_source(x, LABELS, targets="classes").tasks()[1] for x in (X, X.copy(), X + 1))
    assert first == second != other
    assert first[0][0].startswith("data-")
    assert first[0][1] == 0


def test_opening_arrays_imports_no_dask():
    import subprocess

    code = "import sys, dagtrain.data as d; d.open_source([[1.0]], [0], targets='classes').local(); sys.exit('dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 5), st.integers(0, 1), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_the_row_and_column_that_are_not_finite_are_named(row, column, value):
    x = X.copy()
    x[row, column] = value
    with pytest.raises(DataError, match=rf"x holds {value}: row {row}, column {column}, counted from 0"):
        open_source(x, LABELS, targets="classes")


def test_the_column_of_a_table_is_named():
    with pytest.raises(DataError, match=r"x holds nan: row 2, column 1 \('income'\)"):
        open_source(pd.DataFrame({"age": [1, 2, 3], "income": pd.array([1, 2, None], dtype="Int64")}), targets=None)


def test_the_position_in_an_image_is_named():
    x = np.zeros((3, 4, 4, 1))
    x[2, 3, 1, 0] = np.nan
    with pytest.raises(DataError, match=r"row 2, at \[3, 1, 0\] in it"):
        open_source(x, targets=None)


def test_rows_are_counted_over_all_partitions():
    x = np.zeros((PARTITION_BYTES // 4, 3), "f4")
    x[-2, 1] = np.nan
    with pytest.raises(DataError, match=rf"row {len(x) - 2}, column 1"):
        open_source(x, targets=None)


NUMBERED = np.arange(6)
REFUSED = [
    (X, LABELS[:5], "classes", r"x has 6 samples and y has 5.*\(6, 2\) and \(5,\)"),
    (X.astype(object), LABELS, "classes", r"x has dtype object.*astype"),
    (X + 1j, LABELS, "classes", "x has dtype complex128.*np.stack"),
    (X.astype(str), LABELS, "classes", "x has dtype <U.*return_inverse"),
    (X.astype("M8[s]"), LABELS, "classes", "x has dtype datetime64.*dates"),
    (X, np.array(list("abcabc")), "classes", "y has dtype <U1.*return_inverse"),
    (pd.DataFrame({"a": X[:, 0], "town": list("abcabc")}), LABELS, "classes", "column 'town' of x"),
    (pd.DataFrame({"a": pd.Categorical(list("abcabc"))}), LABELS, "classes", r"column 'a' of x.*\.cat\.codes"),
    (X, LABELS - 1, "classes", "y holds the label -1, which is negative: row 0, counted from 0"),
    (X, LABELS, "classes", r"y holds the label 2, but there are 2 classes \(labels 0 to 1\): row 2"),
    (X, LABELS + 0.5, "classes", "y holds the label 0.5, which is not a whole number: row 0.*regression"),
    (X, np.where(NUMBERED == 4, np.nan, LABELS), "classes", "y holds nan: row 4"),
    (X, np.eye(3)[LABELS], "classes", r"y has shape \(6, 3\).*argmax\(axis=-1\).*distribution"),
    (X, LABELS[:, None], "classes", r"y has shape \(6, 1\).*y\[\.\.\., 0\]"),
    (X, LABELS - 1, "binary", "y holds -1, but a binary target is 0 or 1 .*: row 0"),
    (X, LABELS, "signs", r"y holds 0, but this loss wants -1 or \+1: row 0.*2 \* y - 1"),
    (X, LABELS, "distribution", r"y has shape \(6,\).*cross-entropy"),
    (X, np.eye(3)[LABELS], "distribution", "rows have 3 probabilities, but there are 2 classes"),
    (X, np.full((6, 2), 0.6), "distribution", "y holds probabilities that sum to 1.2 instead of 1: row 0, counted"),
    (X, np.tile([1.5, -0.5], (6, 1)), "distribution", "y holds -0.5, but a probability is not negative: row 0, column 1"),
    (X, np.full(6, 1e39), "like_outputs", r"y holds 1e\+39, too large for float32: row 0"),
    (X[:0], LABELS[:0], "classes", r"x is empty: its shape is \(0, 2\)"),
    (X[:, :0], LABELS, "classes", r"x is empty: its shape is \(6, 0\)"),
    (np.float64(3), LABELS, "classes", "x is a single number"),
    (pd.DataFrame(index=range(6)), LABELS, "classes", "the table has no columns"),
    ([[1.0, 2.0], [3.0]], [0, 1], "classes", r"x \(list\) cannot become an array"),
    ({}, LABELS, "classes", "x is an empty dict"),
    ({1: X}, LABELS, "classes", "x is a dict of columns: its keys are their names, and must be text"),
    ((row for row in X), LABELS, "classes", r"x is a generator.*dask\.delayed\(load\)"),
    (None, LABELS, "classes", "x is None: give an array or a table of numbers"),
    (np.ma.masked_greater(X, 3), LABELS, "classes", r"x holds a masked element: row 2, counted from 0.*\.filled"),
    (pd.Series(list("abcabc"), dtype=object), LABELS, "classes", "x has dtype object.*return_inverse"),
    (pd.Series(pd.date_range("2026", periods=6, tz="UTC")), LABELS, "classes", "x has dtype datetime64.*seconds since the first"),
    (X, pd.DataFrame({"label": LABELS}), "classes", r"y has shape \(6, 1\).*y\.iloc\[:, 0\]"),
    (X, None, "classes", r"there is no y.*Pass y"),
]


@pytest.mark.parametrize(("x", "y", "targets", "says"), REFUSED)
def test_data_that_cannot_be_used_is_refused(x, y, targets, says):
    with pytest.raises(DataError, match=says):
        open_source(x, y, targets=targets, classes=2)


def test_sparse_matrices_are_refused_with_advice():
    from scipy.sparse import csr_matrix

    with pytest.raises(DataError, match=r"csr_matrix.*toarray"):
        open_source(csr_matrix(X), LABELS, targets="classes")


def test_numbers_too_large_for_float32_are_no_error_in_float64():
    assert open_source(X * 1e300, targets=None, dtype=np.float64).samples == 6


def test_an_unknown_kind_of_targets_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'classes'"):
        open_source(X, LABELS, targets="class")


def test_other_dtypes_of_training_are_refused():
    with pytest.raises(ArgumentError, match='"float32" or "float64"'):
        open_source(X, LABELS, targets="classes", dtype=np.float16)
