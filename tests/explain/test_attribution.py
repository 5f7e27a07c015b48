"""Attributions: closed forms, completeness, and whole numbers that count where they enter the model."""

from dataclasses import dataclass, field

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.explain import integrated_gradients, saliency

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 5)).astype("f4")


def trainer_of(model, loss="mean_squared_error"):
    """With weights that are not zero, biases included."""
    trainer = dt.Trainer(model, loss=loss)
    rng = np.random.default_rng(1)
    trainer.load_weights({name: rng.normal(0, 0.7, array.shape).astype("f4") for name, array in trainer.weights().items()})
    return trainer


def test_more_steps_make_the_gap_smaller():
    for activation, bounds in {"relu": (1.0, 0.2, 0.03), "tanh": (0.3, 1e-3, 1e-5)}.items():
        trainer = trainer_of(nn.Sequential([nn.Dense(16, activation), nn.Dense(3)], input_shape=(5,)), "cross_entropy")
        gaps = [np.abs(integrated_gradients(trainer, X, steps=steps, target=1, batch_size=4).gap).max() for steps in (2, 16, 128)]
        assert gaps[0] > gaps[1] > gaps[2], activation
        assert all(gap < bound for gap, bound in zip(gaps, bounds, strict=True)), (activation, gaps)
    found = integrated_gradients(trainer, X)
    outputs = trainer.predict(X)
    np.testing.assert_allclose(found.scores, outputs.max(axis=1), rtol=1e-5)
    each = integrated_gradients(trainer, X, target=outputs.argmax(axis=1))
    assert np.array_equal(each.values, found.values)


def test_a_linear_model_has_its_products_whatever_the_baseline():
    trainer = trainer_of(nn.Sequential([nn.Dense(2)], input_shape=(5,)))
    kernel = trainer.weights()["dense_1.kernel"].astype("f8")
    row, rows = RNG.normal(size=5), RNG.normal(size=(3, 5))
    for baseline, less in ((0.0, 0), (0.5, 0.5), (row, row), (rows, rows.mean(axis=0))):
        found = integrated_gradients(trainer, X, baseline, target=1, steps=1)
        np.testing.assert_allclose(found.values, (X - less) * kernel[:, 1], atol=1e-5)
        assert np.abs(found.gap).max() < 1e-5
    np.testing.assert_allclose(saliency(trainer, X, target=0), np.broadcast_to(np.abs(kernel[:, 0]), X.shape), rtol=1e-5)


@dataclass(frozen=True)
class Words(nn.Layer):
    """Categories of a table's first two columns and tokens beside it, each by an embedding; a mask leaves padding out."""

    first: nn.Embedding = field(default_factory=lambda: nn.Embedding(4, 3))
    second: nn.Embedding = field(default_factory=lambda: nn.Embedding(6, 3))
    words: nn.Embedding = field(default_factory=lambda: nn.Embedding(9, 3))

    def forward(self, c, table, tokens, mask, amount):
        h = c(self.first, table[:, 0]) + c(self.second, np.where(table[:, 1] < 4, table[:, 1], 5)) * c(self.words, tokens[:, 0])
        hot = dt.one_hot(table[:, 2] - 1, 3)
        rows = np.where(mask[..., None], c(self.words, tokens), 0)
        return np.tanh(h + hot) * amount[:, None] + np.tanh(rows.sum(axis=1))


def test_whole_numbers_count_where_they_enter_the_model():
    columns = [nn.Input((3,), "table", "int32"), nn.Input((4,), "tokens", "int32"), nn.Input((4,), "mask", "bool"), nn.Input((), "amount")]
    trainer = trainer_of(nn.Model(columns, Words()(*columns)))
    x = {
        "table": np.int32([[1, 5, 3], [0, 2, 1]]),
        "tokens": np.int32([[3, 8, 2, 0], [1, 0, 0, 0]]),
        "mask": np.array([[True, True, True, False], [True, False, False, False]]),
        "amount": np.float32([0.5, 2.0]),
    }
    baseline = {"table": np.int32([0, 0, 1]), "tokens": 0, "mask": None, "amount": 0.0}
    found = integrated_gradients(trainer, x, baseline, target=2)
    assert np.abs(found.gap).max() < 1e-5
    assert found.values["mask"] is None
    assert found.values["tokens"].shape == (2, 4)
    assert found.values["tokens"][0, 3] == 0  # behind the mask
    assert not found.values["table"][1, [0, 2]].any()  # as in the baseline
    assert (np.abs(found.values["table"][0]) > 1e-3).all()
    assert (np.abs(found.values["tokens"][0, :3]) > 1e-3).all()
    # The gradient by the row of an embedding, from finite differences of the embedding itself.
    sizes, weights = saliency(trainer, x, target=2), trainer.weights()
    name, shifts = next(name for name in weights if name.endswith("words.embeddings")), []
    for j in range(3):
        sides = []
        for sign in (1, -1):
            moved = weights[name].copy()
            moved[2, j] += sign * 1e-2
            trainer.load_weights(weights | {name: moved})
            sides.append(trainer.predict(x)[0, 2])
        shifts.append((sides[0] - sides[1]) / 2e-2)
    assert sizes["tokens"][0, 2] == pytest.approx(np.linalg.norm(shifts), rel=1e-2)
    trainer.load_weights(weights)
    with pytest.raises(ArgumentError, match=r"baseline of x\.mask: it leads to the score through comparisons alone"):
        integrated_gradients(trainer, x, baseline | {"mask": False})
    held = integrated_gradients(trainer, x, {"table": None, "tokens": 0, "mask": None, "amount": None}, target=2)
    assert held.values["table"] is None
    assert held.values["amount"] is None
    assert np.abs(held.gap).max() < 1e-5


def test_a_saturated_sigmoid_is_taken_at_its_logit():
    trainer = trainer_of(nn.Sequential([nn.Dense(1, "sigmoid")], input_shape=(5,)))
    kernel = np.float32([[30.0], [20.0], [0.0], [0.0], [-1.0]])
    trainer.load_weights({"dense_1.kernel": kernel, "dense_1.bias": np.zeros(1, "f4")})
    x = np.ones((1, 5), "f4")
    np.testing.assert_allclose(integrated_gradients(trainer, x).values, kernel.T, rtol=1e-5)
    assert saliency(trainer, x, logits=False).max() < 1e-6  # the slope of the sigmoid itself
    assert integrated_gradients(trainer, x, logits=False, steps=200).scores == pytest.approx(1.0)


def test_pictures_sequences_and_outputs_by_name():
    a, b = nn.Input((4, 4, 2), "a"), nn.Input((3, 2), "b")
    states = nn.LSTM(3, return_sequences=True)(b)
    model = nn.Model([a, b], {"kind": nn.Dense(2)(nn.Flatten()(nn.Conv2D(2, 3, "tanh")(a))), "path": nn.Dense(2)(states)})
    trainer = trainer_of(model, {"kind": "cross_entropy", "path": "mean_squared_error"})
    x = (RNG.normal(size=(3, 4, 4, 2)).astype("f4"), RNG.normal(size=(3, 3, 2)).astype("f4"))
    found = integrated_gradients(trainer, x, output="path", target=(1, 0))
    assert np.abs(found.gap).max() < 1e-5
    assert not found.values["a"].any()  # the other output's
    assert np.abs(found.values["b"][:, :2]).min() > 0
    assert not found.values["b"][:, 2].any()  # it comes later
    with pytest.raises(ArgumentError, match="name one by output="):
        saliency(trainer, x)
    with pytest.raises(ArgumentError, match=r"say which number of it by target=, a tuple of 2 places"):
        saliency(trainer, x, output="path")


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"target": 3}, ArgumentError, r"an output of shape \(3,\), got 3"),
        ({"target": [0, 1]}, ArgumentError, "2 places for 7 rows"),
        ({"output": "kind"}, ArgumentError, "one output, which has no name: leave output='kind' out"),
        ({"logits": "no"}, ArgumentError, "logits is True or False, got 'no'"),
        ({"trainer": nn.Dense(3)}, ArgumentError, "those of a trainer: .* got a Dense"),
        ({"steps": 0}, ArgumentError, "steps must be a whole number from 1 up"),
        ({"baseline": np.zeros(4)}, ShapeError, r"a row is \(5,\), got \(4,\)"),
        ({"baseline": np.full(5, np.nan)}, ArgumentError, "must hold finite numbers"),
        ({"baseline": None}, ArgumentError, "every column is held"),
    ],
)
def test_mistakes_are_named(arguments, kind, words):
    trainer = trainer_of(nn.Sequential([nn.Dense(3)], input_shape=(5,)))
    with pytest.raises(kind, match=words):
        integrated_gradients(**{"trainer": trainer, "x": X, **arguments})


def test_whole_numbers_that_cannot_be_told_apart_are_refused():
    tokens = np.int32([[1, 2, 3]])
    for function, op in ((lambda x: np.cumsum(x, axis=1), "cumsum"), (lambda x: x[:, :1] * x[:, 1:], "multiply")):
        x = nn.Input((3,), "x", "int32")
        trainer = trainer_of(nn.Model(x, nn.Flatten()(nn.Embedding(40, 2)(nn.Lambda(function)(x)))))
        with pytest.raises(ArgumentError, match=f"pass through '{op}'.*before they become real numbers at 'gather'"):
            saliency(trainer, tokens)
    x = nn.Input((3,), "x", "int32")
    trainer = trainer_of(nn.Model(x, nn.Dense(1)(nn.Lambda(lambda x: (x > 1).astype("f4"))(x))))
    with pytest.raises(ArgumentError, match=r"through comparisons alone: give them to the model by nn\.Embedding"):
        saliency(trainer, tokens)
    x = nn.Input((3,), "x", "int32")
    divided = trainer_of(nn.Model(x, nn.Dense(1)(nn.Lambda(lambda x: 1 / x)(x))))
    with pytest.raises(ArgumentError, match="score of the baseline is not finite"):
        integrated_gradients(divided, tokens)
