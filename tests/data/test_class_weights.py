"""Weights of classes become weights of samples, and sources are split by rows; alike for arrays and partitions."""

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagtrain.data import open_source
from dagtrain.data.class_weights import weigh_classes
from dagtrain.errors import ArgumentError, DataError

X = np.random.default_rng(0).random((50, 4)).astype("f4")
LABELS = np.arange(50) ** 2 % 7 % 3
WEIGHTS = np.sqrt(np.arange(50))
FORMS = {"arrays": lambda a, n: a, "partitions": lambda a, n: da.from_array(a, chunks=(n, *a.shape[1:]))}


def source(form, y=LABELS, weights=None, targets="classes", size=20):
    wrap = FORMS[form]
    return open_source(wrap(X, size), wrap(y, size), None if weights is None else wrap(weights, size), targets=targets)


def weights_of(source, class_weight):
    weighed = weigh_classes(source, class_weight)
    assert weighed.columns.names == ("x", "y", "sample_weight")
    x, y, weights = weighed.local()
    assert np.array_equal(x, X)
    return y, weights


@pytest.mark.parametrize("form", FORMS)
def test_each_sample_weighs_what_its_label_does(form):
    y, weights = weights_of(source(form), {2: 3.0, 1: 0.5})
    assert np.array_equal(weights, np.array([1.0, 0.5, 3.0], "f4")[y])
    _, weights = weights_of(source(form, weights=WEIGHTS), {0: 1 / 3})
    assert np.array_equal(weights, (np.where(LABELS == 0, 1 / 3, 1.0) * WEIGHTS.astype("f4")).astype("f4"))


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_compared_in_the_dtype_of_training(form):
    y = np.where(LABELS > 0, 0.1, 0.9)
    _, weights = weights_of(source(form, y, targets="like_outputs"), {0.1: 5.0})
    assert np.array_equal(weights, np.where(LABELS > 0, 5.0, 1.0))
    _, weights = weights_of(source(form, np.where(LABELS > 1, np.float32(0.1), y), targets="like_outputs"), "balanced")
    assert len(set(weights)) == 2
    with pytest.raises(ArgumentError, match="two labels that are the same number in float32"):
        weigh_classes(source(form, y, targets="like_outputs"), {0.1: 5.0, float(np.float32(0.1)): 1.0})


@pytest.mark.parametrize("form", FORMS)
def test_weights_of_other_labels_than_those_in_y_are_refused(form):
    with pytest.raises(DataError, match=r"class_weight has the label 3, which y does not have.*The labels in y are 0, 1, 2"):
        weigh_classes(source(form), {1: 2.0, 3: 2.0})
    weights_of(source(form), {0: 1.0, 1: 2.0, 2: 1.0, 3: 2.0})  # a label that is rare enough to be missing


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("y", "targets"), [(LABELS, "classes"), (LABELS % 2 * 2.0 - 1, "signs"), ((LABELS > 0)[:, None], "binary")])
def test_balanced_labels_count_alike(form, y, targets):
    labels, weights = weights_of(source(form, y, targets=targets), "balanced")
    totals = [weights[labels.ravel() == label].sum() for label in np.unique(labels)]
    np.testing.assert_allclose(totals, 50 / len(totals), rtol=1e-6)


@pytest.mark.parametrize(
    ("class_weight", "says"),
    [
        ({0: -1.0}, "the class weight of 0 must be a finite number from 0 up"),
        ({0: float("nan")}, "the class weight of 0 must be a finite number"),
        ({"a": 1.0}, "class_weight is a dict from labels to weights"),
        ({}, "class_weight is a dict"),
        ("even", "class_weight is a dict"),
        ([1.0, 2.0], "class_weight is a dict"),
        (np.ones(3), "class_weight is a dict"),
    ],
)
def test_other_weights_are_refused(class_weight, says):
    with pytest.raises(ArgumentError, match=says):
        weigh_classes(source("arrays"), class_weight)


@pytest.mark.parametrize("form", FORMS)
def test_weights_in_the_shape_of_a_column_of_labels(form):
    y, weights = weights_of(source(form, LABELS[:, None], WEIGHTS[:, None], targets="like_outputs"), {1: 2.0})
    assert np.array_equal(weights, np.where(y == 1, 2.0, 1.0) * WEIGHTS[:, None].astype("f4"))


def test_other_targets_are_refused():
    with pytest.raises(DataError, match=r"one label for each sample as y, got float32\[4\] for each"):
        weigh_classes(source("arrays", X, targets="like_outputs"), "balanced")
    with pytest.raises(DataError, match="one label for each sample as y, got a nest"):
        weigh_classes(open_source(X, {"a": LABELS}, targets=None), "balanced")
    many = np.arange(20_000.0)
    with pytest.raises(DataError, match="y has 20,000 different values"):
        weigh_classes(open_source(many, many, targets="like_outputs"), "balanced")


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 49), size=st.integers(1, 50))
def test_a_split_keeps_all_rows_in_order(form, rows, size):
    with dask.config.set(scheduler="sync"):
        whole = source(form, weights=WEIGHTS, size=size)
        first, rest = whole.split(rows)
        assert (first.samples, rest.samples) == (rows, 50 - rows)
        assert first.columns == rest.columns == whole.columns
        for a, b, both in zip(first.local(), rest.local(), whole.local(), strict=True):
            assert np.array_equal(a, both[:rows])
            assert np.array_equal(b, both[rows:])


def test_a_split_of_partitions_on_a_cluster_stays_resident():
    first, rest = source("partitions").split(25)
    assert (first.sizes, rest.sizes, first.resident) == ((20, 5), (15, 10), False)
