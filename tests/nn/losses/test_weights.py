"""Losses as sums and weights: weights of samples and of positions, and functions of the user."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, NotScalarError, ShapeError
from dagtrain.nn import losses, metrics
from dagtrain.plan.interpret import interpret

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(scale=2.0, size=(7, 4))
LABELS = RNG.integers(0, 4, 7)
WEIGHTS = [0.5, 2.0, 1.0, 3.0]
REALS = RNG.normal(size=(7, 4))


def test_weights_of_positions_and_of_samples():
    outputs, labels = LOGITS[:6].reshape(2, 3, 4), LABELS[:6].reshape(2, 3)
    mask = np.array([[True, True, False], [True, False, False]])
    loss = losses.find("cross_entropy")
    total, weight = loss.parts(outputs, labels, mask)
    assert weight == 3
    assert total / weight == pytest.approx(loss(outputs[mask], labels[mask]))
    total, weight = loss.parts(outputs, labels, np.array([1.0, 0.5]))
    assert weight == 4.5
    assert total == pytest.approx(3 * loss(outputs[0], labels[0]) + 1.5 * loss(outputs[1], labels[1]))
    total, weight = loss.parts(outputs, labels)
    assert weight == 6


def test_elementwise_losses_average_what_is_behind_the_weights():
    loss, values = losses.find("mean_squared_error"), np.square(LOGITS - REALS)
    assert loss.parts(LOGITS, REALS) == (pytest.approx(values.mean(axis=1).sum()), 7)
    of_samples = np.arange(7.0)
    assert loss.parts(LOGITS, REALS, of_samples) == (pytest.approx(values.mean(axis=1) @ of_samples), 21)
    of_elements = np.arange(28.0).reshape(7, 4)
    assert loss.parts(LOGITS, REALS, of_elements) == (pytest.approx(np.sum(values * of_elements)), of_elements.sum())


def test_a_column_of_weights_is_one_weight_a_sample():
    loss, weights = losses.find("cross_entropy"), np.arange(7.0)
    assert loss.parts(LOGITS, LABELS, weights[:, None]) == loss.parts(LOGITS, LABELS, weights)


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"the samples, \(7,\), got \(6,\)"):
        losses.find("cross_entropy").parts(LOGITS, LABELS, np.ones(6))
    with pytest.raises(ShapeError, match=r"\(7,\) or positions, \(7, 4\), got \(7, 3\)"):
        losses.find("huber").parts(LOGITS, REALS, np.ones((7, 3)))


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "?"])
def test_weights_of_any_dtype_leave_the_losses_dtype(dtype):
    x, y, w = dt.input("x", (7, 4), "f4"), dt.input("y", (7,), "i8"), dt.input("w", (7,), dtype)
    total, weight = losses.find("cross_entropy").parts(x, y, w)
    assert total.dtype == np.float32
    weights = np.array([1, 0, 1, 1, 0, 0, 1], dtype)
    values = interpret(dt.Graph({"x": x, "y": y, "w": w}, {"total": total, "weight": weight}), LOGITS.astype("f4"), LABELS, weights)
    assert values[1] == 4
    assert values[0] / values[1] == pytest.approx(losses.cross_entropy(LOGITS[weights > 0], LABELS[weights > 0]), rel=1e-6)


def test_sums_of_half_precision_are_taken_in_single():
    total, weight = losses.find("mean_absolute_error").parts(np.full(70_000, 0.5, "f2"), np.zeros(70_000, "f2"))
    assert total / weight == 0.5


def mine(outputs, targets):
    return np.mean(outputs * targets)


def mine_by_sample(outputs, targets):
    return np.mean(outputs * targets, axis=1)


def mine_as_sum_and_weight(outputs, targets):
    return np.sum(outputs * targets), float(outputs.size)


@pytest.mark.parametrize("function", [mine, mine_by_sample, mine_as_sum_and_weight])
def test_functions_of_the_user_in_three_forms(function):
    loss = losses.find(function)
    total, weight = loss.parts(LOGITS, REALS)
    assert total / weight == pytest.approx(np.mean(LOGITS * REALS))
    assert loss(LOGITS, REALS) == pytest.approx(np.mean(LOGITS * REALS))


def test_what_is_a_number_for_the_batch():
    assert losses.sum_and_weight(mine(LOGITS, REALS), 7)[2]
    assert not losses.sum_and_weight(mine_by_sample(LOGITS, REALS), 7)[2]
    assert not losses.sum_and_weight(mine_as_sum_and_weight(LOGITS, REALS), 7)[2]


@pytest.mark.parametrize(("function", "way"), [(mine, "return one value a sample"), (mine_as_sum_and_weight, "multiply by the weights")])
def test_what_cannot_be_weighted_is_refused(function, way):
    with pytest.raises(ArgumentError, match=f"sample_weight or class_weight cannot weigh .*: {way}"):
        losses.find(function).parts(LOGITS, REALS, np.ones(7))


@pytest.mark.parametrize(
    "function", [lambda o, y: np.mean((o - y) ** 2), lambda o, y: np.abs(3 * o - 2 * y), lambda o, y: (np.sum(o * y), 5.0)]
)
def test_a_column_against_a_vector_of_targets_is_refused(function):
    outputs, targets = dt.input("x", (5, 1), "f4"), dt.input("y", (5,), "f4")
    with pytest.raises(ShapeError, match=r"broadcast to \(5, 5\), each sample against every other \(.*test_weights.py:\d+ in <lambda>\)"):
        losses.find(function).parts(outputs, targets)
    with pytest.raises(ShapeError, match="outputs\\[:, 0\\]"):
        metrics.find(function).parts(outputs, targets)


def test_a_column_against_as_many_parameters_as_rows_is_no_mistake():
    outputs, targets, scales = dt.input("x", (5, 1), "f4"), dt.input("y", (5,), "f4"), dt.input("w", (5,), "f4")
    total, weight = losses.find(lambda o, y: np.sum(o * scales, axis=1) - y).parts(outputs, targets)
    assert (total.shape, weight) == ((), 5)


@pytest.mark.parametrize("result", [None, {"loss": 1.0}, (1.0, 2.0, 3.0), (np.ones(7), 7.0), "loss", np.ones((4, 7))], ids=str)
def test_what_is_no_loss_is_refused(result):
    with pytest.raises(NotScalarError, match="one number for a batch"):
        losses.sum_and_weight(result, 7)


@pytest.mark.parametrize("kind", [bool, np.int64, np.float32])
def test_weights_of_the_loss_itself_keep_fractions_of_sample_weights(kind):
    mask = np.array([1, 0, 1, 1], kind)
    loss = losses.find(lambda outputs, targets: (mask * (outputs - targets) ** 2, mask))
    total, weight = loss.parts(np.array([1.0, 5.0, 2.0, 3.0]), np.zeros(4), sample_weight=np.full(4, 0.5))
    assert (float(total), float(weight)) == (7.0, 1.5)
