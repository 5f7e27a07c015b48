"""Losses of class labels and of distributions over classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.nn.activations import log_softmax, relu
from dagtrain.nn.losses.loss import expect_logits, named
from dagtrain.nn.shapes import aligned, labels_for
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["categorical_hinge", "cross_entropy", "focal_cross_entropy", "kl_divergence"]


def _picked(values: Values, labels: Values) -> Values:
    """The value at each label, along the last axis."""
    return np.take_along_axis(values, labels.reshape((*labels.shape, 1)), -1).reshape(labels.shape)


@named("classes", "softmax")
def cross_entropy(
    outputs: Values, targets: Values, *, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> Values:
    """Mean of ``-log(softmax(outputs)[label])``.

    Parameters
    ----------
    outputs
        Logits of shape (..., classes).
    targets
        Labels of shape (...), whole numbers from 0.
    class_weights
        One weight a class: the sum of weighted losses is divided by the sum of the weights, as in PyTorch.
    label_smoothing
        The probability spread evenly over all classes, in [0, 1] (Szegedy et al., arXiv:1512.00567, section 7).

    Examples
    --------
    >>> logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    >>> round(float(cross_entropy(logits, np.array([0, 1]))), 4)
    0.1269
    """
    labels = labels_for("cross_entropy", outputs, targets)
    expect_logits("cross_entropy", outputs, "softmax")
    scores = log_softmax(outputs)
    picked = _picked(scores, labels)
    if class_weights is None:
        return (label_smoothing - 1) * picked - label_smoothing * np.mean(scores, axis=-1) if label_smoothing else -picked
    own = _by_class("cross_entropy: class_weights", class_weights, outputs, labels)
    weights = np.asarray(class_weights, outputs.dtype)
    weighted = -picked * own
    return (1 - label_smoothing) * weighted - label_smoothing * (scores @ (weights / weights.size)) if label_smoothing else weighted, own


@named("classes", "softmax")
def focal_cross_entropy(outputs: Values, targets: Values, *, gamma: float = 2.0, class_factors: Sequence[float] | None = None) -> Values:
    """Mean of ``(1 - p)**gamma * -log(p)``, where ``p = softmax(outputs)[label]``: confident samples count little.

    Source: Lin et al., "Focal loss for dense object detection", arXiv:1708.02002, equation 5, for several classes.

    Parameters
    ----------
    outputs
        Logits of shape (..., classes).
    targets
        Labels of shape (...), whole numbers from 0.
    gamma
        Focusing parameter; 0 gives cross-entropy.
    class_factors
        One factor a class, the alpha of the source. They change the sum, not the weight.

    Examples
    --------
    >>> logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    >>> round(float(focal_cross_entropy(logits, np.array([0, 1]))), 4)
    0.0018
    """
    labels = labels_for("focal_cross_entropy", outputs, targets)
    expect_logits("focal_cross_entropy", outputs, "softmax")
    scores = log_softmax(outputs)
    right = labels.reshape((*labels.shape, 1)) == np.arange(outputs.shape[-1])
    # The logarithm of 1 - p as that of the other classes' sum: it keeps its digits, and has a derivative, also where p rounds to 1.
    others = apply_op(find_op("logsumexp"), np.where(right, -np.inf, scores), axis=(outputs.ndim - 1,), keepdims=False)
    values = np.exp(gamma * others) * -_picked(scores, labels)
    return values if class_factors is None else values * _by_class("focal_cross_entropy: class_factors", class_factors, outputs, labels)


def _by_class(name: str, numbers: Sequence[float], outputs: Values, labels: Values) -> Values:
    """The number of each label's class."""
    array = np.asarray(numbers, outputs.dtype)
    if array.shape != outputs.shape[-1:]:
        raise ArgumentError(f"{name} must be one number for each of the {outputs.shape[-1]} classes, got shape {array.shape}.")
    return apply_op(find_op("gather"), array, labels)


@named("classes")
def categorical_hinge(outputs: Values, targets: Values) -> Values:
    """Mean of ``max(0, 1 + highest score of a wrong class - score of the right class)``.

    Source: Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR 2 (2001).

    Examples
    --------
    >>> float(categorical_hinge(np.array([[3.0, 1.0, 0.0], [1.0, 1.5, 0.0]]), np.array([0, 0])))
    0.75
    """
    labels = labels_for("categorical_hinge", outputs, targets)
    right = labels.reshape((*labels.shape, 1)) == np.arange(outputs.shape[-1])
    wrong = np.max(np.where(right, -np.inf, outputs), axis=-1)
    return relu(1 + wrong - _picked(outputs, labels))


@named("distribution", "softmax")
def kl_divergence(outputs: Values, targets: Values) -> Values:
    """Mean over samples of ``sum(target * (log(target) - log(softmax(outputs))))``; a target of 0 adds 0.

    Parameters
    ----------
    outputs
        Logits of shape (..., classes).
    targets
        Probabilities of the same shape.

    Examples
    --------
    >>> abs(float(kl_divergence(np.log([[0.2, 0.8]]), np.array([[0.2, 0.8]])))) < 1e-12
    True
    """
    outputs, targets = aligned("kl_divergence", outputs, targets)
    expect_logits("kl_divergence", outputs, "softmax")
    negative_entropy = targets * np.log(np.where(targets > 0, targets, 1))
    return np.sum(negative_entropy - targets * log_softmax(outputs), axis=-1)
