"""Coloured digits: each picture is a function of seed and number alone, and its colour tells nothing of its class."""

from importlib.util import find_spec

import numpy as np
import pytest

from dagtrain.data import coloured_digits, load_digits
from dagtrain.errors import ArgumentError

pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="the digits come with scikit-learn")


@pytest.fixture(scope="module")
def data():
    return coloured_digits(16, seed=1)


@pytest.mark.slow
def test_a_picture_is_a_function_of_seed_and_number(data):
    digits, twice, lazy = load_digits(seed=1), coloured_digits(16, copies=2, seed=1), coloured_digits(16, seed=1, as_dask=True)
    assert np.array_equal(data.y, digits.y)
    assert np.array_equal(twice.x[: len(data.x)], data.x)
    assert np.array_equal(twice.y, np.tile(data.y, 2))
    assert not np.array_equal(twice.x[len(data.x) :], data.x)
    assert np.array_equal(twice.x_validation, data.x_validation)
    assert lazy.x.numblocks == (6, 1, 1, 1)
    assert np.array_equal(lazy.x[300:310].compute(), data.x[300:310])
    assert all(np.array_equal(a.compute(), b) for a, b in zip(lazy[1:], data[1:], strict=True))
    again = coloured_digits(16, seed=2, as_dask=True).x[:9].compute()
    assert not np.array_equal(again, data.x[:9])


def test_digits_are_bright_on_dark_noise_wherever_they_are(data):
    assert data.x.dtype == np.float32
    assert (data.x.min(), data.x.max()) == (0, 1)
    bright = data.x.max(axis=-1) > 0.8
    assert bright.any(axis=(1, 2)).mean() > 0.99
    assert 0.05 < bright.mean() < 0.3
    rows, columns = (bright.mean(axis=(0, axis)) for axis in (2, 1))
    assert min(rows[4:12].min(), columns[4:12].min()) > 0.03  # anywhere but at the border


def test_no_colour_tells_the_class(data):
    """The mean colour of the bright elements differs between classes by no more than chance."""
    bright = (data.x.max(axis=-1, keepdims=True) > 0.8).astype("f4")
    colour = (data.x * bright).sum(axis=(1, 2)) / np.maximum(bright.sum(axis=(1, 2)), 1)
    means = np.stack([colour[data.y == label].mean(axis=0) for label in range(10)])
    assert np.abs(means - colour.mean(axis=0)).max() < 5 * colour.std() / np.sqrt(140)


@pytest.mark.parametrize("arguments", [{"size": 8}, {"copies": 0}])
def test_wrong_arguments(arguments):
    with pytest.raises(ArgumentError, match=f"coloured_digits: {next(iter(arguments))} must be a whole number"):
        coloured_digits(**arguments)
