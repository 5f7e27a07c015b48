"""MixUp and CutMix: samples mixed, and each target compared with the two outputs that it has a part in."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError
from dagtrain.nn import losses
from dagtrain.nn.layers.mixing import beta
from dagtrain.ops.random import key
from dagtrain.step.heads import loss_of

X = np.random.default_rng(0).uniform(size=(6, 4, 5, 2)).astype("f4")
LABELS = np.array([0, 2, 1, 1, 0, 2])


def run(layer, x=X, seed=1):
    return nn.Sequential([layer]).run({}, {}, x, key=key(seed), training=True)


class Keys:
    """A context that has keys alone."""

    def __init__(self):
        self.count = 0

    def key(self):
        self.count += 1
        return key(self.count)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 4.0])
def test_parts_are_of_the_beta_distribution(alpha):
    rows = 40_000
    drawn = np.sort(beta(Keys(), rows, alpha))
    expected = np.sort(np.random.default_rng(0).beta(alpha, alpha, 200_000))
    points = np.linspace(1e-3, 1 - 1e-3, 999)  # nearer to 1 a float32 is 1
    gap = np.abs(np.searchsorted(expected, points) / len(expected) - np.searchsorted(drawn, points) / rows).max()
    assert gap < 1.95 * np.sqrt(1 / rows + 1 / len(expected))  # Kolmogorov and Smirnov at 0.1 %
    assert np.isfinite(drawn).all()


def test_samples_are_mixed_with_the_next_of_the_shard():
    mixed = run(nn.MixUp(1.0))
    part = mixed.parts.reshape(6, 1, 1, 1)
    np.testing.assert_allclose(mixed.outputs, part * X + (1 - part) * np.roll(X, -1, 0), rtol=1e-5)
    cut = run(nn.CutMix())
    of_next = (cut.outputs == np.roll(X, -1, 0)).all(-1)
    assert (of_next | (cut.outputs == X).all(-1)).all()
    np.testing.assert_allclose(cut.parts, 1 - of_next.mean((1, 2)), atol=1e-6)
    assert 0 < of_next.mean() < 1
    pair = nn.MixUp().run({}, {}, X, 2 * X, key=key(1), training=True)
    np.testing.assert_allclose(pair.outputs[1], 2 * pair.outputs[0], rtol=1e-5)
    assert nn.MixUp().run({}, {}, X).parts is None


def test_the_loss_is_that_of_mixed_targets():
    rng = np.random.default_rng(1)
    outputs, part, weight = rng.normal(size=(6, 3)), rng.uniform(size=6), np.array([1.0, 2.0, 0.0, 1.0, 0.5, 3.0])
    log_p = outputs - np.log(np.exp(outputs).sum(1, keepdims=True))
    own, following = weight * part, np.roll(weight, -1) * (1 - part)
    expected = -sum(own[i] * log_p[i, LABELS[i]] + following[i] * log_p[i, LABELS[(i + 1) % 6]] for i in range(6))
    total, weights = loss_of(losses.find("cross_entropy"), dt.array(outputs), dt.array(LABELS), dt.array(weight), dt.array(part))
    assert float(total.compute()) == pytest.approx(expected)
    assert float(weights.compute()) == weight.sum()
    one = np.eye(3)[LABELS]
    mixed = part[:, None] * one + (1 - part)[:, None] * np.roll(one, -1, 0)
    total, weights = loss_of(losses.find("kl_divergence"), dt.array(outputs), dt.array(one), None, dt.array(part))
    assert float(total.compute()) == pytest.approx(-np.sum(mixed * log_p))
    assert weights == 6


def new(layers, loss="cross_entropy"):
    return dt.Trainer(nn.Sequential([*layers, nn.Flatten(), nn.Dense(3)]), loss=loss, engine="inline", shards=1, metrics=["accuracy"])


def test_training_mixes_and_evaluation_does_not():
    trainer, plain = new([nn.MixUp()]), new([])
    for each in (trainer, plain):
        each.fit(X, LABELS, class_weight={0: 2.0, 1: 1.0, 2: 1.0}, epochs=2, verbose=0)
    assert trainer.history.history["loss"] != plain.history.history["loss"]
    plain.load_weights(trainer.weights())
    assert trainer.evaluate(X, LABELS) == plain.evaluate(X, LABELS)


def test_mistakes():
    with pytest.raises(ArgumentError, match="the model mixes samples twice"):
        new([nn.CutMix(), nn.MixUp()]).fit(X, LABELS, verbose=0)
    with pytest.raises(ArgumentError, match="cannot weigh what is one number for the batch already: return one value a sample") as raised:
        new([nn.MixUp()], lambda outputs, y: np.mean(outputs)).fit(X, LABELS, verbose=0)
    assert "In the loss of mixed targets, which weighs each sample." in raised.value.__cause__.__notes__
