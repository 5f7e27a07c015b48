"""Chains, clipping, and the repr of optimisers."""

import pickle

import numpy as np
import pytest

from dagtrain import optim
from dagtrain.errors import ArgumentError, ShapeError


def test_equal_slot_names_are_kept_apart():
    both = optim.chain(optim.sgd(1.0, momentum=0.9), optim.sgd(1.0, momentum=0.5), optim.adam())
    assert both.slots == ("sgd_0_velocity", "sgd_1_velocity", "first", "second")
    _, slots = optim.apply_once(optim.chain(optim.sgd(1.0, 0.9), optim.sgd(2.0, 0.5)), np.zeros(1), np.ones(1))
    assert slots["sgd_0_velocity"] == 1.0
    assert slots["sgd_1_velocity"] == -1.0


def test_chains_nest():
    inner = optim.chain(optim.clip_by_value(1.0), optim.sgd(0.5, 0.9))
    outer = optim.chain(inner, optim.add_decayed_weights(0.1))
    parameters, slots = optim.apply_once(outer, np.array([2.0]), np.array([5.0]))
    assert parameters == pytest.approx(2 - 0.5 - 0.2)
    assert slots["velocity"] == 1.0


def test_a_short_gradient_is_not_touched_by_clipping():
    gradient = np.array([0.1, 0.2], "f4")
    clipped = optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(1.0))
    np.testing.assert_array_equal(optim.apply_once(clipped, np.zeros(2, "f4"), gradient)[0], -gradient)


def test_a_long_gradient_gets_the_length():
    moved, _ = optim.apply_once(
        optim.chain(optim.clip_by_global_norm(2.0), optim.sgd(1.0)), np.zeros(50), np.random.default_rng(0).normal(size=50)
    )
    assert np.linalg.norm(moved) == pytest.approx(2.0)


def test_clipping_shows_nan():
    moved, _ = optim.apply_once(optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(1.0)), np.zeros(2), np.array([np.nan, 1.0]))
    assert np.isnan(moved).all()


def test_repr_and_settings():
    chained = optim.chain(optim.clip_by_value(1.0), optim.adam(optim.cosine(0.1, 100)))
    assert repr(chained) == (
        "chain(clip_by_value(limit=1.0), "
        "adam(learning_rate=cosine(initial=0.1, steps=100, final=0.0, warmup_steps=0), beta_1=0.9, beta_2=0.999, epsilon=1e-08))"
    )
    assert optim.sgd(0.1, 0.9).settings == {"learning_rate": 0.1, "momentum": 0.9, "nesterov": False}


@pytest.mark.parametrize("optimizer", [optim.adamw(optim.warmup(0.1, 5)), optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(0.1, 0.9))])
def test_optimisers_can_be_pickled(optimizer):
    again = pickle.loads(pickle.dumps(optimizer))
    assert repr(again) == repr(optimizer)
    rng = np.random.default_rng(0)
    p, g = rng.normal(size=(2, 5))
    np.testing.assert_array_equal(optim.apply_once(again, p, g)[0], optim.apply_once(optimizer, p, g)[0])


def test_errors():
    with pytest.raises(ArgumentError, match="at least one"):
        optim.chain()
    with pytest.raises(ArgumentError, match=r"number 1 is 0\.1"):
        optim.chain(optim.adam(), 0.1)
    with pytest.raises(ShapeError, match=r"parameters \(3,\) and gradient \(2,\)"):
        optim.apply_once(optim.adam(), np.zeros(3), np.zeros(2))
