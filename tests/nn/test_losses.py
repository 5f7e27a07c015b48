"""Losses: values and derivatives against PyTorch, closed forms and finite differences."""

import pickle
from functools import partial

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DTypeError, NotScalarError, ShapeError, UnknownNameError
from dagtrain.nn import activations, losses, metrics
from dagtrain.plan.interpret import interpret
from dagtrain.transform.gradient import gradient

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(scale=2.0, size=(7, 4))
LABELS = RNG.integers(0, 4, 7)
WEIGHTS = [0.5, 2.0, 1.0, 3.0]
BINARY = RNG.integers(0, 2, (7, 4))
REALS = RNG.normal(size=(7, 4))
PROBABILITIES = RNG.dirichlet(np.ones(4), 7)
PROBABILITIES[0] = [1, 0, 0, 0]
SIGNS = 2 * BINARY - 1


def focal(t, y, F, gamma, alpha):
    """As written in Lin et al. (2017), equations 2 and 5."""
    p = t.sigmoid()
    likely = p * y + (1 - p) * (1 - y)
    return (-(alpha * y + (1 - alpha) * (1 - y)) * (1 - likely) ** gamma * likely.log()).mean()


# name, options, targets, the same in PyTorch (t: logits, y: targets, F: torch.nn.functional, w: class weights)
CASES = [
    ("cross_entropy", {}, LABELS, lambda t, y, F, w: F.cross_entropy(t, y)),
    ("cross_entropy", {"label_smoothing": 0.2}, LABELS, lambda t, y, F, w: F.cross_entropy(t, y, label_smoothing=0.2)),
    ("cross_entropy", {"class_weights": WEIGHTS}, LABELS, lambda t, y, F, w: F.cross_entropy(t, y, w)),
    (
        "cross_entropy",
        {"class_weights": WEIGHTS, "label_smoothing": 0.1},
        LABELS,
        lambda t, y, F, w: F.cross_entropy(t, y, w, label_smoothing=0.1),
    ),
    ("binary_cross_entropy", {}, BINARY, lambda t, y, F, w: F.binary_cross_entropy_with_logits(t, y.double())),
    ("binary_cross_entropy", {}, PROBABILITIES, lambda t, y, F, w: F.binary_cross_entropy_with_logits(t, y)),
    (
        "binary_cross_entropy",
        {"positive_weight": 5.0},
        BINARY,
        lambda t, y, F, w: F.binary_cross_entropy_with_logits(t, y.double(), pos_weight=w.new_tensor(5.0)),
    ),
    ("binary_focal_cross_entropy", {}, BINARY, lambda t, y, F, w: focal(t, y.double(), F, 2, 0.25)),
    ("binary_focal_cross_entropy", {"gamma": 0.5, "alpha": None}, BINARY, lambda t, y, F, w: 2 * focal(t, y.double(), F, 0.5, 0.5)),
    ("mean_squared_error", {}, REALS, lambda t, y, F, w: F.mse_loss(t, y)),
    ("mean_absolute_error", {}, REALS, lambda t, y, F, w: F.l1_loss(t, y)),
    ("huber", {}, REALS, lambda t, y, F, w: F.huber_loss(t, y)),
    ("huber", {"delta": 0.3}, REALS, lambda t, y, F, w: F.huber_loss(t, y, delta=0.3)),
    ("hinge", {}, SIGNS, lambda t, y, F, w: F.relu(1 - y * t).mean()),
    ("kl_divergence", {}, PROBABILITIES, lambda t, y, F, w: F.kl_div(F.log_softmax(t, -1), y, reduction="batchmean")),
    (
        "categorical_hinge",
        {},
        LABELS,
        lambda t, y, F, w: F.relu(1 + t.masked_fill(F.one_hot(y, 4).bool(), -np.inf).amax(-1) - t.gather(1, y[:, None])[:, 0]).mean(),
    ),
]
IDS = [f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]


def value_and_gradient(loss, outputs, targets):
    x, y = dt.input("x", outputs.shape, outputs.dtype), dt.input("y", targets.shape, targets.dtype)
    cost = loss(x, y)
    (g,) = gradient(cost, [x])
    graph = dt.Graph({"x": x, "y": y}, {"cost": cost, "g": g}).verify()
    return *interpret(graph, outputs, targets), graph


def test_every_loss_is_compared():
    assert {name for name, *_ in CASES} == set(losses.LOSSES)


@pytest.mark.parametrize(("name", "options", "targets", "in_torch"), CASES, ids=IDS)
def test_value_and_gradient_are_those_of_torch(name, options, targets, in_torch):
    torch = pytest.importorskip("torch", reason="PyTorch is what losses are compared with")
    t = torch.tensor(LOGITS, requires_grad=True)
    expected = in_torch(t, torch.tensor(targets), torch.nn.functional, torch.tensor(WEIGHTS, dtype=torch.double))
    expected.backward()
    value, slope, _ = value_and_gradient(losses.find(name, **options), LOGITS, targets)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(slope, t.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("name", "options", "targets", "in_torch"), CASES, ids=IDS)
def test_gradient_by_finite_differences(name, options, targets, in_torch):
    loss = losses.find(name, **options)
    _, slope, _ = value_and_gradient(loss, LOGITS, targets)
    direction, step = np.random.default_rng(1).normal(size=LOGITS.shape), 1e-6
    difference = (loss(LOGITS + step * direction, targets) - loss(LOGITS - step * direction, targets)) / (2 * step)
    assert np.sum(slope * direction) == pytest.approx(difference, rel=1e-7)


@pytest.mark.parametrize(("name", "options", "targets", "in_torch"), CASES, ids=IDS)
def test_float32_outputs_stay_float32_whatever_the_targets(name, options, targets, in_torch):
    value, _, graph = value_and_gradient(losses.find(name, **options), LOGITS.astype("f4"), targets)
    kinds = {node.dtype for node in graph.nodes if node.dtype.kind == "f" and node is not graph.inputs["y"]}
    assert kinds == {np.dtype("f4")}
    exact, *_ = value_and_gradient(losses.find(name, **options), LOGITS, targets)
    assert value == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(("name", "options", "targets", "in_torch"), CASES, ids=IDS)
@pytest.mark.parametrize("weights", [None, np.array([2.0, 0.5, 0, 1, 3, 0, 1])], ids=["plain", "weighted"])
def test_sums_and_weights_of_shards_give_the_mean(name, options, targets, in_torch, weights):
    loss = losses.find(name, **options)
    cuts = [slice(0, 2), slice(2, 2), slice(2, 3), slice(3, 7)]
    parts = [loss.parts(LOGITS[s], targets[s], None if weights is None else weights[s]) for s in cuts]
    total, weight = np.sum(parts, axis=0)
    assert total / weight == pytest.approx(loss(LOGITS, targets, weights), rel=1e-12)
    if weights is not None:  # a whole weight is a number of copies, also of 0
        copies = np.repeat(np.arange(7), (2 * weights).astype(int))
        assert total / weight == pytest.approx(loss(LOGITS[copies], targets[copies]), rel=1e-12)


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "kl_divergence"])
def test_huge_logits_give_finite_losses_and_gradients(name):
    targets = {"cross_entropy": np.array([0, 1]), "binary_cross_entropy": np.array([[1, 0], [1, 0]]), "kl_divergence": np.eye(2)}[name]
    value, slope, _ = value_and_gradient(losses.find(name), np.array([[1e4, -1e4], [1e4, -1e4]], "f4"), targets)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_cross_entropy_of_equal_logits_is_the_log_of_the_classes():
    assert float(losses.cross_entropy(np.zeros((3, 10)), np.arange(3))) == pytest.approx(np.log(10))


def test_cross_entropy_is_few_nodes():
    graph = dt.trace(losses.cross_entropy, dt.Spec((8, 4), np.dtype("f4")), dt.Spec((8,), np.dtype("i8")))
    assert [n.op for n in graph.nodes if n.inputs] == ["log_softmax", "reshape", "take_along_axis", "reshape", "negative", "mean"]


def test_cross_entropy_of_sequences_is_the_mean_over_all_positions():
    flat = losses.cross_entropy(LOGITS[:6], LABELS[:6])
    assert losses.cross_entropy(LOGITS[:6].reshape(2, 3, 4), LABELS[:6].reshape(2, 3)) == pytest.approx(flat)


def test_one_output_column_against_a_vector_of_targets_does_not_broadcast():
    x, y = np.array([[1.0], [2.0]]), np.array([1.0, 4.0])
    assert losses.mean_squared_error(x, y) == 2.0
    assert losses.mean_squared_error(y, x) == 2.0


def test_second_derivative_of_huber():
    x = dt.input("x", (3,), np.float64)
    (g,) = gradient(losses.huber(x, np.zeros(3)), [x])
    (h,) = gradient(g.sum(), [x])
    np.testing.assert_allclose(interpret(dt.Graph({"x": x}, {"h": h}), [0.5, 2.0, -2.0])[0], [1 / 3, 0, 0])


def test_what_targets_must_be():
    assert {name: loss.targets for name, loss in losses.LOSSES.items()} == {
        "cross_entropy": "classes",
        "categorical_hinge": "classes",
        "binary_cross_entropy": "binary",
        "binary_focal_cross_entropy": "binary",
        "hinge": "signs",
        "mean_squared_error": "like_outputs",
        "mean_absolute_error": "like_outputs",
        "huber": "like_outputs",
        "kl_divergence": "distribution",
    }


def test_links_turn_outputs_into_predictions():
    links = {name: loss.link for name, loss in losses.LOSSES.items() if loss.link != "linear"}
    assert links == {
        "cross_entropy": "softmax",
        "kl_divergence": "softmax",
        "binary_cross_entropy": "sigmoid",
        "binary_focal_cross_entropy": "sigmoid",
    }


@pytest.mark.parametrize("y", [0, 1])
def test_focal_loss_is_finite_where_its_probabilities_round_to_0_and_1(y):
    x = np.array([-1000.0, -200.0, 200.0, 1000.0], "f4")
    value, slope, _ = value_and_gradient(losses.find("binary_focal_cross_entropy", gamma=0.5), x, np.full(4, y))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_weighted_value_and_gradient_are_those_of_torch():
    """Class weights and sample weights together: the sum of all products, divided by the sum of the products of weights."""
    torch = pytest.importorskip("torch", reason="PyTorch is what losses are compared with")
    samples = np.array([2.0, 0.5, 0, 1, 3, 0, 1])
    t, w, c = torch.tensor(LOGITS, requires_grad=True), torch.tensor(samples), torch.tensor(WEIGHTS, dtype=torch.double)
    y = torch.tensor(LABELS)
    expected = (w * torch.nn.functional.cross_entropy(t, y, c, reduction="none")).sum() / (w * c[y]).sum()
    expected.backward()
    loss = losses.find("cross_entropy", class_weights=WEIGHTS)
    value, slope, _ = value_and_gradient(lambda outputs, targets: loss(outputs, targets, samples), LOGITS, LABELS)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(slope, t.grad.numpy(), rtol=1e-10, atol=1e-14)


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
    with pytest.raises(ShapeError, match=r"broadcast to \(5, 5\), each sample against every other \(.*test_losses.py:\d+ in <lambda>\)"):
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


def test_find_takes_functions():
    assert losses.find(mine) == losses.Loss("mine", mine, "any")
    assert losses.find(losses.huber).targets == "like_outputs"
    assert losses.find(partial(losses.cross_entropy, label_smoothing=0.1)).targets == "classes"
    assert losses.find(losses.LOSSES["hinge"]) is losses.LOSSES["hinge"]


def test_losses_with_options_can_be_pickled():
    loss = pickle.loads(pickle.dumps(losses.find("cross_entropy", class_weights=np.array(WEIGHTS), label_smoothing=0.1)))
    assert loss(LOGITS, LABELS) == losses.cross_entropy(LOGITS, LABELS, class_weights=WEIGHTS, label_smoothing=0.1)


def test_wrong_names_and_options():
    with pytest.raises(UnknownNameError, match="Did you mean 'cross_entropy'"):
        losses.find("cros_entropy")
    with pytest.raises(UnknownNameError, match="Did you mean 'label_smoothing'"):
        losses.find("cross_entropy", label_smooting=0.1)
    with pytest.raises(ArgumentError, match="label_smoothing must be"):
        losses.find("cross_entropy", label_smoothing=1.5)
    with pytest.raises(ArgumentError, match="class_weights must be"):
        losses.find("cross_entropy", class_weights=[1.0, -1.0])
    with pytest.raises(ArgumentError, match="gamma must be"):
        losses.find("binary_focal_cross_entropy", gamma=-1)
    with pytest.raises(ArgumentError, match="alpha must be"):
        losses.find("binary_focal_cross_entropy", alpha=1.5)
    with pytest.raises(ArgumentError, match="delta must be"):
        losses.find("huber", delta=0)
    with pytest.raises(ArgumentError, match=r"functools\.partial"):
        losses.find(mine, delta=1.0)


def test_wrong_targets():
    with pytest.raises(ShapeError, match=r"One-hot labels\? Take np.argmax"):
        losses.cross_entropy(np.zeros((3, 4)), np.zeros((3, 4), int))
    with pytest.raises(DTypeError, match=r"astype\(np\.int64\)"):
        losses.cross_entropy(np.zeros((3, 4)), np.zeros(3))
    with pytest.raises(ShapeError, match="binary_cross_entropy"):
        losses.cross_entropy(np.zeros((3, 1)), np.zeros(3, int))
    with pytest.raises(ShapeError, match=r"\(3, 4\) need targets of the same shape, got \(4,\)"):
        losses.mean_squared_error(np.zeros((3, 4)), np.zeros(4))
    with pytest.raises(ArgumentError, match="one number for each of the 4 classes"):
        losses.cross_entropy(LOGITS, LABELS, class_weights=[1.0, 2.0])


@pytest.mark.parametrize(
    ("name", "squashing", "targets"),
    [
        ("cross_entropy", "softmax", dt.input("y", (4,), "i8")),
        ("kl_divergence", "softmax", dt.input("y", (4, 3), "f4")),
        ("binary_cross_entropy", "sigmoid", dt.input("y", (4, 3), "f4")),
    ],
)
def test_probabilities_where_logits_are_expected(name, squashing, targets):
    outputs = activations.find(squashing)(dt.input("x", (4, 3), "f4"))
    with pytest.warns(UserWarning, match=f"{name} takes logits and applies {squashing} itself"):
        losses.find(name)(outputs, targets)


@pytest.mark.parametrize("kind", [bool, np.int64, np.float32])
def test_weights_of_the_loss_itself_keep_fractions_of_sample_weights(kind):
    mask = np.array([1, 0, 1, 1], kind)
    loss = losses.find(lambda outputs, targets: (mask * (outputs - targets) ** 2, mask))
    total, weight = loss.parts(np.array([1.0, 5.0, 2.0, 3.0]), np.zeros(4), sample_weight=np.full(4, 0.5))
    assert (float(total), float(weight)) == (7.0, 1.5)
