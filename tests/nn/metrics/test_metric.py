"""The record of a metric, names and options, and values that are quickly written out."""

import math
import pickle
from functools import partial

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DataError, DTypeError, ShapeError, UnknownNameError
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
    assert metrics.find("f1", average="macro").name == "f1_macro"
    assert metrics.find("f1", average=None).name == "f1_by_class"
    assert metrics.find("f1", average="auto", zero_division=1.0).name == "f1"
    lower = {name for name, m in metrics.METRICS.items() if not m.higher_is_better}
    assert lower == set(losses.LOSSES) | {
        "expected_calibration_error",
        "mean_absolute_percentage_error",
        "perplexity",
        "root_mean_squared_error",
    }
    assert metrics.find(losses.find("cross_entropy", label_smoothing=0.1)).higher_is_better is False
    assert metrics.find(losses.huber).higher_is_better is False


def hits(outputs, targets):
    return outputs.argmax(-1) == targets


def mean_hits(outputs, targets):
    return np.mean(hits(outputs, targets))


@pytest.mark.parametrize("function", [hits, mean_hits])
def test_functions_of_the_user_add_up_by_rows(function):
    metric = metrics.find(function)
    assert (metric.name, metric.higher_is_better) == (function.__name__, True)
    total = metric.parts(LOGITS[:7], LABELS[:7]) + metric.parts(LOGITS[7:], LABELS[7:])
    assert metric.value(total) == pytest.approx(metrics.accuracy(LOGITS, LABELS))


def test_functions_with_values_by_sample_take_weights():
    weights = np.arange(50.0)
    assert metrics.find(hits)(LOGITS, LABELS, weights) == pytest.approx(metrics.accuracy(LOGITS, LABELS, weights))
    with pytest.raises(ArgumentError, match="return one value a sample"):
        metrics.find(mean_hits)(LOGITS, LABELS, weights)


def test_functions_and_metrics_can_be_named():
    assert metrics.find(lambda outputs, targets: 0.0, name="nothing").name == "nothing"
    assert metrics.find("f1", name="quality", average="micro").name == "quality"


@pytest.mark.parametrize(
    "metric",
    [
        *metrics.METRICS,
        metrics.precision,
        partial(metrics.top_k_accuracy, k=3),
        metrics.find("f1", average="weighted", zero_division=1.0),
        metrics.find("auc", bins=20),
        metrics.find("cross_entropy", label_smoothing=0.1),
        metrics.find(hits),
    ],
    ids=lambda m: m if isinstance(m, str) else getattr(m, "name", "function"),
)
def test_metrics_can_be_pickled(metric):
    metric = metrics.find(metric)
    again = pickle.loads(pickle.dumps(metric))
    assert again.name == metric.name
    classes = {"accuracy", "balanced_accuracy", "categorical_hinge", "confusion_matrix", "hits", "perplexity"}
    is_class = metric.name in classes or metric.name.startswith("top") or metric.name.endswith("cross_entropy")
    targets = LABELS if is_class and "binary" not in metric.name else LOGITS > 0
    targets = LABELS % 2 if metric.name == "contrastive" else targets
    outputs = abs(LOGITS)
    if metric.name == "ctc":
        outputs, targets = outputs.reshape(10, 5, 6), LABELS[:10, None]
    np.testing.assert_array_equal(again.parts(outputs, targets), metric.parts(outputs, targets))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("acc", "accuracy"),
        ("mse", "mean_squared_error"),
        ("MeanSquaredError", "mean_squared_error"),
        ("mape", "mean_absolute_percentage_error"),
        ("rmse", "root_mean_squared_error"),
        ("RootMeanSquaredError", "root_mean_squared_error"),
        ("Precision", "precision"),
        ("F1Score", "f1"),
        ("R2Score", "r2"),
        ("r2_score", "r2"),
        ("AUC", "auc"),
        ("roc_auc", "auc"),
        ("roc_auc_score", "auc"),
        ("roc_auc_ovr", "auc"),
        ("average_precision_score", "average_precision"),
        ("balanced_accuracy_score", "balanced_accuracy"),
        ("ece", "expected_calibration_error"),
        ("sensitivity", "recall"),
    ],
)
def test_names_of_other_libraries_that_mean_the_same_are_taken(name, ours):
    assert metrics.find(name) is metrics.METRICS[ours]


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_the_names_of_scikit_learns_scorers_are_taken(average):
    metric = metrics.find(f"f1_{average}")
    assert metric.name == f"f1_{average}"
    assert metric(LOGITS, LABELS) == metrics.f1(LOGITS, LABELS, average=average)


def test_other_names_are_explained():
    with pytest.raises(UnknownNameError, match="unknown metric 'macro'"):
        metrics.find("macro")
    with pytest.raises(UnknownNameError, match="higher is not better there"):
        metrics.find("neg_mean_squared_error")
    with pytest.raises(UnknownNameError, match=r"find\('top_k_accuracy', k=5\)"):
        metrics.find("top_k_categorical_accuracy")


def test_accuracy_of_one_logit_is_binary_accuracy():
    logits, targets = np.array([[3.0], [-1.0], [1.0], [2.0]]), np.array([1, 0, 0, 1])
    assert metrics.accuracy(logits, targets) == metrics.binary_accuracy(logits, targets) == 0.75


def test_without_samples_a_class_counts_as_asked():
    outputs, labels = np.eye(3)[[0, 0, 1]], np.array([0, 1, 0])
    assert metrics.precision(outputs, labels, average=None).tolist() == [0.5, 0.0, 0.0]
    assert metrics.precision(outputs, labels, average=None, zero_division=1.0).tolist() == [0.5, 0.0, 1.0]
    assert metrics.precision(outputs, labels, average="macro", zero_division=1.0) == 0.25  # class 2 does not occur


def test_perplexity_of_very_wrong_outputs_is_infinite():
    assert metrics.perplexity(np.array([[1e4, 0.0]]), np.array([1])) == np.inf


def test_r2_of_constant_targets():
    targets = np.full(10, 0.1)
    assert metrics.r2(targets, targets) == 1
    assert metrics.r2(targets + 0.01, targets) == 0


def test_r2_of_targets_far_from_zero():
    targets = 1e5 + RNG.normal(size=1000)
    outputs = targets + 0.5 * RNG.normal(size=1000)
    expected = 1 - np.sum((outputs - targets) ** 2) / np.sum((targets - targets.mean()) ** 2)
    assert metrics.r2(outputs, targets) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [lambda parts: parts[0] / parts[1], lambda parts: 1 / parts.tolist()[1]], ids=["arrays", "numbers"])
def test_a_value_of_the_user_that_divides_by_zero_is_not_a_number(value):
    assert np.isnan(metrics.Metric("mine", metrics.METRICS["accuracy"].parts, value).figure(np.zeros(2)))


def test_errors_of_a_metric_of_the_user_name_it_and_the_line():
    def parts(outputs, targets, sample_weight=None):
        return np.array([1.0, int("no number")])

    mine = metrics.Metric("mine", parts)
    with pytest.raises(ArgumentError, match=r"the metric 'mine' raised ValueError \(.*test_metric.py:\d+ in parts\): invalid literal"):
        mine(LOGITS, LABELS)
    with np.errstate(over="raise"), pytest.raises(ArgumentError, match=r"the metric 'mine' raised FloatingPointError .* in <lambda>"):
        metrics.Metric("mine", parts, lambda parts: np.exp(parts[0])).figure(np.array([1e4, 1.0]))
    with pytest.raises(ArgumentError, match="the value of 'mine' must be a number or an array of numbers, got None"):
        metrics.Metric("mine", parts, lambda parts: None).figure(np.ones(2))


def test_what_is_not_defined_for_nothing_is_not_a_number():
    mine = metrics.Metric("mine", metrics.METRICS["accuracy"].parts, lambda parts: math.log(parts[0]))
    assert np.isnan(mine.figure(np.zeros(2)))
    with pytest.raises(ArgumentError, match="the metric 'mine' raised ValueError"):
        mine.figure(np.array([-1.0, 1.0]))


def test_parts_and_rows_are_those_that_a_metric_declares():
    accuracy = metrics.METRICS["accuracy"]
    with pytest.raises(ShapeError, match=r"the parts of 'mine' must be 3 numbers in one axis, by its size, got shape \(2,\)"):
        metrics.Metric("mine", accuracy.parts, size=lambda outputs: 3)(LOGITS, LABELS)
    with pytest.raises(ArgumentError, match=r"'mine': parts is a function \(outputs, targets, sample_weight=None\): too many positional"):
        metrics.Metric("mine", lambda outputs, targets: outputs)
    with pytest.raises(ShapeError, match=f"rows of 'mine' must have {len(LABELS)} rows, got shape"):
        metrics.Metric("mine", accuracy.parts, rows=lambda *_: np.ones(7), value_of_rows=np.sum)(LOGITS, LABELS)


@pytest.mark.parametrize("call", [metrics.accuracy, losses.cross_entropy, losses.find("cross_entropy"), losses.find("cross_entropy").parts])
def test_masked_arrays_are_refused(call):
    with pytest.raises(DTypeError, match="would lose its mask"):
        call(np.ma.masked_greater(LOGITS, 1.0), LABELS)


def test_errors():
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        metrics.find("acuracy")
    with pytest.raises(ArgumentError, match=r"accuracy has no options, got \['k'\]"):
        metrics.find("accuracy", k=2)
    with pytest.raises(UnknownNameError, match=r"unknown option of precision 'averag'\. Did you mean 'average'"):
        metrics.find("precision", averag="macro")
    with pytest.raises(UnknownNameError, match="Did you mean 'macro'"):
        metrics.find("precision", average="makro")
    with pytest.raises(ArgumentError, match="zero_division must be a number from 0 to 1"):
        metrics.find("precision", zero_division=2)
    with pytest.raises(ArgumentError, match="bins must be a whole number up to 65,536"):
        metrics.find("auc", bins=10**12)
    with pytest.raises(ArgumentError, match="top_k_accuracy: k must be a whole number from 1 up"):
        metrics.find("top_k_accuracy", k=0)
    with pytest.raises(ArgumentError, match="number of classes"):
        metrics.top_k_accuracy(LOGITS, LABELS, k=7)
    with pytest.raises(ArgumentError, match='average="binary" is for two classes'):
        metrics.precision(LOGITS, LABELS, average="binary")
    with pytest.raises(ShapeError, match="confusion_matrix"):
        metrics.confusion_matrix(np.zeros((3, 2)), np.zeros((3, 4), int))
    with pytest.raises(ArgumentError, match="a metric is a name"):
        metrics.find(3)


@pytest.mark.parametrize("name", ["auc", "average_precision", "expected_calibration_error", "r2"])
def test_one_output_a_position_counts_all_positions(name):
    random = np.random.default_rng(0)
    outputs, targets = random.normal(size=(12, 5, 1)), random.integers(0, 2, (12, 5))
    metric = metrics.find(name)
    assert metric(outputs, targets) == pytest.approx(metric(outputs.reshape(-1), targets.reshape(-1)))
    assert len(metric.parts(outputs, targets)) == metric.size(dt.Spec(outputs.shape, outputs.dtype))


@pytest.mark.parametrize("labels", [[0, 1, -1], [0, 1, 3]])
def test_labels_of_no_class_are_refused(labels):
    with pytest.raises(DataError, match="labels must be from 0 to 2"):
        metrics.find("balanced_accuracy")(np.eye(3), np.array(labels))
