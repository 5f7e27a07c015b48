"""Metrics of a whole fit: the figures of an epoch are those of scikit-learn on all its predictions, for any number of shards."""

import numpy as np
import pytest

import dagtrain as dt

from ..peers import scikit_learn as sk

METRICS = [
    "accuracy",
    dt.nn.metrics.find("f1", average="weighted"),
    "precision_micro",
    "recall",
    "balanced_accuracy",
    "perplexity",
    "auc",
    "confusion_matrix",
]


def still(outputs, loss, metrics, shards):
    """A trainer whose steps leave the weights as they are."""
    model, optimizer = dt.nn.Sequential([dt.nn.Dense(outputs)]), dt.optim.sgd(1e-30)
    return dt.Trainer(model, loss=loss, metrics=metrics, shards=shards, seed=3, optimizer=optimizer)


@pytest.mark.parametrize("shards", [1, 3, 8, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 5))])
def test_figures_of_an_epoch_are_those_of_all_its_predictions(digits, shards):
    trainer = still(10, "cross_entropy", METRICS, shards)
    x, y = digits.x[:213], digits.y[:213]  # the last step has 13 samples
    history = trainer.fit(x, y, epochs=1, batch_size=50, verbose=0, validation_data=(x, y)).history
    outputs = trainer.predict(x).astype("f8")
    predicted = outputs.argmax(axis=1)
    likely = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    expected = {
        "accuracy": sk.accuracy_score(y, predicted),
        "f1_weighted": sk.f1_score(y, predicted, average="weighted"),
        "precision_micro": sk.precision_score(y, predicted, average="micro"),
        "recall": sk.recall_score(y, predicted, average="macro"),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
        "perplexity": np.exp(sk.log_loss(y, likely)),
        "auc": sk.roc_auc_score(y, likely, multi_class="ovr"),
    }
    evaluated = trainer.evaluate(x, y)
    for name, value in expected.items():
        close = {"perplexity": {"rel": 1e-5}, "auc": {"abs": 1e-3}}.get(name, {"rel": 1e-12})
        assert history[name] == [pytest.approx(value, **close)], name
        close = {"rel": 1e-12} if name == "auc" else close  # exact in evaluation
        assert evaluated[name] == history[f"val_{name}"][0] == pytest.approx(value, **close), name
    assert "confusion_matrix" not in history
    assert np.array_equal(evaluated["confusion_matrix"], sk.confusion_matrix(y, predicted, labels=range(10)))


@pytest.mark.parametrize(("outputs", "loss"), [(1, "binary_cross_entropy"), (2, "cross_entropy")])
def test_binary_classifiers_with_one_logit_and_with_two(digits, outputs, loss):
    x, y = digits.x[:100], (digits.y[:100] < 4).astype("i8")
    trainer = still(outputs, loss, ["acc", "precision", "recall", "f1", "average_precision"], 3)
    history = trainer.fit(x, y, epochs=1, batch_size=40, verbose=0).history
    logits = trainer.predict(x).astype("f8")
    score = logits[:, -1] - (logits[:, 0] if outputs == 2 else 0)
    assert history["accuracy"] == [pytest.approx(sk.accuracy_score(y, score > 0))]
    assert history["precision"] == [pytest.approx(sk.precision_score(y, score > 0))]
    assert history["recall"] == [pytest.approx(sk.recall_score(y, score > 0))]
    assert history["f1"] == [pytest.approx(sk.f1_score(y, score > 0))]
    assert history["average_precision"] == [pytest.approx(sk.average_precision_score(y, score), abs=0.01)]
