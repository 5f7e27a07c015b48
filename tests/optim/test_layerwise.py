"""LAMB and LARS against their papers' formulas, for each parameter by itself."""

import numpy as np
import pytest

from dagtrain import optim
from dagtrain.optim.groups import ParameterGroup
from dagtrain.step import State, Update

SIZES = (5, 40, 0, 1)
RANDOM = np.random.default_rng(0)
START = RANDOM.normal(size=sum(SIZES))
GRADIENTS = RANDOM.normal(size=(6, sum(SIZES)))
PARTS = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])


def by_blocks(optimizer, start=START, gradients=GRADIENTS, block=16):
    """The parameters after some steps in blocks of at most 16 elements."""
    update = Update.of_groups([(ParameterGroup("", optimizer, ()), SIZES)], np.float64, block)
    state = State(start.copy(), np.empty(0), {name: np.zeros(len(start)) for name in update.slots})
    for gradient in gradients:
        scalars = update.scalar_values(state, 2.0, update.norms(state, 2 * gradient, 2.0))
        bound = update.bind(state, 2 * gradient)
        for i in range(len(update.blocks)):
            bound.block(i, scalars)
        state.step += 1
    return state.parameters


def lamb(w, gradients, rate=0.1, beta_1=0.9, beta_2=0.99, epsilon=1e-3, decay=0.1):
    """Algorithm 2 of You et al. (2019)."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        r = m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
        direction = r + decay * w
        norms = np.linalg.norm(w), np.linalg.norm(direction)
        w = w - rate * (norms[0] / norms[1] if all(norms) else 1.0) * direction
    return w


def lars(w, gradients, rate=2.0, momentum=0.8, decay=0.1, trust=0.05):
    """Algorithm 1 of You, Gitman and Ginsburg (2017)."""
    v = np.zeros_like(w)
    for g in gradients:
        norms = np.linalg.norm(w), np.linalg.norm(g)
        local = trust * norms[0] / (norms[1] + decay * norms[0]) if all(norms) else 1.0
        v = momentum * v + rate * local * (g + decay * w)
        w = w - v
    return w


CASES = [(optim.lamb(0.1, 0.9, 0.99, 1e-3, 0.1), lamb), (optim.lars(2.0, 0.8, 0.1, 0.05), lars)]


@pytest.mark.parametrize(("optimizer", "by_paper"), CASES, ids=["lamb", "lars"])
@pytest.mark.parametrize("zero", [False, True], ids=["", "from zero"])
@pytest.mark.parametrize("block", [16, 44, 64], ids=["of a parameter", "of two", "of all"])
def test_the_norms_are_those_of_each_parameter(optimizer, by_paper, zero, block):
    start = START * (0.0 if zero else 1.0)
    expected = np.concatenate([by_paper(start[part], GRADIENTS[:, part]) for part in PARTS])
    np.testing.assert_allclose(by_blocks(optimizer, start, block=block), expected, rtol=1e-9, atol=1e-12)


def test_norms_of_all_and_of_each_parameter_go_together():
    """Each parameter's own norm is that of its clipped gradient, whichever parameters share its block."""
    clipped = optim.chain(optim.clip_by_global_norm(0.5), optim.lars(2.0, 0.8, 0.1, 0.05))
    factors = np.minimum(1.0, 0.5 / np.linalg.norm(GRADIENTS, axis=1))[:, None]
    expected = np.concatenate([lars(START[part], (GRADIENTS * factors)[:, part]) for part in PARTS])
    for block in (16, 44, 64):
        np.testing.assert_allclose(by_blocks(clipped, block=block), expected, rtol=1e-9)


@pytest.mark.parametrize(("optimizer", "by_paper"), CASES, ids=["lamb", "lars"])
def test_a_vector_by_itself_is_one_parameter(optimizer, by_paper):
    parameters, slots = START, None
    for step, gradient in enumerate(GRADIENTS):
        parameters, slots = optim.apply_once(optimizer, parameters, gradient, slots, step)
    np.testing.assert_allclose(parameters, by_paper(START, GRADIENTS), rtol=1e-9)


def test_blocks_end_where_parameters_end_only_where_their_norms_are_used():
    def blocks(optimizer, most=16):
        update = Update.of_groups([(ParameterGroup("", optimizer, ()), SIZES)], np.float64, most)
        return [(block.start, block.stop) for block in update.blocks]

    assert blocks(optim.lars()) == [(0, 5), (5, 21), (21, 37), (37, 45), (45, 46)]
    assert blocks(optim.lars(), 44) == [(0, 5), (5, 46)]
    assert blocks(optim.sgd()) == [(0, 16), (16, 32), (32, 46)]
