"""Losses of two classes, with one logit or score for each sample, position or label (of several: multi-label)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.nn.activations import relu, softplus
from dagtrain.nn.losses.loss import expect_logits, named
from dagtrain.nn.shapes import aligned
from dagtrain.nn.values import Values

__all__ = ["binary_cross_entropy", "binary_focal_cross_entropy", "hinge", "squared_hinge"]


@named("binary", "sigmoid")
def binary_cross_entropy(
    outputs: Values,
    targets: Values,
    *,
    positive_weight: float | Sequence[float] = 1.0,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Values:
    """Mean of ``-log(sigmoid(outputs))`` where the target is 1 and ``-log(1 - sigmoid(outputs))`` where it is 0, without overflow.

    Outputs and targets of shape (samples, labels) are several labels a sample, each for itself.

    Parameters
    ----------
    outputs
        Logits.
    targets
        0 or 1, or probabilities, in the outputs' shape.
    positive_weight
        Weight of the loss of positive targets, for rare positives; or one for each label, along the last axis.
    class_weights
        One weight for each label: the sum of weighted losses is divided by the sum of the weights.
    label_smoothing
        The part of each target that is drawn to 1/2, in [0, 1].

    Examples
    --------
    >>> round(float(binary_cross_entropy(np.array([0.0, 1000.0]), np.array([1, 1]))), 4)
    0.3466
    >>> float(binary_cross_entropy(np.array([[0.0, -1000.0]]), np.array([[1, 1]]), class_weights=[0.0, 2.0]))
    1000.0
    """
    outputs, targets = aligned("binary_cross_entropy", outputs, targets)
    expect_logits("binary_cross_entropy", outputs, "sigmoid")
    if label_smoothing:
        targets = (1 - label_smoothing) * targets + 0.5 * label_smoothing
    positive: Values = _by_label("positive_weight", positive_weight, outputs) if np.ndim(positive_weight) else positive_weight
    if not np.ndim(positive) and positive == 1:
        values = softplus(outputs) - outputs * targets
    else:
        values = ((positive - 1) * targets + 1) * softplus(outputs) - positive * (outputs * targets)
    if class_weights is None:
        return values
    own = np.broadcast_to(_by_label("class_weights", class_weights, outputs), outputs.shape)
    return values * own, own


def _by_label(name: str, weights: float | Sequence[float], outputs: Values) -> Values:
    """A weight for each label, the last axis of the outputs."""
    array = np.asarray(weights, outputs.dtype)
    if array.shape != outputs.shape[-1:] or outputs.ndim < 2:
        raise ArgumentError(f"binary_cross_entropy: {name} has the shape {array.shape}, and the outputs {outputs.shape}: give one a label.")
    return array


@named("binary", "sigmoid")
def binary_focal_cross_entropy(outputs: Values, targets: Values, *, gamma: float = 2.0, alpha: float | None = 0.25) -> Values:
    """Mean of ``alpha * (1 - p)**gamma * -log(p)``, where p is the probability of the target: confident samples count little.

    Source: Lin et al., "Focal loss for dense object detection", arXiv:1708.02002, equation 5.

    Parameters
    ----------
    outputs
        Logits.
    targets
        0 or 1, or probabilities, in the outputs' shape.
    gamma
        Focusing parameter; 0 gives cross-entropy.
    alpha
        Factor of positive targets, in [0, 1]; negative ones have ``1 - alpha``. None: no factors. They change the sum, not the weight.

    Examples
    --------
    >>> round(float(binary_focal_cross_entropy(np.array([0.0, 4.0]), np.array([1, 1]))), 4)
    0.0217
    """
    outputs, targets = aligned("binary_focal_cross_entropy", outputs, targets)
    expect_logits("binary_focal_cross_entropy", outputs, "sigmoid")
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    # Powers of a probability by its logarithm, which has a derivative also where the probability is 0 in floating point.
    miss, false = softplus(-outputs), softplus(outputs)
    return positive * targets * np.exp(-gamma * false) * miss + negative * (1 - targets) * np.exp(-gamma * miss) * false


@named("signs")
def hinge(outputs: Values, targets: Values) -> Values:
    """Mean of ``max(0, 1 - target * output)`` for targets -1 and 1; derivative 0 at the kink.

    Examples
    --------
    >>> float(hinge(np.array([2.0, 0.5]), np.array([1, -1])))
    0.75
    """
    outputs, targets = aligned("hinge", outputs, targets)
    return relu(1 - targets * outputs)


@named("signs")
def squared_hinge(outputs: Values, targets: Values) -> Values:
    """Mean of ``max(0, 1 - target * output)**2`` for targets -1 and 1.

    Examples
    --------
    >>> float(squared_hinge(np.array([2.0, 0.5]), np.array([1, -1])))
    1.125
    """
    outputs, targets = aligned("squared_hinge", outputs, targets)
    return np.square(relu(1 - targets * outputs))
