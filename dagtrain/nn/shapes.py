"""Shapes and dtypes of outputs, targets and sample weights that losses and metrics take."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, DTypeError, ShapeError
from dagtrain.graph import Tensor, spec_of
from dagtrain.nn.values import Values
from dagtrain.trace.tree import leaves

__all__ = ["aligned", "check_samples", "fitted_weights", "has_one_logit", "labels_for", "spread_weights", "wide"]


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


def has_one_logit(outputs: Values) -> bool:
    """Whether there is one output a sample or position: a binary classifier with one logit."""
    return bool(outputs.ndim == 1 or outputs.shape[-1] == 1)


def wide(values: Values) -> Values:
    """Values in a dtype that holds their sum."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def fitted_weights(weights: Values, shape: tuple[int, ...]) -> Values:
    """Sample weights for values of this shape: one a sample, or one for each position."""
    if weights.shape == (*shape, 1):
        return wide(weights.reshape(shape))
    if not weights.ndim or weights.shape != shape[: weights.ndim]:
        positions = f" or positions, {shape}" if len(shape) > 1 else ""
        raise ShapeError(f"sample_weight must have the shape of the samples, {shape[:1]}{positions}, got {weights.shape}.")
    return wide(weights)


def spread_weights(weights: Values | None, shape: tuple[int, ...]) -> Values:
    """A weight in float64 for each of the values of this shape; 1 without sample weights."""
    if weights is None:
        return np.ones(shape)
    weights = fitted_weights(weights, shape).astype(np.float64)
    return np.broadcast_to(weights.reshape((*weights.shape, *(1,) * (len(shape) - weights.ndim))), shape)


def check_samples(kind: str, inputs: tuple[Any, ...], outputs: Any) -> None:
    """Raise ShapeError unless a layer's outputs have the samples of its inputs on their first axis."""
    rows = {np.shape(x)[0] for x in leaves(inputs) if np.ndim(x)}
    for output in leaves(outputs):
        if not hasattr(output, "dtype"):
            raise ArgumentError(f"{kind}.forward returned {output!r}: it must return arrays, or a tuple or dict of them.")
        if len(rows) == 1 and np.shape(output)[:1] != (*rows,):
            made = output if isinstance(output, Tensor) else spec_of(output)
            raise ShapeError(f"{kind} made {made} of {', '.join(map(str, leaves(inputs)))}: a layer keeps the samples on the first axis.")
