"""Connectionist temporal classification: values and derivatives of PyTorch's, lengths by a layer, and a network that learns by it."""

import itertools

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import DTypeError, ShapeError
from dagtrain.nn import losses
from dagtrain.transform.gradient import gradient

STEPS, CLASSES = 9, 5
LABELS = np.array([[1, 2, 3, 1], [2, 2, -1, -1], [4, 4, 4, -1], [-1, -1, -1, -1], [3, 1, 0, 2]])
LENGTHS = np.array([9, 4, 7, 5, 6])


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("blank", [0, 4])
def test_values_and_derivatives_are_those_of_torch(dtype, blank):
    torch = pytest.importorskip("torch", reason="PyTorch is what losses are compared with")
    logits = np.random.default_rng(0).normal(scale=2.0, size=(5, STEPS, CLASSES)).astype(dtype)
    labels = np.where(LABELS == 4, 1, LABELS) if blank else LABELS
    numbers = [4, 2, 3, 0, 4 if blank else 2]  # a blank ends a row
    t = torch.tensor(logits, requires_grad=True)
    of_torch = torch.nn.functional.ctc_loss(
        t.log_softmax(-1).transpose(0, 1), torch.tensor(np.maximum(labels, 0)), torch.tensor(LENGTHS), torch.tensor(numbers), blank, "none"
    )
    (of_torch * torch.arange(1, 6)).sum().backward()
    leaf = dt.input("x", logits.shape, dtype)
    values = losses.ctc.__wrapped__(leaf, labels, blank=blank, lengths=LENGTHS)
    (slope,) = gradient((values * np.arange(1, 6, dtype=dtype)).sum(), [leaf])
    found = dt.Graph({"x": leaf}, {"y": values, "g": slope}).plan()(logits)
    tolerance = {"rtol": 1e-9, "atol": 1e-10} if dtype == "f8" else {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(found[0], of_torch.detach().numpy(), **tolerance)
    np.testing.assert_allclose(found[1], t.grad.numpy(), **tolerance)
    assert not found[1][np.arange(STEPS) >= LENGTHS[:, None]].any()
    on = np.arange(STEPS) < LENGTHS[:, None]
    ended, _ = nn.Blank(blank).apply({}, {}, logits, on)
    np.testing.assert_allclose(losses.ctc.__wrapped__(ended, labels, blank=blank), found[0], rtol=1e-5)


def test_it_is_the_sum_over_all_paths():
    logits = np.random.default_rng(1).normal(size=(1, 4, 3))
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    for labels in ([], [1], [1, 2], [2, 2], [1, 2, 1, 2], [1, 1, 1]):
        paths = [path for path in itertools.product(range(3), repeat=4) if [c for c, _ in itertools.groupby(path) if c] == labels]
        total = sum(np.prod([p[t, c] for t, c in enumerate(path)]) for path in paths)
        value = losses.ctc(logits, np.array([[*labels, *[-1] * (5 - len(labels))]]))
        np.testing.assert_allclose(value, -np.log(total) if paths else np.inf, rtol=1e-12)


@pytest.mark.slow
def test_a_network_learns_what_is_written_without_being_told_where():
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(3) < rng.integers(1, 4, 256)[:, None], rng.integers(1, 4, (256, 3)), -1)
    x = np.zeros((256, 14, 4), "f4")
    for row, line in enumerate(labels):
        places = np.sort(rng.choice(np.arange(0, 14, 2), 3, replace=False))  # each symbol takes one step or two
        for place, label in zip(places, line, strict=True):
            x[row, place : place + rng.integers(1, 3), max(label, 0)] = 1
    x, lengths = np.concatenate([x, rng.normal(size=(256, 2, 4)).astype("f4")], 1), np.full(256, 14)
    model = nn.Sequential([nn.Bidirectional(nn.GRU(12, return_sequences=True)), nn.Dense(4), nn.Blank()])
    trainer = dt.Trainer(model, loss="ctc", optimizer=dt.optim.adam(0.02))
    history = trainer.fit((x, lengths), labels, epochs=12, batch_size=32, verbose=0).history
    assert history["loss"][-1] < 0.3
    best = trainer.predict((x, lengths)).argmax(-1)
    right = [[c for c, _ in itertools.groupby(line) if c] == [c for c in row if c > 0] for line, row in zip(best, labels, strict=True)]
    assert np.mean(right) > 0.9


def test_mistakes_are_named():
    logits = np.zeros((2, 4, 3))
    for mistake, kind, words in (
        (lambda: losses.ctc(logits, np.zeros(2, int)), ShapeError, r"labels \(samples, labels\), got \(2, 4, 3\) and \(2,\)"),
        (lambda: losses.ctc(logits, np.zeros((2, 3))), DTypeError, "whole numbers, got float64"),
        (lambda: losses.ctc(logits, np.ones((2, 3), int), blank=3), ShapeError, "one of the 3 classes, 0 to 2, got 3"),
        (lambda: losses.ctc(logits, np.ones((2, 3), int), lengths=np.ones(3, int)), ShapeError, r"lengths of 2 samples, got \(3,\)"),
        (lambda: nn.Blank(3).output_spec((2, 4, 3)), ShapeError, "with a class 3"),
    ):
        with pytest.raises(kind, match=words):
            mistake()
