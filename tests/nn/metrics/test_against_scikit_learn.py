"""Metrics against scikit-learn on the same numbers: whole, and as sums of the parts of unequal shards, empty and masked ones among them."""

from itertools import product

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.graph import Spec
from dagtrain.nn import metrics
from dagtrain.plan.interpret import interpret

from ...each import each
from ...peers import scikit_learn as sk

ROWS = 61
RNG = np.random.default_rng(8)
WEIGHTS = RNG.choice([0.0, 0.5, 1.0, 3.0], ROWS)
WEIGHTS[20:30] = 0  # with five and with eight parts, one is masked altogether
PARTS = {
    1: [ROWS],
    2: [7, 54],
    3: [20, 0, 41],
    5: [13, 7, 10, 1, 30],
    8: [1, 2, 0, 17, 10, 11, 19, 1],
}


def rounded(logits):
    """Scores that are equal for some samples, with the middle of a bin."""
    return np.round(logits, 1)


TRUE = RNG.integers(0, 2, ROWS)
ONE_LOGIT = rounded(TRUE + RNG.normal(scale=1.5, size=ROWS) - 0.5)
TWO_LOGITS = np.stack([-ONE_LOGIT / 2, ONE_LOGIT / 2], axis=1)
LABELS = RNG.choice([0, 1, 2, 4], ROWS)  # class 3 has no sample, and nobody predicts class 5
LOGITS = np.eye(6)[LABELS] * 2 + RNG.normal(size=(ROWS, 6))
LOGITS[:, 5] = -9
LABELED = RNG.integers(0, 2, (ROWS, 3))
LABEL_LOGITS = LABELED + RNG.normal(size=(ROWS, 3)) - 0.5
REALS = RNG.normal(3.0, 2.0, (ROWS, 2))
CLOSE = REALS + RNG.normal(scale=0.7, size=(ROWS, 2))

FORMS = {
    "one logit": (ONE_LOGIT, TRUE, lambda o: (o > 0).astype(int)),
    "one column": (ONE_LOGIT[:, None], TRUE, lambda o: (o[:, 0] > 0).astype(int)),
    "signs": (ONE_LOGIT, 2 * TRUE - 1, lambda o: np.where(o > 0, 1, -1)),
    "two logits": (TWO_LOGITS, TRUE, lambda o: o.argmax(1)),
    "classes": (LOGITS, LABELS, lambda o: o.argmax(1)),
    "labels": (LABEL_LOGITS, LABELED, lambda o: (o > 0).astype(int)),
}


def decisions(form, name, reference, **options):
    """A case whose reference takes predictions."""
    outputs, targets, decide = FORMS[form]
    return name, options, outputs, targets, lambda y, o, w: reference(y, decide(o), sample_weight=w)


def last_less_first(o):
    return o[:, -1] - o[:, 0]


def scores(name, outputs, targets, reference, score=lambda o: o):
    return name, {}, outputs, targets, lambda y, o, w: reference(y, score(o), sample_weight=w)


def rates(form, average, **more):
    known = {"zero_division": 0, **({} if average == "auto" else {"average": average}), **more}
    options = {} if average == "auto" else {"average": average}
    if more:
        options |= more
    if average == "auto" and form in ("classes", "labels"):
        known["average"] = "macro"

    def score(function):
        return lambda y, p, sample_weight: function(y, p, sample_weight=sample_weight, **known)

    pairs = [("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)]
    return [decisions(form, name, score(function), **options) for name, function in pairs]


def softmax(o):
    return np.exp(o - o.max(1, keepdims=True)) / np.exp(o - o.max(1, keepdims=True)).sum(1, keepdims=True)


CASES = {
    **{
        f"{name}-{form}-{average}{more}": (name, *rest)
        for form, average, more in [
            *((form, "auto", {}) for form in FORMS),
            *((form, average, {}) for form in FORMS if form != "signs" for average in ("micro", "macro", "weighted")),
            ("one logit", "binary", {}),
            ("two logits", "binary", {}),
            ("one logit", None, {}),
            ("labels", None, {}),
            ("labels", "macro", {"zero_division": 1.0}),
        ]
        for name, *rest in rates(form, average, **more)
    },
    **{f"accuracy-{form}": decisions(form, "accuracy", sk.accuracy_score) for form in FORMS if form != "labels"},
    **{f"balanced-{form}": decisions(form, "balanced_accuracy", sk.balanced_accuracy_score) for form in FORMS if form != "labels"},
    **{f"confusion-{form}": decisions(form, "confusion_matrix", sk.confusion_matrix) for form in ("one logit", "two logits")},
    "confusion-classes": decisions(
        "classes",
        "confusion_matrix",
        lambda y, p, sample_weight: sk.confusion_matrix(y, p, sample_weight=sample_weight, labels=range(6)),
    ),
    "top-2": (
        "top_k_accuracy",
        {"k": 2},
        LOGITS,
        LABELS,
        lambda y, o, w: sk.top_k_accuracy_score(y, o, k=2, sample_weight=w, labels=range(6)),
    ),
    "perplexity": (
        "perplexity",
        {},
        LOGITS,
        LABELS,
        lambda y, o, w: np.exp(sk.log_loss(y, softmax(o), sample_weight=w, labels=range(6))),
    ),
    **{
        f"{name}-{which}": (name, {}, outputs, targets, lambda y, o, w, f=function: f(y, o, sample_weight=w))
        for name, function in [
            ("r2", sk.r2_score),
            ("mean_absolute_percentage_error", sk.mean_absolute_percentage_error),
            ("mean_squared_error", sk.mean_squared_error),
            ("mean_absolute_error", sk.mean_absolute_error),
        ]
        for which, outputs, targets in [("two columns", CLOSE, REALS), ("one", CLOSE[:, 0], REALS[:, 0])]
    },
    "rmse": (
        "root_mean_squared_error",
        {},
        CLOSE[:, 0],
        REALS[:, 0],
        lambda y, o, w: sk.root_mean_squared_error(y, o, sample_weight=w),
    ),
    # Scores rounded to tenths lie in bins of their own, so the binned curves are exact.
    "auc-one logit": scores("auc", ONE_LOGIT, TRUE, sk.roc_auc_score),
    "auc-two logits": scores("auc", TWO_LOGITS, TRUE, sk.roc_auc_score, last_less_first),
    "auc-labels": scores("auc", rounded(LABEL_LOGITS), LABELED, sk.roc_auc_score),
    "average precision-one logit": scores("average_precision", ONE_LOGIT[:, None], TRUE, sk.average_precision_score, lambda o: o[:, 0]),
    "average precision-two logits": scores("average_precision", TWO_LOGITS, TRUE, sk.average_precision_score, lambda o: o[:, 1] - o[:, 0]),
    "average precision-labels": scores("average_precision", rounded(LABEL_LOGITS), LABELED, sk.average_precision_score),
}


@pytest.mark.slow
@each(product(CASES, (False, True)))
def test_the_value_is_that_of_scikit_learn_for_any_number_of_parts(case, weighted):
    name, options, outputs, targets, reference = CASES[case]
    metric, weights = metrics.find(name, **options), WEIGHTS if weighted else None
    expected = reference(targets, outputs, weights)
    for sizes in PARTS.values():
        total, start = 0.0, 0
        for size in sizes:
            rows = slice(start, start + size)
            parts = metric.parts(outputs[rows], targets[rows], None if weights is None else weights[rows])
            assert parts.dtype == np.float64
            assert parts.shape == (metric.size(Spec(outputs.shape, outputs.dtype)),)
            total, start = total + parts, start + size
        assert start == ROWS
        np.testing.assert_allclose(metric.value(total), expected, rtol=1e-10)


@each(CASES)
def test_tensors_give_the_parts_of_arrays(case):
    name, options, outputs, targets, _ = CASES[case]
    metric = metrics.find(name, **options)
    outputs = outputs.astype("f4")
    graph = dt.trace(metric.parts, outputs, targets, WEIGHTS.astype("f4"))
    np.testing.assert_allclose(
        interpret(graph, outputs, targets, WEIGHTS.astype("f4"))[0], metric.parts(outputs, targets, WEIGHTS.astype("f4")), rtol=1e-6
    )


def test_masked_rows_are_as_absent():
    """Whatever they hold: also classes that occur nowhere else."""
    kept = WEIGHTS > 0
    mask = kept.copy()
    labels = np.where(kept, LABELS, 3)
    for name in ("precision", "recall", "f1", "balanced_accuracy", "accuracy", "auc", "average_precision", "expected_calibration_error"):
        metric = metrics.find(name)
        assert metric(LOGITS, labels, mask) == pytest.approx(metric(LOGITS[kept], labels[kept]), rel=1e-12)


@each(name for name in metrics.METRICS if name not in ("confusion_matrix",))
def test_without_weight_a_value_is_not_a_number(name):
    assert np.isnan(metrics.find(name).value(np.zeros(metrics.find(name).size(Spec((5, 3), np.dtype("f4"))))))
