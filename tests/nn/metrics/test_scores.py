"""Metrics of scores: exact from all rows; from bins their error is within its bound, on scores that no bin suits."""

from itertools import pairwise

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.nn import metrics
from dagtrain.plan.interpret import interpret

from ...peers import scikit_learn as sk

RNG = np.random.default_rng(4)
TRUE = RNG.random(3000) < 0.1
LOGITS = {
    "ordinary": 2 * TRUE + RNG.normal(size=3000) - 1,
    "all unlikely": 2 * TRUE + RNG.normal(size=3000) - 9,
    "saturated": 40 * TRUE + RNG.normal(scale=30, size=3000),
    "all in one bin": 1e-3 * (TRUE + RNG.normal(size=3000)) + 0.02,
}


def curves(metric, outputs, targets):
    """Negatives and positives of each bin, the highest scores first."""
    parts = metric.parts(outputs, targets)
    return parts.reshape(2, -1)[:, ::-1]


@pytest.mark.parametrize("bins", [10, 1024])
@pytest.mark.parametrize("logits", LOGITS)
def test_area_under_the_roc_curve_is_within_its_bound(logits, bins):
    metric = metrics.find("auc", bins=bins)
    negative, positive = curves(metric, LOGITS[logits], TRUE)
    bound = np.sum(positive / positive.sum() * negative / negative.sum()) / 2
    exact = sk.roc_auc_score(TRUE, LOGITS[logits])
    assert abs(metric.value(metric.parts(LOGITS[logits], TRUE)) - exact) <= bound + 1e-12
    assert metric(LOGITS[logits], TRUE) == pytest.approx(exact, rel=1e-12)
    if bins == 1024 and logits != "all in one bin":
        assert bound < 0.01
        assert metric.value(metric.parts(LOGITS[logits], TRUE)) == pytest.approx(exact, abs=5e-4)


@pytest.mark.parametrize("bins", [10, 1024])
@pytest.mark.parametrize("logits", LOGITS)
def test_average_precision_is_within_its_bound(logits, bins):
    metric = metrics.find("average_precision", bins=bins)
    n, p = curves(metric, LOGITS[logits], TRUE)
    above_n, above_p = np.cumsum(n) - n, np.cumsum(p) - p
    filled = p > 0
    n, p, above_n, above_p = n[filled], p[filled], above_n[filled], above_p[filled]
    bound = np.sum(p / p.sum() * ((above_p + p) / (above_p + p + above_n) - above_p / np.maximum(above_p + above_n + n, 1)))
    exact = sk.average_precision_score(TRUE, LOGITS[logits])
    assert abs(metric.value(metric.parts(LOGITS[logits], TRUE)) - exact) <= bound + 1e-12
    assert metric(LOGITS[logits], TRUE) == pytest.approx(exact, rel=1e-12)
    if bins == 1024 and logits != "all in one bin":
        assert metric.value(metric.parts(LOGITS[logits], TRUE)) == pytest.approx(exact, abs=0.01)


def test_several_classes_are_each_against_the_rest():
    labels = RNG.integers(0, 4, 3000)
    outputs = np.eye(5)[labels] * 2 + RNG.normal(size=(3000, 5))  # class 4 has no sample: it does not count
    odds = np.exp(outputs)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    columns = range(4)
    for score, name, far in ((sk.roc_auc_score, "auc", 1e-4), (sk.average_precision_score, "average_precision", 3e-3)):
        metric, expected = metrics.find(name), np.mean([score(labels == c, probabilities[:, c]) for c in columns])
        assert metric(outputs, labels) == pytest.approx(expected, rel=1e-12)
        assert metric.value(metric.parts(outputs, labels)) == pytest.approx(expected, abs=far)


SCORES = {"auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("steps", [1, 16, 10**6])
@pytest.mark.parametrize("weighted", [False, True])
def test_equal_scores_and_weights_count_as_in_scikit_learn(name, steps, weighted):
    logits = np.round(steps * (2 * TRUE + RNG.normal(size=3000))) / steps
    weights = RNG.choice([0.0, 0.25, 1.0, 3.0], 3000) if weighted else None
    expected = SCORES[name](TRUE, logits, sample_weight=weights)
    assert metrics.find(name)(logits, TRUE, weights) == pytest.approx(expected, rel=1e-12)
    labels, pairs = TRUE.astype(int), np.stack([-logits, logits], axis=1)
    assert metrics.find(name)(pairs, labels, weights) == pytest.approx(expected, rel=1e-12)


def test_of_several_labels_each_counts():
    labels, outputs = RNG.integers(0, 2, (300, 3)), RNG.normal(size=(300, 3))
    for name, score in SCORES.items():
        assert metrics.find(name)(outputs, labels) == pytest.approx(score(labels, outputs, average="macro"), rel=1e-12)


@pytest.mark.filterwarnings("ignore:Only one class:sklearn.exceptions.UndefinedMetricWarning", "ignore:No positive class")
def test_one_class_alone_has_no_area():
    logits, none, every = np.array([0.5, 2.0, -1.0]), np.zeros(3, int), np.ones(3, int)
    assert np.isnan([sk.roc_auc_score(none, logits), metrics.auc(logits, none), metrics.auc(logits, every)]).all()
    assert metrics.average_precision(logits, every) == sk.average_precision_score(every, logits) == 1
    assert sk.average_precision_score(none, logits) == 0  # with a warning
    assert np.isnan(metrics.average_precision(logits, none))


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("shape", [(400,), (400, 1), (400, 2), (400, 5), (80, 5, 3)])
def test_rows_in_pieces_are_the_rows_of_all(name, shape):
    metric, outputs = metrics.find(name), RNG.normal(size=shape).astype("f4")
    targets = RNG.integers(0, 2, shape[:1] if len(shape) < 3 else shape[:2])
    pieces = [metric.rows(outputs[i : i + 90], targets[i : i + 90]) for i in range(0, len(outputs), 90)]
    assert metric.value_of_rows(np.concatenate(pieces)) == metric(outputs, targets)


@pytest.mark.parametrize("name", ["auc", "average_precision"])
@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 3)])
def test_huge_infinite_and_missing_scores_have_a_bin(name, shape):
    metric, outputs = metrics.find(name), np.resize(np.array([np.inf, -np.inf, np.nan, 1e38, -3.0], "f4"), shape)
    targets = np.array([1, 0, 1, 0])
    with np.errstate(invalid="ignore"):
        parts = metric.parts(outputs, targets)
        traced = interpret(dt.trace(metric.parts, outputs, targets), outputs, targets)[0]
    assert parts.sum() == 4 * (3 if shape == (4, 3) else 1)
    assert np.array_equal(traced, parts)


def test_the_extremes_of_the_roc_curve():
    logits = np.array([-3.0, -2.0, 2.0, 3.0])
    assert metrics.auc(logits, np.array([0, 0, 1, 1])) == 1
    assert metrics.auc(logits, np.array([1, 1, 0, 0])) == 0
    assert metrics.auc(np.zeros(4), np.array([1, 0, 1, 0])) == 0.5
    assert np.isnan(metrics.auc(logits, np.ones(4)))


def calibration_by_hand(confidence, hits, weights, bins):
    edges = np.linspace(0, 1, bins + 1)
    error = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if weights[inside].any():
            accuracy = np.average(hits[inside], weights=weights[inside])
            error += weights[inside].sum() * abs(accuracy - np.average(confidence[inside], weights=weights[inside]))
    return error / weights.sum()


@pytest.mark.parametrize("bins", [5, 15])
@pytest.mark.parametrize("form", ["one logit", "two logits", "classes"])
def test_calibration_error_is_that_of_its_definition(form, bins):
    weights = RNG.random(400)
    targets = RNG.integers(0, 5 if form == "classes" else 2, 400)
    outputs = RNG.normal(size=(400, 5)) * 2 if form == "classes" else RNG.normal(size=400) * 2
    if form == "classes":
        probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        confidence, hits = probabilities.max(axis=1), outputs.argmax(axis=1) == targets
    else:
        likely = 1 / (1 + np.exp(-outputs))
        confidence, hits = np.maximum(likely, 1 - likely), (outputs > 0) == targets
        outputs = np.stack([-outputs / 2, outputs / 2], axis=1) if form == "two logits" else outputs
    metric = metrics.find("expected_calibration_error", bins=bins)
    assert metric(outputs, targets, weights) == pytest.approx(calibration_by_hand(confidence, hits, weights, bins), rel=1e-10)
    total = sum(metric.parts(outputs[i : i + 90], targets[i : i + 90], weights[i : i + 90]) for i in range(0, 400, 90))
    assert metric.value(total) == pytest.approx(metric(outputs, targets, weights), rel=1e-12)


def test_a_certain_classifier_that_is_right_is_calibrated():
    assert metrics.expected_calibration_error(1000 * np.eye(3), np.arange(3)) == 0


def test_bins_of_confidence_hold_their_upper_end():
    logits, targets = np.array([0.0, np.log(9)]), np.array([0, 0])  # confident by 0.5 and right, by 0.9 and wrong
    assert metrics.expected_calibration_error(logits, targets, bins=2) == pytest.approx((0.5 + 0.9) / 2)
