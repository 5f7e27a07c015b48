"""The digits: sizes, range, a split by class that depends on the seed alone."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from dagtrain.data import load_digits, open_source
from dagtrain.errors import MissingDependencyError

pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="the digits come with scikit-learn")


@pytest.fixture(scope="module")
def whole():
    """The digits as scikit-learn loads them."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return (pixels / 16).astype("f4"), labels


def rows(*arrays):
    return sorted(map(bytes, np.concatenate(arrays)))


def test_both_sets_together_are_the_whole_scaled(whole):
    split = load_digits()
    assert (len(split.x), len(split.x_validation)) == (1437, 360)
    assert rows(split.x, split.x_validation) == rows(whole[0])


def test_each_class_is_split_alike():
    split = load_digits()
    held_out, training = (np.bincount(y, minlength=10) for y in (split.y_validation, split.y))
    assert np.abs(held_out - (held_out + training) / 5).max() < 1


def test_labels_stay_with_their_pixels(whole):
    split = load_digits(seed=3)
    digit = {bytes(row): label for row, label in zip(*whole, strict=True)}
    assert all(digit[bytes(row)] == label for row, label in zip(split.x_validation, split.y_validation, strict=True))


def test_the_split_depends_on_its_seed_alone():
    np.random.seed(1)  # noqa: NPY002 - to show that the global generator plays no part
    first = load_digits(seed=1)
    np.random.seed(2)  # noqa: NPY002 - as above
    again, other = load_digits(seed=1), load_digits(seed=2)
    assert np.array_equal(first.x_validation, again.x_validation)
    assert not np.array_equal(first.x_validation, other.x_validation)


def test_dask_arrays_hold_the_same_in_partitions():
    arrays, lazy = load_digits(), load_digits(as_dask=True)
    source = open_source(lazy.x, lazy.y, targets="classes", classes=10)
    assert source.sizes == (256,) * 5 + (157,)
    assert all(np.array_equal(a, b) for a, b in zip(source.local(), arrays[:2], strict=True))


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "dagtrain\[sklearn\]"'):
        load_digits()
