"""Losses: cost functions of a model's outputs and the targets, each a sum over the samples and a weight.

    values (one a sample or position) × weights ──sum──▶ (sum, weight)         parts of shards and batches add up
    mean = sum / weight                                                        the figure that users see

Called as functions, losses give this mean; their ``__wrapped__``, the `Loss.function`, gives the values. Targets are cast to the outputs'
dtype, so a float32 model stays float32.

    targets        what y must be                                              losses
    classes        whole numbers 0 .. classes-1, one axis less than outputs    cross_entropy, categorical_hinge
    binary         0 or 1 (or a probability between)                           binary_cross_entropy, binary_focal_cross_entropy
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
from functools import partial, wraps
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, not_negative, one_of, positive
from dagtrain.errors import ArgumentError
from dagtrain.graph import Tensor, refuse_masked
from dagtrain.nn import hints
from dagtrain.nn.activations import log_softmax, relu, softplus
from dagtrain.nn.calls import naming
from dagtrain.nn.shapes import aligned, labels_for
from dagtrain.nn.sums import mean_of, refuse_outer, sum_and_weight
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op
from dagtrain.registry import Registry

__all__ = [
    "LOSSES",
    "Loss",
    "binary_cross_entropy",
    "binary_focal_cross_entropy",
    "categorical_hinge",
    "cross_entropy",
    "find",
    "hinge",
    "huber",
    "kl_divergence",
    "mean_absolute_error",
    "mean_squared_error",
    "refuse_outer",
    "sum_and_weight",
]

LossFunction = Callable[..., Values]
ELEMENTWISE = frozenset({"binary", "signs", "like_outputs"})
"""Kinds of targets of losses with a value for each element of the outputs."""


@dataclass(frozen=True)
class Loss:
    """A cost function and what its targets must be.

    Attributes
    ----------
    name
        Its name in tables and errors.
    function
        ``function(outputs, targets)`` → one value a sample, position or element; or what else `sum_and_weight` takes.
    targets
        How y is checked before training; see the table at the top of this file.
    link
        The activation that turns outputs into predictions: "softmax" and "sigmoid" turn logits into probabilities.

    Examples
    --------
    >>> find("cross_entropy").targets
    'classes'
    >>> loss, outputs = find("mean_squared_error"), np.array([[1.0], [2.0], [5.0]])
    >>> total, weight = loss.parts(outputs, np.array([1.0, 4.0, 4.0]), sample_weight=np.array([1.0, 2.0, 0.0]))
    >>> float(total), float(weight)
    (8.0, 3.0)
    """

    name: str
    function: LossFunction
    targets: str
    link: str = "linear"

    def parts(self, outputs: Values, targets: Values, sample_weight: Values | None = None) -> tuple[Values, Values]:
        """Sum and weight, which add up over shards and batches; their quotient is the mean.

        Parameters
        ----------
        outputs, targets
            As the loss takes them; the first axis counts samples.
        sample_weight
            A weight for each sample, or for each position. The elements behind its axes are averaged by elementwise losses, whose weight
            is that of the samples; positions of class labels all count.

        Returns
        -------
        tuple
            ``Σ w·value`` and ``Σ w``. Without any weights the second is the number of values, not a tensor.
        """
        with naming(f"the loss {self.name!r}"):
            result = self.function(refuse_masked(outputs), refuse_masked(targets))
            if self.targets == "any":
                refuse_outer(result, outputs.shape[0], (outputs, targets))
            total, weight, _ = sum_and_weight(result, outputs.shape[0], sample_weight, average=self.targets in ELEMENTWISE)
            return total, weight

    def __call__(self, outputs: Values, targets: Values, sample_weight: Values | None = None) -> Values:
        """The mean over the samples."""
        if sample_weight is None:
            return mean_of(self.function(refuse_masked(outputs), refuse_masked(targets)))
        total, weight = self.parts(outputs, targets, sample_weight)
        return total / weight


LOSSES: Registry[Loss] = Registry("loss", hints.LOSSES)


def _named(targets: str, link: str = "linear") -> Callable[[LossFunction], LossFunction]:
    """Enter a function of values as a loss; the function of this name gives their mean."""

    def register(function: LossFunction) -> LossFunction:
        @wraps(function)
        def mean(outputs: Values, targets: Values, **options: Any) -> Values:
            return mean_of(function(refuse_masked(outputs), refuse_masked(targets), **options))

        LOSSES.add(Loss(function.__name__, function, targets, link))
        function.__qualname__ += ".__wrapped__"  # where pickle finds it
        return mean

    return register


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


@_named("classes", "softmax")
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
    _expect_logits("cross_entropy", outputs, "softmax")
    scores = log_softmax(outputs)
    picked = _picked(scores, labels)
    if class_weights is None:
        return (label_smoothing - 1) * picked - label_smoothing * np.mean(scores, axis=-1) if label_smoothing else -picked
    weights = np.asarray(class_weights, outputs.dtype)
    if weights.shape != outputs.shape[-1:]:
        raise ArgumentError(
            f"cross_entropy: class_weights must be one number for each of the {outputs.shape[-1]} classes, got shape {weights.shape}."
        )
    own = apply_op(find_op("gather"), weights, labels)
    weighted = -picked * own
    return (1 - label_smoothing) * weighted - label_smoothing * (scores @ (weights / weights.size)) if label_smoothing else weighted, own


@_named("binary", "sigmoid")
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
        return softplus(outputs) - outputs * targets
    weight = (positive_weight - 1) * targets + 1
    return weight * softplus(outputs) - positive_weight * (outputs * targets)


@_named("binary", "sigmoid")
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
    _expect_logits("binary_focal_cross_entropy", outputs, "sigmoid")
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    # Powers of a probability by its logarithm, which has a derivative also where the probability is 0 in floating point.
    miss, false = softplus(-outputs), softplus(outputs)
    return positive * targets * np.exp(-gamma * false) * miss + negative * (1 - targets) * np.exp(-gamma * miss) * false


@_named("like_outputs")
def mean_squared_error(outputs: Values, targets: Values) -> Values:
    """Mean of squared differences over all elements.

    Examples
    --------
    >>> float(mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    outputs, targets = aligned("mean_squared_error", outputs, targets)
    return np.square(outputs - targets)


@_named("like_outputs")
def mean_absolute_error(outputs: Values, targets: Values) -> Values:
    """Mean of absolute differences over all elements; derivative 0 where they are equal."""
    outputs, targets = aligned("mean_absolute_error", outputs, targets)
    return np.abs(outputs - targets)


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
    return inner * (difference - 0.5 * inner)


@_named("signs")
def hinge(outputs: Values, targets: Values) -> Values:
    """Mean of ``max(0, 1 - target * output)`` for targets -1 and 1; derivative 0 at the kink.

    Examples
    --------
    >>> float(hinge(np.array([2.0, 0.5]), np.array([1, -1])))
    0.75
    """
    outputs, targets = aligned("hinge", outputs, targets)
    return relu(1 - targets * outputs)


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
    return relu(1 + wrong - _picked(outputs, labels))


@_named("distribution", "softmax")
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
    return np.sum(negative_entropy - targets * log_softmax(outputs), axis=-1)


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
        elif option == "gamma":
            not_negative(f"{name}: {option}", value)
        elif option == "alpha":
            fraction(f"{name}: {option}", 0 if value is None else value, one=True)
        else:
            positive(f"{name}: {option}", value)


def find(loss: str | Loss | LossFunction, **options: Any) -> Loss:
    """The loss of this name, with options; a `Loss` or a function ``(outputs, targets)`` needs no name.

    A function returns one value a sample, one number (the mean over the samples), or ``(sum, weight)``; see `sum_and_weight`.

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
        if entry is not None:
            return find(entry, **{**getattr(loss, "keywords", {}), **options})
        result = Loss(name, loss, "any")
    else:
        raise ArgumentError(f"a loss is a name, a Loss, or a function (outputs, targets), got {loss!r}.")
    options = {k: v for k, v in options.items() if v is not None or k == "alpha"}
    if not options:
        return result
    if result.name not in LOSSES:
        raise ArgumentError(f"options {sorted(options)} are for dagtrain's own losses, not for {result.name!r}: use functools.partial.")
    _check_options(result.name, options)
    if "class_weights" in options:
        options["class_weights"] = tuple(float(w) for w in options["class_weights"])
    return replace(result, function=partial(result.function, **options))
