"""Optimisers against torch.optim over 20 updates, and the number of their passes over the parameters."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import optim
from dagtrain.errors import ArgumentError
from dagtrain.optim.adam_variants import momenta
from dagtrain.optim.optimizer import WholeVector
from dagtrain.trace import trace_nested

# name, ours, the same in PyTorch (a class and its arguments)
CASES = [
    ("sgd", optim.sgd(0.1), ("SGD", {"lr": 0.1})),
    ("momentum", optim.sgd(0.1, momentum=0.9), ("SGD", {"lr": 0.1, "momentum": 0.9})),
    ("nesterov", optim.sgd(0.1, momentum=0.9, nesterov=True), ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True})),
    ("sgd-l2", optim.chain(optim.l2(0.3), optim.sgd(0.1, 0.9)), ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3})),
    ("adam", optim.adam(0.05), ("Adam", {"lr": 0.05})),
    ("adam-betas", optim.adam(0.05, 0.5, 0.9, 1e-3), ("Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3})),
    ("adam-zero-betas", optim.adam(0.05, 0.0, 0.0), ("Adam", {"lr": 0.05, "betas": (0.0, 0.0)})),
    ("adam-l2", optim.chain(optim.l2(0.3), optim.adam(0.05)), ("Adam", {"lr": 0.05, "weight_decay": 0.3})),
    ("adamw", optim.adamw(0.05, weight_decay=0.3), ("AdamW", {"lr": 0.05, "weight_decay": 0.3})),
    (
        "adamw-chained",
        optim.chain(optim.adam(0.05), optim.add_decayed_weights(0.3, 0.05)),
        ("AdamW", {"lr": 0.05, "weight_decay": 0.3}),
    ),
    ("amsgrad", optim.amsgrad(0.05), ("Adam", {"lr": 0.05, "amsgrad": True})),
    ("nadam", optim.nadam(0.05, 0.8, 0.99, 1e-3, 0.1), ("NAdam", {"lr": 0.05, "betas": (0.8, 0.99), "eps": 1e-3, "momentum_decay": 0.1})),
    ("radam", optim.radam(0.05, 0.9, 0.8), ("RAdam", {"lr": 0.05, "betas": (0.9, 0.8)})),
    ("rmsprop", optim.rmsprop(0.01), ("RMSprop", {"lr": 0.01, "alpha": 0.9})),
    ("rmsprop-centered", optim.rmsprop(0.01, 0.99, centered=True), ("RMSprop", {"lr": 0.01, "alpha": 0.99, "centered": True})),
    (
        "rmsprop-momentum",
        optim.rmsprop(0.01, 0.9, momentum=0.8, centered=True),
        ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.8, "centered": True}),
    ),
    ("adagrad", optim.adagrad(0.1), ("Adagrad", {"lr": 0.1})),
    ("adadelta", optim.adadelta(0.7), ("Adadelta", {"lr": 0.7})),
    ("clip-value", optim.chain(optim.clip_by_value(0.4), optim.sgd(0.1)), ("SGD", {"lr": 0.1})),
    ("clip-norm", optim.chain(optim.clip_by_global_norm(1.5), optim.adam(0.05)), ("Adam", {"lr": 0.05})),
]
IDS = [case[0] for case in CASES]
RNG = np.random.default_rng(0)
START, CURVATURE = RNG.normal(size=12), np.geomspace(0.05, 20, 12)
NOISE = RNG.normal(scale=0.3, size=(20, 12))


def gradient_at(parameters, step):
    return CURVATURE * parameters + NOISE[step]


def ours(optimizer, dtype="f8", updates=20):
    parameters, slots = START.astype(dtype), None
    for step in range(updates):
        parameters, slots = optim.apply_once(optimizer, parameters, gradient_at(parameters, step).astype(dtype), slots, step)
    return parameters, slots


@pytest.mark.slow
@pytest.mark.parametrize(("name", "optimizer", "in_torch"), CASES, ids=IDS)
def test_twenty_updates_are_those_of_torch(name, optimizer, in_torch):
    torch = pytest.importorskip("torch", reason="PyTorch is what optimisers are compared with")
    kind, settings = in_torch
    p = torch.nn.Parameter(torch.tensor(START))
    theirs = getattr(torch.optim, kind)([p], **settings)
    for step in range(20):
        p.grad = torch.tensor(gradient_at(p.detach().numpy(), step))
        if name == "clip-value":
            torch.nn.utils.clip_grad_value_([p], 0.4)
        if name == "clip-norm":
            p.grad *= min(1.0, 1.5 / p.grad.norm().item())
        theirs.step()
    rtol = 1e-6 if name == "nadam" else 1e-9  # PyTorch keeps the product of momenta in float32
    np.testing.assert_allclose(ours(optimizer)[0], p.detach().numpy(), rtol=rtol, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "optimizer", "in_torch"), CASES, ids=IDS)
def test_float32_parameters_stay_float32_and_follow_float64(name, optimizer, in_torch):
    parameters, slots = ours(optimizer, "f4")
    assert parameters.dtype == np.float32
    assert {s.dtype for s in slots.values()} <= {np.dtype("f4")}
    np.testing.assert_allclose(parameters, ours(optimizer)[0], rtol=2e-3, atol=2e-4)


def update_graph(optimizer, size=1000):
    vector = dt.Spec((size,), np.dtype("f4"))

    def update(parameters, gradient, slots, step):
        change, after = optimizer.update(WholeVector(step, np.dtype("f4")), gradient, parameters, slots)
        return parameters + change, after

    return trace_nested(update, vector, vector, dict.fromkeys(optimizer.slots, vector), dt.Spec((), np.dtype("f8"))).graph


@pytest.mark.parametrize(("name", "optimizer", "in_torch"), CASES, ids=IDS)
def test_no_vector_of_a_float32_update_is_float64_and_no_number_is_float32_early(name, optimizer, in_torch):
    graph = update_graph(optimizer)
    assert all(node.dtype != np.float64 for node in graph.nodes if node.shape == (1000,))
    numbers = {node.op for node in graph.nodes if node.inputs and not node.shape and node.dtype == np.float32}
    assert numbers <= {"cast", "norm"}


# Elementwise passes over a block of parameters, the addition of the change included.
PASSES = {
    "sgd": 2,
    "momentum": 4,
    "nesterov": 6,
    "adam": 10,
    "adamw": 12,
    "rmsprop": 8,
    "adagrad": 7,
    "adadelta": 13,
    "amsgrad": 11,
    "nadam": 12,
}


@pytest.mark.parametrize("name", sorted(PASSES))
def test_passes_over_the_parameters(name):
    optimizer = next(case[1] for case in CASES if case[0] == name)
    passes = [node for node in update_graph(optimizer).nodes if node.inputs and node.shape == (1000,)]
    assert len(passes) == PASSES[name]


@pytest.mark.parametrize(
    ("name", "optimizer", "in_torch"), [c for c in CASES if c[0] != "clip-norm"], ids=[i for i in IDS if i != "clip-norm"]
)
def test_blocks_give_the_same_bits_as_the_whole(name, optimizer, in_torch):
    whole, slots = ours(optimizer, "f4", 3)
    gradient = RNG.normal(size=12).astype("f4")
    after, after_slots = optim.apply_once(optimizer, whole, gradient, slots, 3)
    for block in (slice(0, 5), slice(5, 12)):
        part, part_slots = optim.apply_once(optimizer, whole[block], gradient[block], {k: s[block] for k, s in slots.items()}, 3)
        np.testing.assert_array_equal(part, after[block])
        for slot, values in part_slots.items():
            np.testing.assert_array_equal(values, after_slots[slot][block])


def test_lion_is_the_published_rule():
    """Algorithm 2 of Chen et al. (2023)."""
    p, m = START.copy(), np.zeros(12)
    for step in range(20):
        g = gradient_at(p, step)
        p = p - 0.01 * (np.sign(0.8 * m + (1 - 0.8) * g) + 0.3 * p)
        m = 0.9 * m + (1 - 0.9) * g
    np.testing.assert_allclose(ours(optim.lion(0.01, 0.8, 0.9, 0.3))[0], p, rtol=1e-12)


def test_radam_with_a_short_memory_of_squares_never_uses_them():
    p, m = START.copy(), np.zeros(12)
    for step in range(20):
        m = 0.9 * m + (1 - 0.9) * gradient_at(p, step)
        p = p - 0.05 * m / (1 - 0.9 ** (step + 1))
    np.testing.assert_allclose(ours(optim.radam(0.05, 0.9, 0.5))[0], p, rtol=1e-9)


@pytest.mark.parametrize("momentum_decay", [0.0, 1e-4, 4e-3, 1.0])
def test_nadams_product_of_momenta_is_a_function_of_the_count(momentum_decay):
    counts = np.arange(1.0, 500.0)
    product = np.cumprod(0.9 * (1 - 0.5 * 0.96 ** (momentum_decay * counts)))
    np.testing.assert_allclose([momenta(count, 0.9, momentum_decay) for count in counts], product, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e4, 1e12])
def test_adams_first_step_is_the_learning_rate_whatever_the_scale(scale):
    moved, _ = optim.apply_once(optim.adam(0.1, epsilon=1e-30), np.zeros(3, "f4"), np.float32(scale) * np.array([1, -2, 5], "f4"))
    np.testing.assert_allclose(moved, [-0.1, 0.1, -0.1], rtol=1e-4)


def test_a_gradient_of_zero_changes_nothing_and_gives_no_nan():
    for _, optimizer, _ in [c for c in CASES if "l2" not in c[0] and "adamw" not in c[0]]:
        parameters, _ = optim.apply_once(optimizer, START, np.zeros(12))
        np.testing.assert_array_equal(parameters, START)


@pytest.mark.slow
def test_centered_rmsprop_survives_a_constant_gradient():
    optimizer, parameters, slots = optim.rmsprop(1e-3, centered=True), np.ones(4, "f4"), None
    for step in range(300):
        parameters, slots = optim.apply_once(optimizer, parameters, np.array([1.0, 3.3, 1e-3, 0.1], "f4"), slots, step)
        assert np.isfinite(parameters).all()


def test_a_schedule_is_the_learning_rate():
    schedule = optim.piecewise([1], [0.5, 0.25])
    parameters, slots = optim.apply_once(optim.sgd(schedule), np.zeros(1), np.ones(1), step=0)
    assert parameters == -0.5
    assert optim.apply_once(optim.sgd(schedule), parameters, np.ones(1), slots, step=1)[0] == -0.75


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.sgd(-0.1), "sgd: learning_rate must be a finite number from 0 up, got -0.1"),
        (lambda: optim.sgd(float("nan")), "learning_rate"),
        (lambda: optim.sgd("fast"), "learning_rate"),
        (lambda: optim.sgd(0.1, momentum=1.0), "sgd: momentum must be a number from 0 up to, but not, 1"),
        (lambda: optim.sgd(0.1, nesterov=True), "nesterov=True needs momentum"),
        (lambda: optim.adam(-1), "adam: learning_rate"),
        (lambda: optim.adam(beta_1=-0.1), "adam: beta_1"),
        (lambda: optim.adam(beta_2=1), "adam: beta_2"),
        (lambda: optim.adam(epsilon=0), "adam: epsilon must be a finite number above 0"),
        (lambda: optim.adamw(weight_decay=-1), "adamw: weight_decay"),
        (lambda: optim.nadam(momentum_decay=-1), "nadam: momentum_decay"),
        (lambda: optim.radam(beta_2=1.0), "radam: beta_2"),
        (lambda: optim.lion(weight_decay=-1), "lion: weight_decay"),
        (lambda: optim.rmsprop(decay=2), "rmsprop: decay"),
        (lambda: optim.rmsprop(momentum=-1), "rmsprop: momentum"),
        (lambda: optim.adagrad(epsilon=-1), "adagrad: epsilon"),
        (lambda: optim.adadelta(decay=1.0), "adadelta: decay"),
        (lambda: optim.clip_by_value(0), "clip_by_value: limit"),
        (lambda: optim.clip_by_global_norm(-1), "clip_by_global_norm: max_norm"),
        (lambda: optim.l2(-1), "l2: weight_decay"),
        (lambda: optim.add_decayed_weights(-1), "add_decayed_weights: weight_decay"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
