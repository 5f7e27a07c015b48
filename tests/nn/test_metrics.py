"""Metrics against scikit-learn's definitions, written out."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, ShapeError, UnknownNameError
from dagtrain.nn import losses, metrics
from dagtrain.plan.interpret import interpret

RNG = np.random.default_rng(2)
LOGITS = RNG.normal(size=(50, 6)).astype("f4")
LABELS = RNG.integers(0, 6, 50)


def test_accuracy():
    assert metrics.accuracy(LOGITS, LABELS) == pytest.approx(np.mean(LOGITS.argmax(1) == LABELS))


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_top_k(k):
    expected = np.mean([label in np.argsort(row)[-k:] for row, label in zip(LOGITS, LABELS, strict=True)])
    assert metrics.top_k_accuracy(LOGITS, LABELS, k=k) == pytest.approx(expected)


def test_nan_is_never_a_hit():
    assert metrics.top_k_accuracy(np.full((4, 6), np.nan), np.zeros(4, int), k=5) == 0


@pytest.mark.parametrize("positive", [1, 3])
def test_binary_accuracy_for_zero_one_and_minus_one_one(positive):
    targets = np.array([1, 0, 1]) if positive == 1 else np.array([1, -1, 1])
    assert metrics.binary_accuracy(np.array([2.0, 3.0, 0.1]), targets) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["accuracy", "top_k_accuracy", "cross_entropy"])
def test_tensors_give_what_arrays_give(name):
    metric = metrics.find(name)
    graph = dt.trace(metric.parts, LOGITS, LABELS)
    parts = interpret(graph, LOGITS, LABELS)[0]
    assert parts.dtype == np.float64
    assert metric.value(parts) == metric(LOGITS, LABELS)
    assert all(node.dtype != np.float64 for node in graph.nodes if node.size > 2)


def test_names_and_directions():
    assert metrics.find("top_k_accuracy", k=2).name == "top_2_accuracy"
    assert {name for name, m in metrics.METRICS.items() if m.higher_is_better} == {"accuracy", "binary_accuracy", "top_k_accuracy"}
    assert set(losses.LOSSES) < set(metrics.METRICS)
    assert metrics.find(losses.find("cross_entropy", label_smoothing=0.1)).higher_is_better is False
    assert metrics.find(losses.huber).higher_is_better is False


def test_errors():
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        metrics.find("acuracy")
    with pytest.raises(ArgumentError, match=r"accuracy has no options, got \['k'\]"):
        metrics.find("accuracy", k=2)
    with pytest.raises(ArgumentError, match="top_k_accuracy: k must be a whole number from 1 up"):
        metrics.find("top_k_accuracy", k=0)
    with pytest.raises(ArgumentError, match="number of classes"):
        metrics.top_k_accuracy(LOGITS, LABELS, k=7)
    with pytest.raises(ShapeError, match="binary_accuracy"):
        metrics.accuracy(np.zeros((3, 1)), np.zeros(3, int))
