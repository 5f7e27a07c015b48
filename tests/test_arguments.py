from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from dagtrain import arguments, nn, optim
from dagtrain.errors import ArgumentError, UnknownNameError

from .each import each

NO_NUMBERS = [True, np.True_, None, "1", [1], 1j, np.complex64(1), np.array(1.0), Fraction(1, 2), float("nan")]
CHECKS = [arguments.positive, arguments.not_negative, arguments.fraction, arguments.whole]


@each(product(CHECKS, NO_NUMBERS))
def test_what_is_no_number_is_refused(check, value):
    with pytest.raises(ArgumentError, match="sgd: momentum must be a"):
        check("sgd: momentum", value)


@pytest.mark.parametrize(
    ("check", "inside", "outside"),
    [
        (arguments.whole, [1, np.int8(7)], [0, -1, 1.0, np.float32(2)]),
        (arguments.positive, [1, 1e-300, np.float32(2)], [0, -0.0, -1, np.inf]),
        (arguments.not_negative, [0, -0.0, np.float16(2)], [-1e-300, np.inf]),
        (arguments.fraction, [0, 0.5, np.float32(0.9)], [1, -0.1, np.inf]),
    ],
)
def test_the_ends_of_each_range(check, inside, outside):
    for value in inside:
        assert check("it", value) == value
    for value in outside:
        with pytest.raises(ArgumentError, match="it must be"):
            check("it", value)


@each([0, 1, None, "True", np.True_])
def test_what_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(ArgumentError, match="LSTM: use_bias is True or False, got"):
        nn.LSTM(3, use_bias=value)
    with pytest.raises(ArgumentError, match="Dense: use_bias is True or False"):
        nn.Dense(3, "relu", value)
    with pytest.raises(ArgumentError, match="Conv2D: trainable is True or False"):
        nn.Conv2D(3, 3, trainable=value)
    with pytest.raises(ArgumentError, match="staircase is True or False"):
        optim.exponential_decay(0.1, 0.5, staircase=value)
    with pytest.raises(ArgumentError, match="centered is True or False"):
        optim.rmsprop(centered=value)


def test_ranges_that_are_wider():
    assert arguments.fraction("it", 1, one=True) == 1
    assert arguments.positive("it", np.inf, infinite=True) == np.inf
    assert arguments.not_negative("it", np.inf, infinite=True) == np.inf
    assert arguments.whole("it", np.int64(0), 0) == 0
    assert type(arguments.whole("it", np.int64(3))) is int


@pytest.mark.parametrize("value", [-1, 2**64, 0.5, True, None])
def test_a_seed_is_a_whole_number_of_64_bits(value):
    assert arguments.seed(2**64 - 1) == 2**64 - 1
    with pytest.raises(ArgumentError, match=r"from 0 to 2\*\*64 - 1, got"):
        arguments.seed(value)


@pytest.mark.parametrize("name", ["lane", None, ["lanes"]])
def test_one_of_some_names(name):
    assert arguments.one_of("engine", "lanes", ("inline", "lanes")) == "lanes"
    with pytest.raises(UnknownNameError, match=r"unknown engine .* Known: inline, lanes"):
        arguments.one_of("engine", name, ("inline", "lanes"))
