"""Models, losses, metrics and optimisers as JSON and back: all of dagtrain's own, and nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from dagtrain import nn, optim
from dagtrain.checkpoint.compare import complete, differences
from dagtrain.checkpoint.describe import MAKERS, build, describe, foreign
from dagtrain.checkpoint.structures import structure_of
from dagtrain.nn import losses, metrics
from dagtrain.nn.tracing import first_pass
from dagtrain.ops.random import key
from dagtrain.optim.groups import groups_of
from dagtrain.step import Update

from ..each import each

OPTIMIZERS = [
    optim.sgd(0.1),
    optim.sgd(np.float32(0.1)),
    optim.sgd(0.1, momentum=0.9, nesterov=True),
    optim.adam(1e-3),
    optim.adamw(1e-3, weight_decay=0.1),
    optim.rmsprop(0.1, momentum=0.5, centered=True),
    optim.adagrad(0.1),
    optim.adadelta(1.0),
    optim.chain(optim.clip_by_value(1.0), optim.clip_by_global_norm(2.0), optim.l2(1e-4), optim.sgd(0.1), optim.add_decayed_weights(0.1)),
    optim.chain(optim.chain(optim.sgd(0.1, momentum=0.5)), optim.sgd(0.1, momentum=0.9)),
    optim.lamb(0.1),
    optim.lars(0.1, momentum=0.5),
    optim.every(3, optim.adam()),
    optim.amsgrad(0.1),
    optim.nadam(0.1, momentum_decay=0.1),
    optim.radam(0.1),
    optim.lion(0.1, weight_decay=0.1),
    optim.scaled(optim.by_name({"*": optim.sgd(0.1)}), optim.warmup(1.0, 10)),
    optim.averaged(optim.lookahead(optim.by_name({"*": optim.sgd(0.1)}), 3), 0.9, start=5),
    optim.by_name({"*.bias": optim.frozen(), "*": optim.chain(optim.l2(0.1), optim.adam())}),
    optim.by_name({"*.bias": optim.track("*.kernel", 0.1, every=2), "*": optim.every(2, optim.sgd(0.1))}),
    *(
        optim.sgd(s)
        for s in (
            optim.constant(0.1),
            optim.exponential_decay(0.1, 0.9, 10, staircase=True),
            optim.step_decay(0.1, 0.5, 10),
            optim.piecewise([10, 20], [0.1, 0.01, 0.001]),
            optim.polynomial(0.1, 100, power=2.0),
            optim.cosine(0.1, 100, warmup_steps=5),
            optim.one_cycle(0.1, 100),
            optim.warmup(optim.cosine(0.1, 100), 10),
            optim.cosine_restarts(0.1, 10, 2.0),
            optim.join([optim.warmup(0.1, 10), 0.1], [10]),
        )
    ),
]


def without_address(value: Any) -> str:
    """A name that is the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def through_json(value: Any) -> Any:
    return build(json.loads(json.dumps(describe(value))))


@each(OPTIMIZERS)
def test_an_optimiser_computes_the_same_after_json(optimizer: Any) -> None:
    again = through_json(optimizer)
    assert repr(again) == repr(optimizer)
    assert keys(again) == keys(optimizer)


def keys(optimizer: Any) -> list[str]:
    """The keys of the updates of each group of two parameters."""
    groups = [(group, [5] * len(group.parameters)) for group in groups_of(optimizer, ["a.kernel", "a.bias"]) if group.optimizer.trains]
    return [graph.key for graph in Update.of_groups(groups).graphs.values()]


def test_every_optimiser_and_schedule_that_can_be_described_is_tried_above() -> None:
    text = json.dumps([describe(o) for o in OPTIMIZERS])
    missing = [name for kind in ("optimizer", "schedule") for name in MAKERS[kind] if f'"{kind}": "{name}"' not in text]
    assert not missing


def test_a_model_of_every_kind_of_layer_is_the_same_after_json() -> None:
    layers = [
        nn.Flatten(),
        nn.BatchNorm(momentum=0.8),
        nn.Dense(np.int64(4), "relu", use_bias=False, kernel_initializer="he_normal", name="first"),
        nn.LayerNorm(),
        nn.Activation("tanh"),
        nn.Sequential([nn.Dropout(0.5), nn.Dense(2)], name="head"),
    ]
    model = nn.Sequential(layers)
    assert through_json(model) == model


def test_every_public_layer_can_be_described() -> None:
    assert {"Activation", "BatchNorm", "Dense", "Dropout", "Flatten", "LayerNorm", "Sequential"} <= set(MAKERS["layer"])
    assert "Layer" not in MAKERS["layer"]


@pytest.mark.parametrize(
    "loss", [*losses.LOSSES, losses.find("cross_entropy", class_weights=[1, 2.5], label_smoothing=0.1)], ids=without_address
)
def test_a_loss_is_the_same_after_json(loss: Any) -> None:
    original, again = losses.find(loss), through_json(losses.find(loss))
    assert (again.name, again.targets) == (original.name, original.targets)
    assert describe(again) == describe(original)
    assert getattr(again.function, "keywords", {}) == getattr(original.function, "keywords", {})


METRICS = [
    metrics.find("top_k_accuracy", k=3),
    metrics.find("f1", average=None, zero_division=1.0),
    metrics.find("precision_weighted", name="quality"),
    metrics.find("auc", bins=20),
    metrics.find("cross_entropy", label_smoothing=0.1, name="smooth"),
]


@each([*metrics.METRICS, *METRICS])
def test_a_metric_is_the_same_after_json(metric: Any) -> None:
    original, again = metrics.find(metric), through_json(metrics.find(metric))
    assert (again.name, again.higher_is_better) == (original.name, original.higher_is_better)
    assert describe(again) == describe(original)


def custom(x: Any, *_: Any) -> Any:
    return x


@pytest.mark.parametrize(
    "value",
    [
        nn.Dense(3, custom),
        nn.Dense(3, kernel_initializer=custom),
        nn.Sequential([nn.Dense(3), nn.Activation(custom)]),
        optim.sgd(custom),
        optim.sgd(optim.warmup(custom, 10)),
        optim.Optimizer("adam", ("first", "second"), partial(custom, learning_rate=0.1, beta_1=0.9, beta_2=0.99, epsilon=1e-8)),
        losses.find(custom),
        losses.Loss("cross_entropy", custom, "classes"),
        losses.Loss("mean_squared_error", partial(losses.cross_entropy), "like_outputs"),
        metrics.find(custom),
        metrics.Metric("accuracy", custom),
        replace(metrics.METRICS["accuracy"], higher_is_better=False),
        metrics.Metric("accuracy", metrics.accuracy.__wrapped__, custom),
    ],
    ids=without_address,
)
def test_what_is_not_dagtrains_own_is_named_and_never_built(value: Any) -> None:
    description = describe(value)
    assert list(foreign(description))
    with pytest.raises(ValueError, match=r"describes no|dagtrain has no|the settings of|cannot be built"):
        build(description)


class Dense(nn.Dense):
    """A user's class with the name of a layer."""


def test_a_subclass_with_the_name_of_a_layer_is_foreign() -> None:
    assert "python" in describe(Dense(3))


@pytest.mark.parametrize(
    "bad",
    [
        {"layer": "os.system", "settings": {}},
        {"layer": "Dense"},
        {"layer": "Dense", "settings": {"units": -1}},
        {"layer": "Dense", "settings": {"units": "ten"}},
        {"layer": "Dense", "settings": {"units": 1, "more": 2}},
        {"layer": "Dense", "settings": {"units": 1, "activation": "os.system"}},
        {"layer": "Dense", "settings": {"units": 1, "kernel_initializer": {"python": "os.system"}}},
        {"layer": "Sequential", "settings": {"layers": []}},
        {"layer": "Sequential", "settings": {"layers": ["Dense"]}},
        {"layer": "Sequential", "settings": [1]},
        {"layer": ["Dense"], "settings": {}},
        {"optimizer": "adam", "settings": {"learning_rate": "fast"}},
        {"optimizer": "adam", "layer": "Dense", "settings": {}},
        {"optimizer": "chain", "settings": {"parts": [1]}},
        {"loss": "cross_entropy", "settings": {"label_smoothing": 7}},
        {"python": "os.system"},
        {"settings": {}},
        {},
    ],
    ids=without_address,
)
def test_no_other_description_builds_anything(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"describes no|dagtrain has no|the settings of|cannot be built"):
        build(bad)


def test_shapes_of_a_gigantic_model_need_no_memory() -> None:
    model = nn.Sequential([nn.Dense(1 << 40), nn.Sequential([nn.Dense(2)])])
    params = first_pass(model, key(0), ((1, 1000),), allocate=False).parameters
    assert params["dense_1"]["kernel"].shape == (1000, 1 << 40)


def test_settings_unknown_to_an_older_version_have_their_defaults() -> None:
    assert complete({"layer": "Dense", "settings": {"units": 3}}) == describe(nn.Dense(3))
    of_the_users = {"layer": "Dense", "settings": {"units": 3, "activation": {"python": "mine"}}}
    assert complete(of_the_users) == of_the_users


def test_differences_name_the_setting() -> None:
    one, other = describe(nn.Sequential([nn.Dense(3), nn.Dense(2, "relu")])), describe(nn.Sequential([nn.Dense(3), nn.Dense(2, "tanh")]))
    assert list(differences(one, other, "model")) == ["model.layers[1].activation: 'relu' there, 'tanh' here"]
    assert not list(differences(one, one, "model"))


@pytest.mark.parametrize("bad", [{}, {"dict": [["a"]]}, {"set": []}, {"dict": {"a": "*"}}, 3, None], ids=without_address)
def test_no_other_structure_is_made(bad: Any) -> None:
    with pytest.raises(ValueError, match="describes no nest"):
        structure_of(bad)
