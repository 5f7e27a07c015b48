"""Updates of every k-th step, Lookahead, and averages of the parameters."""

import numpy as np
import pytest

from dagtrain import optim
from dagtrain.errors import ArgumentError
from dagtrain.optim.groups import groups_of

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


def path(optimizer, gradients=GRADIENTS):
    """The parameters after each update, and the slots at the end."""
    parameters, slots, points = np.ones(4), None, []
    for step, gradient in enumerate(gradients):
        parameters, slots = optim.apply_once(optimizer, parameters, gradient, slots, step)
        points.append(parameters)
    return np.array(points), slots


def test_lookahead_is_the_published_rule():
    """Algorithm 1 of Zhang et al. (2019): the inner optimiser keeps its slots."""
    points, _ = path(optim.lookahead(optim.sgd(0.1, momentum=0.9), 3, 0.4))
    fast, slow, velocity = np.ones(4), np.ones(4), np.zeros(4)
    for step, gradient in enumerate(GRADIENTS):
        velocity = 0.9 * velocity + gradient
        fast = fast - 0.1 * velocity
        if (step + 1) % 3 == 0:
            fast = slow = slow + 0.4 * (fast - slow)
        np.testing.assert_allclose(points[step], fast, rtol=1e-12)


@pytest.mark.parametrize("decay", [0.7, 1.0, 0.0])
@pytest.mark.parametrize(("start", "every"), [(0, 1), (4, 2), (6, 5), (20, 1)])
def test_an_average_is_the_weighted_mean_of_what_was_reached(decay, start, every):
    plain = path(optim.sgd(0.1, momentum=0.9))[0]
    points, slots = path(optim.averaged(optim.sgd(0.1, momentum=0.9), decay, start, every))
    np.testing.assert_array_equal(points, plain)
    members = plain[start:][every - 1 :: every]
    expected = np.average(members, axis=0, weights=decay ** np.arange(len(members))[::-1]) if len(members) else plain[-1]
    np.testing.assert_allclose(slots["average"], expected, rtol=1e-12)


def test_around_a_choice_by_name_each_group_has_an_average_and_frozen_ones_none():
    outer = optim.averaged(optim.lookahead(optim.by_name({"b": optim.frozen(), "a": "adam"})), 0.9)
    groups = groups_of(outer, ["a", "b"])
    assert [list(group.slots) for group in groups] == [["a/first", "a/second", "a/ahead", "a/average"], []]
    assert groups[0].optimizer.average == "average"
    assert outer.learning_rate is None
    assert optim.averaged(optim.lookahead(optim.adam(0.1))).learning_rate == 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.every(0, optim.sgd()), "every: steps must be a whole number from 1 up, got 0"),
        (lambda: optim.every(optim.sgd(), 2), r"every takes an optimiser, as in every\(2, optim.adam\(1e-3\)\), got 2"),
        (lambda: optim.every(2, optim.frozen()), "every takes an optimiser that trains"),
        (lambda: optim.every(2, optim.every(2, optim.sgd())), "already leaves out steps"),
        (lambda: optim.chain(optim.l2(0.1), optim.every(2, optim.sgd())), r"every\(…\) stands around a chain"),
        (lambda: optim.lookahead(0.1), r"lookahead takes an optimiser, as in lookahead\(optim.adam"),
        (lambda: optim.lookahead(optim.sgd(), rate=1.5), "lookahead: rate must be a number above 0 and up to 1"),
        (lambda: optim.lookahead(optim.averaged(optim.sgd())), r"averaged\(lookahead\(…\)\) is the order of both"),
        (lambda: optim.averaged(optim.averaged(optim.sgd())), "is the order of both, each once"),
        (lambda: optim.averaged(optim.every(2, optim.sgd())), r"every\(…\) stands around it, as in every\(2, averaged"),
        (lambda: optim.averaged(optim.sgd(), decay=2), "averaged: decay must be a number from 0 to 1"),
        (lambda: optim.averaged(optim.frozen()), "averaged takes an optimiser that trains"),
        (lambda: optim.chain(optim.averaged(optim.sgd()), optim.l2(0.1)), "needs the whole change, so nothing follows it"),
    ],
)
def test_where_it_cannot_stand(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
