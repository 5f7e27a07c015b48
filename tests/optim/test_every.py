"""Updates of every k-th step."""

import numpy as np
import pytest

from dagtrain import optim
from dagtrain.errors import ArgumentError

GRADIENTS = np.random.default_rng(0).normal(size=(9, 4))


def after(optimizer, gradients, first=0, step=1):
    parameters, slots = np.ones(4), None
    for i, gradient in enumerate(gradients):
        parameters, slots = optim.apply_once(optimizer, parameters, gradient, slots, first + i * step)
    return parameters


@pytest.mark.parametrize("optimizer", [optim.adam(0.1), optim.sgd(optim.cosine(0.1, steps=4), momentum=0.9)], ids=["adam", "scheduled"])
def test_the_optimiser_sees_its_own_updates_alone(optimizer):
    np.testing.assert_array_equal(after(optim.every(3, optimizer), GRADIENTS), after(optimizer, GRADIENTS[2::3]))


def test_around_a_choice_by_name_each_group_leaves_out_steps():
    rules = optim.every(2, optim.by_name({"b": optim.frozen(), "a": optim.adam()})).rules(["a", "b"])
    assert [rules[name].optimizer.period for name in "ab"] == [2, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.every(0, optim.sgd()), "every: steps must be a whole number from 1 up, got 0"),
        (lambda: optim.every(optim.sgd(), 2), "every takes a number and an optimiser"),
        (lambda: optim.every(2, optim.frozen()), "every takes an optimiser that trains"),
        (lambda: optim.every(2, optim.every(2, optim.sgd())), "already leaves out steps"),
        (lambda: optim.chain(optim.l2(0.1), optim.every(2, optim.sgd())), r"every\(…\) stands around a chain"),
    ],
)
def test_where_it_cannot_stand(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
