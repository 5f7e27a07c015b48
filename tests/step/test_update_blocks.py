"""An update by blocks is the update of the whole vector."""

import itertools
import pickle

import numpy as np
import pytest

from dagtrain import optim
from dagtrain.step import State, Update
from dagtrain.step.update import BLOCK, blocks_of

from ..each import each

pytestmark = pytest.mark.slow

SEVERAL = 2 * BLOCK + 1234

EACH = {
    "sgd": optim.sgd(0.1),
    "momentum": optim.sgd(0.1, momentum=0.9),
    "nesterov": optim.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optim.adam(1e-2),
    "adamw": optim.adamw(1e-2, weight_decay=0.1),
    "rmsprop": optim.rmsprop(1e-2),
    "adagrad": optim.adagrad(1e-2),
    "adadelta": optim.adadelta(1.0),
    "nadam": optim.nadam(1e-2),
    "average and lookahead": optim.averaged(optim.lookahead(optim.lion(1e-2), 2), 0.9),
    "scheduled": optim.adam(optim.cosine(1e-2, steps=5)),
    "l2": optim.chain(optim.l2(0.1), optim.sgd(0.1)),
    "decayed": optim.chain(optim.adam(1e-2), optim.add_decayed_weights(0.1, 0.01)),
    "clipped by value": optim.chain(optim.clip_by_value(0.5), optim.sgd(0.1)),
}
NORMS = {
    "clipped by norm": optim.chain(optim.clip_by_global_norm(1.0), optim.adam(1e-2)),
    "clipped twice": optim.chain(optim.clip_by_global_norm(2.0), optim.sgd(0.1, momentum=0.9), optim.clip_by_global_norm(0.01)),
}


def gradients(size, steps=3):
    random = np.random.default_rng(size)
    return [random.normal(size=size).astype("f4") for _ in range(steps)]


def first(update, size):
    start = np.random.default_rng(1).normal(size=size).astype("f4")
    return State(start, np.empty(0, "f4"), {n: np.zeros(size, "f4") for n in update.slots})


def by_blocks(optimizer, size, order=None):
    update = Update(optimizer, size)
    state = first(update, size)
    for gradient in gradients(size):
        scalars = update.scalar_values(state, 1.0, update.norms(state, gradient, 1.0))
        bound = update.bind(state, gradient)
        for i in order or range(len(update.blocks)):
            bound.block(i, scalars)
        state.step += 1
    return state


def whole(optimizer, size):
    update = Update(optimizer, size)
    state = first(update, size)
    for gradient in gradients(size):
        state.parameters, state.slots = optim.apply_once(optimizer, state.parameters, gradient, state.slots, state.step)
        state.step += 1
    return state


def same_bits(a, b):
    return np.array_equal(a.parameters, b.parameters) and all(np.array_equal(a.slots[n], b.slots[n]) for n in a.slots)


@pytest.mark.parametrize("size", [1, 7, BLOCK, SEVERAL])
@pytest.mark.parametrize("optimizer", EACH.values(), ids=EACH)
def test_blocks_give_the_bits_of_the_whole_vector(optimizer, size):
    assert same_bits(by_blocks(optimizer, size), whole(optimizer, size))


@pytest.mark.parametrize("optimizer", NORMS.values(), ids=NORMS)
def test_a_norm_over_the_blocks_is_the_norm_of_the_whole_vector(optimizer):
    state, expected = by_blocks(optimizer, SEVERAL), whole(optimizer, SEVERAL)
    np.testing.assert_allclose(state.parameters, expected.parameters, rtol=1e-5, atol=1e-7)
    assert np.abs(state.parameters - first(Update(optimizer, SEVERAL), SEVERAL).parameters).max() > 1e-6


def test_the_norm_is_that_of_all_blocks():
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(1.0))
    update = Update(optimizer, SEVERAL)
    gradient = np.full(SEVERAL, 2.0, "f4")
    ((norm,),) = update.norms(first(update, SEVERAL), gradient, 1.0)
    assert norm == pytest.approx(2 * np.sqrt(SEVERAL), rel=1e-6)


@pytest.mark.parametrize("optimizer", [EACH["adam"], NORMS["clipped by norm"]], ids=["adam", "clipped by norm"])
def test_the_blocks_may_be_updated_in_any_order(optimizer):
    assert same_bits(by_blocks(optimizer, SEVERAL), by_blocks(optimizer, SEVERAL, order=[2, 0, 3, 1]))


def test_blocks_are_contiguous_and_depend_on_the_size_alone():
    blocks = blocks_of(SEVERAL)
    assert [b.stop - b.start for b in blocks] == [33088, 33088, 33088, 33042]
    assert [b.start for b in blocks[1:]] == [b.stop for b in blocks[:-1]]
    assert blocks_of(0) == []


SMALL = [1, 15, 16, 17, 99, 1000]


@each([*itertools.product(SMALL, [1, 7, 16, 100, BLOCK]), (3 * BLOCK, 100), (3 * BLOCK, BLOCK), (17 * BLOCK + 1, BLOCK)])
def test_blocks_cover_the_vector_evenly(size, most):
    lengths = [b.stop - b.start for b in blocks_of(size, most)]
    assert sum(lengths) == size
    assert max(lengths) == lengths[0] <= most
    assert len(set(lengths[:-1])) <= 1
    if most == BLOCK and size >= 1000:
        assert min(lengths) >= 0.9 * max(lengths)


def test_an_update_can_be_pickled():
    size = BLOCK + 5
    update = Update(NORMS["clipped by norm"], size)
    copy = pickle.loads(pickle.dumps(update))
    states = []
    for each_update in (update, copy):
        state = first(each_update, size)
        (gradient,) = gradients(size, 1)
        scalars = each_update.scalar_values(state, 1.0, each_update.norms(state, gradient, 1.0))
        bound = each_update.bind(state, gradient)
        for i in range(len(each_update.blocks)):
            bound.block(i, scalars)
        states.append(state)
    assert same_bits(*states)
