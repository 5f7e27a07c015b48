"""Losses: cost functions of a model's outputs and the targets, each a sum over the samples and a weight.

    values (one a sample or position) × weights ──sum──▶ (sum, weight)         parts of shards and batches add up
    mean = sum / weight                                                        the figure that users see

Called as functions, losses give this mean; their ``__wrapped__``, the `Loss.function`, gives the values. Targets are cast to the outputs'
dtype, so a float32 model stays float32.

    targets        what y must be                                              losses
    classes        whole numbers 0 .. classes-1, one axis less than outputs    cross_entropy, categorical_hinge
    binary         0 or 1 (or a probability between)                           binary_cross_entropy, binary_focal_cross_entropy
    signs          -1 or 1                                                     hinge, squared_hinge
    like_outputs   numbers in the shape of the outputs                         mean_squared_error, huber, quantile, and more
    counts         the same from 0 up                                          poisson
    vectors        numbers in the shape of the outputs                         cosine_similarity
    distribution   probabilities along the last axis                           kl_divergence
    pairs          0 or 1, one axis less than outputs                          contrastive
    none           no y                                                        triplet
    any            not checked                                                 ctc, functions of the user
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, not_negative, positive, whole
from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.graph import Tensor, refuse_masked
from dagtrain.nn import hints
from dagtrain.nn.calls import naming
from dagtrain.nn.sums import mean_of, refuse_outer, sum_and_weight
from dagtrain.nn.values import Values
from dagtrain.registry import Registry

__all__ = ["LOSSES", "Loss", "expect_logits", "find", "named"]

LossFunction = Callable[..., Values]
ELEMENTWISE = frozenset({"binary", "counts", "like_outputs", "signs"})
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

    def parts(self, outputs: Values, targets: Values = None, sample_weight: Values | None = None) -> tuple[Values, Values]:
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

    def __call__(self, outputs: Values, targets: Values = None, sample_weight: Values | None = None) -> Values:
        """The mean over the samples."""
        if sample_weight is None:
            return mean_of(self.function(refuse_masked(outputs), refuse_masked(targets)))
        total, weight = self.parts(outputs, targets, sample_weight)
        return total / weight


LOSSES: Registry[Loss] = Registry("loss", hints.LOSSES)


def named(targets: str, link: str = "linear") -> Callable[[LossFunction], LossFunction]:
    """Enter a function of values as a loss; the function of this name gives their mean."""

    def register(function: LossFunction) -> LossFunction:
        @wraps(function)
        def mean(outputs: Values, targets: Values = None, **options: Any) -> Values:
            return mean_of(function(refuse_masked(outputs), refuse_masked(targets), **options))

        LOSSES.add(Loss(function.__name__, function, targets, link))
        function.__qualname__ += ".__wrapped__"  # where pickle finds it
        return mean

    return register


def expect_logits(name: str, outputs: Values, squashing: str) -> None:
    """Warn about outputs of the function that the loss applies itself: such a model learns slowly and ends at a higher loss."""
    if isinstance(outputs, Tensor) and outputs.op == squashing:
        warnings.warn(
            f"{name} takes logits and applies {squashing} itself, but these outputs went through {squashing} already ({outputs.origin}): "
            f"leave it out of the model's last layer, and apply it to predictions where you want probabilities.",
            UserWarning,
            stacklevel=3,
        )


def _check_options(name: str, options: dict[str, Any]) -> None:
    names = [p.name for p in inspect.signature(LOSSES[name].function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option, value in options.items():
        if option not in names:
            raise UnknownNameError.of(f"option of {name}", option, names or ["none"], hints.OPTIONS)
        if option == "label_smoothing":
            fraction(f"{name}: {option}", value, one=True)
        elif option in ("class_weights", "class_factors"):
            weights = np.asarray(value, float)
            if weights.ndim != 1 or not np.all(np.isfinite(weights) & (weights >= 0)):
                raise ArgumentError(f"{name}: {option} must be finite numbers from 0 up, one a class, got {value!r}.")
        elif option == "positive_weight" and np.ndim(value):
            if np.ndim(value) != 1 or not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
                raise ArgumentError(f"{name}: positive_weight must be a finite number above 0, or one for each label, got {value!r}.")
        elif option == "quantile":
            if not 0 < positive(f"{name}: {option}", value) < 1:
                raise ArgumentError(f"{name}: quantile must be a number between 0 and 1, got {value!r}.")
        elif option == "blank":
            whole(f"{name}: {option}", value, 0)
        elif option in ("gamma", "margin"):
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
    for option in options.keys() & {"class_factors", "class_weights", "positive_weight"}:
        if np.ndim(options[option]):
            options[option] = tuple(float(w) for w in options[option])
    return replace(result, function=partial(result.function, **options))
