"""Losses: values and derivatives against PyTorch, closed forms and finite differences."""

import pickle
from functools import partial

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DTypeError, ShapeError, UnknownNameError
from dagtrain.nn import activations, losses
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
TRIPLES = RNG.normal(size=(7, 6))
PAIRS = np.array([1, 0, 0, 1, 0, 1, 0])


def focal(t, y, F, gamma, alpha):
    """As written in Lin et al. (2017), equations 2 and 5."""
    p = t.sigmoid()
    likely = p * y + (1 - p) * (1 - y)
    return (-(alpha * y + (1 - alpha) * (1 - y)) * (1 - likely) ** gamma * likely.log()).mean()


def focal_of_classes(t, y, F, gamma, factors):
    p = F.softmax(t, -1).gather(1, y[:, None])[:, 0]
    return (factors[y] * (1 - p) ** gamma * -p.log()).mean()


def distance(a, b):
    return ((a - b) ** 2).sum(-1).sqrt()


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
    ("focal_cross_entropy", {}, LABELS, lambda t, y, F, w: focal_of_classes(t, y, F, 2, w * 0 + 1)),
    (
        "focal_cross_entropy",
        {"gamma": 0.5, "class_factors": WEIGHTS},
        LABELS,
        lambda t, y, F, w: focal_of_classes(t, y, F, 0.5, w),
    ),
    ("binary_cross_entropy", {}, BINARY, lambda t, y, F, w: F.binary_cross_entropy_with_logits(t, y.double())),
    ("binary_cross_entropy", {}, PROBABILITIES, lambda t, y, F, w: F.binary_cross_entropy_with_logits(t, y)),
    (
        "binary_cross_entropy",
        {"positive_weight": 5.0},
        BINARY,
        lambda t, y, F, w: F.binary_cross_entropy_with_logits(t, y.double(), pos_weight=w.new_tensor(5.0)),
    ),
    (
        "binary_cross_entropy",
        {"positive_weight": WEIGHTS, "label_smoothing": 0.2},
        BINARY,
        lambda t, y, F, w: F.binary_cross_entropy_with_logits(t, 0.8 * y.double() + 0.1, pos_weight=w),
    ),
    (
        "binary_cross_entropy",
        {"class_weights": WEIGHTS},
        BINARY,
        lambda t, y, F, w: F.binary_cross_entropy_with_logits(t, y.double(), w, reduction="sum") / (7 * w.sum()),
    ),
    ("binary_focal_cross_entropy", {}, BINARY, lambda t, y, F, w: focal(t, y.double(), F, 2, 0.25)),
    ("binary_focal_cross_entropy", {"gamma": 0.5, "alpha": None}, BINARY, lambda t, y, F, w: 2 * focal(t, y.double(), F, 0.5, 0.5)),
    ("mean_squared_error", {}, REALS, lambda t, y, F, w: F.mse_loss(t, y)),
    ("mean_absolute_error", {}, REALS, lambda t, y, F, w: F.l1_loss(t, y)),
    ("huber", {}, REALS, lambda t, y, F, w: F.huber_loss(t, y)),
    ("huber", {"delta": 0.3}, REALS, lambda t, y, F, w: F.huber_loss(t, y, delta=0.3)),
    ("hinge", {}, SIGNS, lambda t, y, F, w: F.relu(1 - y * t).mean()),
    ("squared_hinge", {}, SIGNS, lambda t, y, F, w: F.relu(1 - y * t).square().mean()),
    ("log_cosh", {}, REALS, lambda t, y, F, w: (t - y).cosh().log().mean()),
    ("quantile", {"quantile": 0.9}, REALS, lambda t, y, F, w: (0.9 * F.relu(y - t) + 0.1 * F.relu(t - y)).mean()),
    ("poisson", {}, np.abs(REALS), lambda t, y, F, w: F.poisson_nll_loss(t, y)),
    ("cosine_similarity", {}, REALS, lambda t, y, F, w: -F.cosine_similarity(t, y).mean()),
    (
        "contrastive",
        {"margin": 4.0},
        PAIRS,
        lambda t, y, F, w: (y * distance(t[:, :2], t[:, 2:]) ** 2 + (1 - y) * F.relu(4 - distance(t[:, :2], t[:, 2:])) ** 2).mean(),
    ),
    ("triplet", {"margin": 0.5}, None, lambda t, y, F, w: F.triplet_margin_loss(t[:, :2], t[:, 2:4], t[:, 4:], margin=0.5, eps=0)),
    ("kl_divergence", {}, PROBABILITIES, lambda t, y, F, w: F.kl_div(F.log_softmax(t, -1), y, reduction="batchmean")),
    (
        "categorical_hinge",
        {},
        LABELS,
        lambda t, y, F, w: F.relu(1 + t.masked_fill(F.one_hot(y, 4).bool(), -np.inf).amax(-1) - t.gather(1, y[:, None])[:, 0]).mean(),
    ),
]
IDS = [f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]


def outputs_for(name):
    return TRIPLES if name == "triplet" else LOGITS


def value_and_gradient(loss, outputs, targets):
    columns = {name: column for name, column in (("x", outputs), ("y", targets)) if column is not None}
    tensors = {name: dt.input(name, column.shape, column.dtype) for name, column in columns.items()}
    cost = loss(*tensors.values())
    (g,) = gradient(cost, [tensors["x"]])
    graph = dt.Graph(tensors, {"cost": cost, "g": g}).verify()
    return *interpret(graph, *columns.values()), graph


def test_every_loss_is_compared():
    assert {name for name, *_ in CASES} == set(losses.LOSSES) - {"ctc"}


@pytest.mark.parametrize(("name", "options", "targets", "in_torch"), CASES, ids=IDS)
def test_value_and_gradient_are_those_of_torch(name, options, targets, in_torch):
    torch = pytest.importorskip("torch", reason="PyTorch is what losses are compared with")
    t = torch.tensor(outputs_for(name), requires_grad=True)
    expected = in_torch(
        t, None if targets is None else torch.tensor(targets), torch.nn.functional, torch.tensor(WEIGHTS, dtype=torch.double)
    )
    expected.backward()
    value, slope, _ = value_and_gradient(losses.find(name, **options), outputs_for(name), targets)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(slope, t.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("name", "options", "targets", "in_torch"), CASES, ids=IDS)
def test_gradient_by_finite_differences(name, options, targets, in_torch):
    loss, outputs = losses.find(name, **options), outputs_for(name)
    _, slope, _ = value_and_gradient(loss, outputs, targets)
    direction, step = np.random.default_rng(1).normal(size=outputs.shape), 1e-6
    difference = (loss(outputs + step * direction, targets) - loss(outputs - step * direction, targets)) / (2 * step)
    assert np.sum(slope * direction) == pytest.approx(difference, rel=1e-7)


@pytest.mark.parametrize(("name", "options", "targets", "in_torch"), CASES, ids=IDS)
def test_float32_outputs_stay_float32_whatever_the_targets(name, options, targets, in_torch):
    outputs = outputs_for(name)
    value, _, graph = value_and_gradient(losses.find(name, **options), outputs.astype("f4"), targets)
    kinds = {node.dtype for node in graph.nodes if node.dtype.kind == "f" and node is not graph.inputs.get("y")}
    assert kinds == {np.dtype("f4")}
    exact, *_ = value_and_gradient(losses.find(name, **options), outputs, targets)
    assert value == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(("name", "options", "targets", "in_torch"), CASES, ids=IDS)
@pytest.mark.parametrize("weights", [None, np.array([2.0, 0.5, 0, 1, 3, 0, 1])], ids=["plain", "weighted"])
def test_sums_and_weights_of_shards_give_the_mean(name, options, targets, in_torch, weights):
    loss, outputs = losses.find(name, **options), outputs_for(name)
    copies = slice(0, 7) if weights is None else np.repeat(np.arange(7), (2 * weights).astype(int))  # a whole weight is a number of copies
    cuts = [slice(0, 2), slice(2, 2), slice(2, 3), slice(3, 7)]
    y = [None if targets is None else targets[s] for s in (*cuts, copies)]
    total, weight = np.sum([loss.parts(outputs[s], y[i], None if weights is None else weights[s]) for i, s in enumerate(cuts)], axis=0)
    assert total / weight == pytest.approx(loss(outputs, targets, weights), rel=1e-12)
    assert total / weight == pytest.approx(loss(outputs[copies], y[-1]), rel=1e-12)


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
        "focal_cross_entropy": "classes",
        "binary_cross_entropy": "binary",
        "binary_focal_cross_entropy": "binary",
        "hinge": "signs",
        "mean_squared_error": "like_outputs",
        "mean_absolute_error": "like_outputs",
        "huber": "like_outputs",
        "kl_divergence": "distribution",
        "squared_hinge": "signs",
        "log_cosh": "like_outputs",
        "quantile": "like_outputs",
        "poisson": "counts",
        "cosine_similarity": "vectors",
        "contrastive": "pairs",
        "triplet": "none",
        "ctc": "any",  # tests/nn/losses/test_ctc.py
    }


def test_links_turn_outputs_into_predictions():
    links = {name: loss.link for name, loss in losses.LOSSES.items() if loss.link != "linear"}
    assert links == {
        "cross_entropy": "softmax",
        "focal_cross_entropy": "softmax",
        "kl_divergence": "softmax",
        "ctc": "softmax",
        "binary_cross_entropy": "sigmoid",
        "binary_focal_cross_entropy": "sigmoid",
        "poisson": "exponential",
    }


@pytest.mark.parametrize("y", [0, 1])
def test_focal_losses_are_finite_where_their_probabilities_round_to_0_and_1(y):
    x = np.array([-1000.0, -200.0, 200.0, 1000.0], "f4")
    for name, outputs in {"binary_focal_cross_entropy": x, "focal_cross_entropy": np.stack([0 * x, x], axis=-1)}.items():
        value, slope, _ = value_and_gradient(losses.find(name, gamma=0.5), outputs, np.full(4, y))
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "value", "slope"),
    [
        ("log_cosh", [1e-4, 1e30, -1e30], [0, 0, 0], [5e-9, 1e30, 1e30], [1e-4, 1, -1]),
        ("quantile", [1e30, -1e30, 0], [0, 0, 0], [5e29, 5e29, 0], [0.5, -0.5, 0]),
        ("cosine_similarity", [[3e30, 4e30], [3e-30, 4e-30], [0, 0]], [[4e-30, 3e-30], [4e30, 3e30], [1, 1]], [-0.96, -0.96, 0], None),
        ("poisson", [-1e4, 0], [0, 3], [0, 1], [0, -2]),
        ("contrastive", [[1, 2, 1, 2], [1, 2, 1, 2]], [1, 0], [0, 1], [[0, 0, 0, 0], [0, 0, 0, 0]]),
        ("triplet", [[1, 1, 1], [0, 5, 0]], None, [1, 6], [[0, 0, 0], [-1, 1, 0]]),
    ],
)
def test_extreme_values(name, outputs, targets, value, slope):
    """In float32; the derivative of a distance of 0 is 0."""
    outputs, targets = np.array(outputs, "f4"), None if targets is None else np.array(targets, "f4")
    values, slopes, _ = value_and_gradient(lambda *columns: np.sum(losses.LOSSES[name].function(*columns)), outputs, targets)
    np.testing.assert_allclose(losses.LOSSES[name].function(outputs, targets), value, rtol=1e-6)
    assert np.isfinite(values)
    assert np.isfinite(slopes).all()
    if slope is not None:
        np.testing.assert_allclose(slopes, slope, rtol=1e-6)


def test_the_second_derivative_of_log_cosh_at_zero_is_one():
    x = dt.input("x", (3,), np.float64)
    (g,) = gradient(losses.log_cosh(x, np.zeros(3)), [x])
    (h,) = gradient(g.sum(), [x])
    np.testing.assert_allclose(interpret(dt.Graph({"x": x}, {"h": h}), [0.0, 0.5, 3.0])[0], 1 / np.cosh([0.0, 0.5, 3.0]) ** 2 / 3)


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


def mine(outputs, targets):
    return np.mean(outputs * targets)


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
    with pytest.raises(ArgumentError, match="quantile must be a number between 0 and 1, got 1"):
        losses.find("quantile", quantile=1)
    with pytest.raises(ArgumentError, match="margin must be"):
        losses.find("triplet", margin=-1)
    with pytest.raises(ArgumentError, match="positive_weight must be a finite number above 0, or one for each label"):
        losses.find("binary_cross_entropy", positive_weight=[1.0, 0.0])
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
    with pytest.raises(
        ShapeError, match=r"triplet takes 3 vectors of one length .*, as in nn.Concatenate\(\)\(\[a, b, c\]\), got .*\(7, 4\)"
    ):
        losses.triplet(LOGITS)
    with pytest.raises(ShapeError, match=r"contrastive: outputs of shape \(7, 4\) need targets of shape \(7,\), got \(7, 4\)"):
        losses.contrastive(LOGITS, BINARY)
    with pytest.raises(ArgumentError, match=r"positive_weight has the shape \(3,\), and the outputs \(7, 4\): give one a label"):
        losses.binary_cross_entropy(LOGITS, BINARY, positive_weight=[1.0, 2.0, 3.0])
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
