"""Initialisers: spread and shape, as functions of the key."""

import math

import numpy as np
import pytest

from dagtrain.errors import ArgumentError, ShapeError, UnknownNameError
from dagtrain.nn import initializers
from dagtrain.ops.random import derive, key

SHAPE = (300, 200)
STD = {
    "glorot_uniform": math.sqrt(2 / 500),
    "glorot_normal": math.sqrt(2 / 500),
    "he_uniform": math.sqrt(2 / 300),
    "he_normal": math.sqrt(2 / 300),
    "lecun_uniform": math.sqrt(1 / 300),
    "lecun_normal": math.sqrt(1 / 300),
    "normal": 0.05,
    "uniform": 0.05 / math.sqrt(3),
    # A normal variable cut at 2: variance 1 - 4 phi(2) / (2 Phi(2) - 1).
    "truncated_normal": 0.05 * math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))),
    "orthogonal": 1 / math.sqrt(300),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STD))
def test_mean_and_spread(name):
    drawn = initializers.find(name)(key(3), SHAPE, np.float64)
    assert abs(drawn.mean()) < 5 * STD[name] / math.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(STD[name], rel=0.015)


@pytest.mark.parametrize("name", sorted(initializers.INITIALIZERS))
def test_one_key_one_array(name):
    draw = initializers.find(name)
    first, again = draw(key(1), (6, 5)), draw(key(1), (6, 5))
    assert first.dtype == np.float32
    assert first.shape == (6, 5)
    np.testing.assert_array_equal(first, again)
    if name not in ("zeros", "ones"):
        assert not np.array_equal(first, draw(derive(key(1), 0), (6, 5)))


def test_numbers_are_pinned():
    # A change of these numbers changes the result of every training run.
    np.testing.assert_array_equal(
        initializers.uniform(key(7), (3,), np.float64, limit=1.0), np.random.Generator(np.random.Philox(key=[7, 0])).uniform(-1, 1, 3)
    )


def test_uniform_limit_of_glorot():
    drawn = initializers.glorot_uniform(key(0), (30, 70))
    assert np.abs(drawn).max() <= math.sqrt(6 / 100)
    assert np.abs(drawn).max() > 0.99 * math.sqrt(6 / 100)


def test_truncated_normal_stays_within_two_deviations():
    assert np.abs(initializers.truncated_normal(key(0), (100, 100), std=0.1)).max() <= 0.2


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (3, 3, 2, 7)])
def test_orthogonal(shape):
    q = initializers.orthogonal(key(2), shape, np.float64).reshape(-1, shape[-1])
    gram = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-12)


def test_fans_of_a_convolution_count_the_window():
    assert initializers.fans((5, 5, 3, 16)) == (75, 400)


def test_orthogonal_needs_two_axes():
    with pytest.raises(ShapeError, match="two axes"):
        initializers.orthogonal(key(0), (3,))


def test_unknown_name_and_negative_spread():
    with pytest.raises(UnknownNameError, match="Did you mean 'glorot_uniform'"):
        initializers.find("glorot_unifrom")
    with pytest.raises(ArgumentError, match="std must be"):
        initializers.normal(key(0), (2,), std=-1.0)
