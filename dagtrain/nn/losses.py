"""Losses: cost functions of a model's outputs and the targets, each the mean over the samples.

The loss of a batch is therefore the sum of its shards' losses, each weighted by the shard's fraction of the samples.
Targets are cast to the outputs' dtype, so a float32 model stays float32.

    targets        what y must be                                              losses
    classes        whole numbers 0 .. classes-1, one axis less than outputs    cross_entropy, categorical_hinge
    binary         0 or 1 (or a probability between)                           binary_cross_entropy
    signs          -1 or 1                                                     hinge
    like_outputs   numbers in the shape of the outputs                         mean_squared_error, mean_absolute_error, huber
    distribution   probabilities along the last axis                           kl_divergence
    any            not checked                                                 functions of the user
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, one_of, positive
from dagtrain.errors import ArgumentError, DTypeError, ShapeError
from dagtrain.graph import Tensor
from dagtrain.nn import hints
from dagtrain.nn.activations import log_softmax, relu, softplus
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op
from dagtrain.registry import Registry

__all__ = [
    "LOSSES",
    "Loss",
    "binary_cross_entropy",
    "categorical_hinge",
    "cross_entropy",
    "find",
    "hinge",
    "huber",
    "kl_divergence",
    "mean_absolute_error",
    "mean_squared_error",
]

LossFunction = Callable[..., Values]


@dataclass(frozen=True)
class Loss:
    """A cost function and what its targets must be.

    Attributes
    ----------
    name
        Its name in tables and errors.
    function
        ``function(outputs, targets)`` → one number, the mean over the samples.
    targets
        How y is checked before training; see the table at the top of this file.

    Examples
    --------
    >>> find("cross_entropy").targets
    'classes'
    """

    name: str
    function: LossFunction
    targets: str

    def __call__(self, outputs: Values, targets: Values) -> Values:
        """The mean loss over the samples."""
        return self.function(outputs, targets)


LOSSES: Registry[Loss] = Registry("loss", hints.LOSSES)


def _named(targets: str) -> Callable[[LossFunction], LossFunction]:
    def register(function: LossFunction) -> LossFunction:
        LOSSES.add(Loss(function.__name__, function, targets))
        return function

    return register


def labels_for(name: str, outputs: Values, labels: Values) -> Values:
    """Check labels against logits: whole numbers, one axis less."""
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise ShapeError(
            f"{name} needs outputs of shape (samples, classes) with two classes or more, got {outputs.shape}. "
            "With one output a sample, use binary_cross_entropy or binary_accuracy."
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(
            f"{name} needs labels that are whole numbers (one class number a sample), got {labels.dtype}. Cast with y.astype(np.int64)."
        )
    if labels.shape != outputs.shape[:-1]:
        hint = " One-hot labels? Take np.argmax(y, -1)." if labels.shape == outputs.shape else ""
        raise ShapeError(f"{name}: outputs of shape {outputs.shape} need labels of shape {outputs.shape[:-1]}, got {labels.shape}.{hint}")
    return labels


def aligned(name: str, outputs: Values, targets: Values) -> tuple[Values, Values]:
    """Outputs and targets in one shape (``(n, 1)`` and ``(n,)`` count as the same) and in the outputs' dtype."""
    if outputs.dtype.kind != "f":
        raise DTypeError(f"{name} needs outputs that are floats, got {outputs.dtype}.")
    if outputs.shape != targets.shape:
        if outputs.shape == (*targets.shape, 1):
            outputs = outputs.reshape(targets.shape)
        elif targets.shape == (*outputs.shape, 1):
            targets = targets.reshape(outputs.shape)
        else:
            # NumPy would broadcast many such pairs, (n, 1) against (n,) to (n, n), and the loss would mean nothing.
            raise ShapeError(f"{name}: outputs of shape {outputs.shape} need targets of the same shape, got {targets.shape}.")
    return outputs, targets if targets.dtype == outputs.dtype else targets.astype(outputs.dtype)


def _expect_logits(name: str, outputs: Values, squashing: str) -> None:
    """Warn about outputs of the function that the loss applies itself: such a model learns slowly and ends at a higher loss."""
    if isinstance(outputs, Tensor) and outputs.op == squashing:
        warnings.warn(
            f"{name} takes logits and applies {squashing} itself, but these outputs went through {squashing} already ({outputs.origin}): "
            f"leave it out of the model's last layer, and apply it to predictions where you want probabilities.",
            UserWarning,
            stacklevel=3,
        )


def _picked(values: Values, labels: Values) -> Values:
    """The value at each label, along the last axis."""
    return np.take_along_axis(values, labels.reshape((*labels.shape, 1)), -1).reshape(labels.shape)


@_named("classes")
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
        One weight a class. The result is the mean over samples of weight times loss, not divided by the sum of the weights, so that
        shards add up.
    label_smoothing
        The probability spread evenly over all classes, in [0, 1] (Szegedy et al., arXiv:1512.00567, section 7).

    Examples
    --------
    >>> logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    >>> round(float(cross_entropy(logits, np.array([0, 1]))), 4)
    0.1269
    """
    labels = labels_for("cross_entropy", outputs, targets)
    _expect_logits("cross_entropy", outputs, "softmax")
    scores = log_softmax(outputs)
    if class_weights is None:
        if not label_smoothing:
            # The axis of length 1 stays: one reshape less in the backward pass.
            return -np.mean(np.take_along_axis(scores, labels.reshape((*labels.shape, 1)), -1))
        return (label_smoothing - 1) * np.mean(_picked(scores, labels)) - label_smoothing * np.mean(scores)
    weights = np.asarray(class_weights, outputs.dtype)
    if weights.shape != outputs.shape[-1:]:
        raise ArgumentError(
            f"cross_entropy: class_weights must be one number for each of the {outputs.shape[-1]} classes, got shape {weights.shape}."
        )
    loss = -np.mean(_picked(scores, labels) * apply_op(find_op("gather"), weights, labels))
    if not label_smoothing:
        return loss
    return (1 - label_smoothing) * loss - label_smoothing * np.mean(scores @ (weights / weights.size))


@_named("binary")
def binary_cross_entropy(outputs: Values, targets: Values, *, positive_weight: float = 1.0) -> Values:
    """Mean of ``-log(sigmoid(outputs))`` where the target is 1 and ``-log(1 - sigmoid(outputs))`` where it is 0, without overflow.

    Parameters
    ----------
    outputs
        Logits.
    targets
        0 or 1, or probabilities, in the outputs' shape.
    positive_weight
        Weight of the loss of positive targets, for rare positives.

    Examples
    --------
    >>> round(float(binary_cross_entropy(np.array([0.0, 1000.0]), np.array([1, 1]))), 4)
    0.3466
    """
    outputs, targets = aligned("binary_cross_entropy", outputs, targets)
    _expect_logits("binary_cross_entropy", outputs, "sigmoid")
    if positive_weight == 1:
        return np.mean(softplus(outputs) - outputs * targets)
    weight = (positive_weight - 1) * targets + 1
    return np.mean(weight * softplus(outputs) - positive_weight * (outputs * targets))


@_named("like_outputs")
def mean_squared_error(outputs: Values, targets: Values) -> Values:
    """Mean of squared differences over all elements.

    Examples
    --------
    >>> float(mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    outputs, targets = aligned("mean_squared_error", outputs, targets)
    return np.mean(np.square(outputs - targets))


@_named("like_outputs")
def mean_absolute_error(outputs: Values, targets: Values) -> Values:
    """Mean of absolute differences over all elements; derivative 0 where they are equal."""
    outputs, targets = aligned("mean_absolute_error", outputs, targets)
    return np.mean(np.abs(outputs - targets))


@_named("like_outputs")
def huber(outputs: Values, targets: Values, *, delta: float = 1.0) -> Values:
    """Mean of ``d**2 / 2`` for differences up to `delta` and ``delta * (|d| - delta / 2)`` beyond.

    Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Examples
    --------
    >>> float(huber(np.array([0.5, 3.0]), np.array([0.0, 0.0])))
    1.3125
    """
    outputs, targets = aligned("huber", outputs, targets)
    difference = outputs - targets
    inner = np.clip(difference, -delta, delta)
    return np.mean(inner * (difference - 0.5 * inner))


@_named("signs")
def hinge(outputs: Values, targets: Values) -> Values:
    """Mean of ``max(0, 1 - target * output)`` for targets -1 and 1; derivative 0 at the kink.

    Examples
    --------
    >>> float(hinge(np.array([2.0, 0.5]), np.array([1, -1])))
    0.75
    """
    outputs, targets = aligned("hinge", outputs, targets)
    return np.mean(relu(1 - targets * outputs))


@_named("classes")
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
    return np.mean(relu(1 + wrong - _picked(outputs, labels)))


@_named("distribution")
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
    _expect_logits("kl_divergence", outputs, "softmax")
    negative_entropy = targets * np.log(np.where(targets > 0, targets, 1))
    return np.mean(np.sum(negative_entropy - targets * log_softmax(outputs), axis=-1))


def _check_options(name: str, options: dict[str, Any]) -> None:
    names = [p.name for p in inspect.signature(LOSSES[name].function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option, value in options.items():
        one_of(f"option of {name}", option, names)
        if option == "label_smoothing":
            fraction(f"{name}: {option}", value, one=True)
        elif option == "class_weights":
            weights = np.asarray(value, float)
            if weights.ndim != 1 or not np.all(np.isfinite(weights) & (weights >= 0)):
                raise ArgumentError(f"{name}: class_weights must be finite numbers from 0 up, one a class, got {value!r}.")
        else:
            positive(f"{name}: {option}", value)


def find(loss: str | Loss | LossFunction, **options: Any) -> Loss:
    """The loss of this name, with options; a `Loss` or a function ``(outputs, targets) -> number`` needs no name.

    Raises
    ------
    UnknownNameError
        If there is no loss of this name, or it has no such option.
    ArgumentError
        If an option's value is not allowed.

    Examples
    --------
    >>> find("cross_entropy", label_smoothing=0.1).name
    'cross_entropy'
    """
    if isinstance(loss, str):
        result = LOSSES.find(loss)
    elif isinstance(loss, Loss):
        result = loss
    elif callable(loss):
        name, entry = LOSSES.entry_of(loss)
        result = Loss(name, loss, "any" if entry is None else entry.targets)
    else:
        raise ArgumentError(f"a loss is a name, a Loss, or a function (outputs, targets) -> number, got {loss!r}.")
    options = {k: v for k, v in options.items() if v is not None}
    if not options:
        return result
    if result.name not in LOSSES:
        raise ArgumentError(f"options {sorted(options)} are for dagtrain's own losses, not for {result.name!r}: use functools.partial.")
    _check_options(result.name, options)
    if "class_weights" in options:
        options["class_weights"] = tuple(float(w) for w in options["class_weights"])
    return replace(result, function=partial(result.function, **options))
